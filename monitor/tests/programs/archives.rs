//! Archives and compressors: what goes in comes out again, and in between are the same bytes as natively.

use endo_testing::{Guest, Outcome, data};

const SIZE: usize = 50 << 20;

/// Compresses 50 MB and expands them again.
fn round_trip(program: &str, options: &[&str], suffix: &str) {
    let input = data::mixed(SIZE, 21);
    let guest =
        Guest::new(program).arguments(options).argument("f").file("f", input.clone()).limit_seconds(120);
    let outcome = guest.same_and_succeeds();
    let name = format!("f{suffix}");
    let packed = &outcome.files[&name].1;
    assert!(packed.len() < SIZE * 3 / 4, "{} bytes", packed.len());
    let guest = Guest::new(program)
        .arguments(options)
        .arguments(["-d", &name])
        .file(&name, packed.clone())
        .limit_seconds(120);
    assert!(guest.same_and_succeeds().files["f"].1 == input, "{program} did not give back what it got");
}

#[test]
fn gzip_packs_and_unpacks_fifty_megabytes() {
    round_trip("/bin/gzip", &["-n"], ".gz");
}

#[test]
fn xz_packs_and_unpacks_fifty_megabytes() {
    round_trip("/usr/bin/xz", &["-0", "-T1"], ".xz");
}

#[test]
fn bzip2_packs_and_unpacks_fifty_megabytes() {
    round_trip("/bin/bzip2", &[], ".bz2");
}

#[test]
fn zstd_packs_and_unpacks_fifty_megabytes() {
    round_trip("/usr/bin/zstd", &["-q", "--single-thread"], ".zst");
}

#[test]
fn strong_compression_of_less_gives_the_same_bytes() {
    let input = data::mixed(3 << 20, 22);
    for (program, options) in [
        ("/bin/gzip", &["-9c"][..]),
        ("/usr/bin/xz", &["-6ec", "-T1"]),
        ("/usr/bin/zstd", &["-19qc", "--single-thread"]),
    ] {
        let outcome =
            Guest::new(program).arguments(options).stdin(input.clone()).limit_seconds(60).same_and_succeeds();
        assert!(outcome.stdout.len() < input.len());
    }
}

#[test]
fn a_damaged_file_is_refused_alike() {
    let packed =
        Guest::new("/bin/gzip").arguments(["-c"]).stdin(data::text(1 << 20, 23)).same_and_succeeds().stdout;
    let mut damaged = packed;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    Guest::new("/bin/gzip").arguments(["-dc"]).stdin(damaged.clone()).same();
    Guest::new("/usr/bin/xz").arguments(["-dc"]).stdin(damaged).same();
}

/// A tree of small files.
fn tree() -> Guest {
    let mut guest = Guest::new("/bin/tar");
    for index in 0..60 {
        guest =
            guest.file(&format!("tree/d{}/f{index}", index % 7), data::mixed(1 + index * 977, index as u64));
    }
    guest
}

fn packed() -> Outcome {
    tree().arguments(["--sort=name", "--mtime=@1700000000", "-cf", "t.tar", "tree"]).same_and_succeeds()
}

#[test]
fn tar_packs_lists_and_unpacks_a_tree() {
    let archive = packed().files["t.tar"].1.clone();
    assert!(archive.len() > 1 << 20);
    Guest::new("/bin/tar").arguments(["-tvf", "t.tar"]).file("t.tar", archive.clone()).same_and_succeeds();
    let outcome =
        Guest::new("/bin/tar").arguments(["-xf", "t.tar"]).file("t.tar", archive).same_and_succeeds();
    assert_eq!(outcome.files["tree/d3/f59"].1, data::mixed(1 + 59 * 977, 59));
}

#[test]
fn tar_packs_through_gzip() {
    let options = ["--sort=name", "--mtime=@1700000000", "-I", "gzip -n", "-cf", "t.tgz", "tree"];
    let archive = tree().arguments(options).same_and_succeeds().files["t.tgz"].1.clone();
    Guest::new("/bin/tar").arguments(["-xzf", "t.tgz"]).file("t.tgz", archive).same_and_succeeds();
}
