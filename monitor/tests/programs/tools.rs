//! Small tools, and big ones that only read: coreutils and their like, openssl, sqlite3, the compiler.

use endo_testing::{Guest, data};

fn text() -> Vec<u8> {
    data::text(2 << 20, 1)
}

#[test]
fn true_succeeds_and_says_nothing() {
    assert_eq!(Guest::new("/bin/true").same_and_succeeds().stdout, b"");
}

#[test]
fn false_fails() {
    Guest::new("/bin/false").same();
}

#[test]
fn echo_prints_its_arguments() {
    let outcome = Guest::new("/bin/echo").arguments(["hello", "wide  world", ""]).same_and_succeeds();
    assert_eq!(outcome.text(), "hello wide  world \n");
}

#[test]
fn printf_formats_numbers_of_every_kind() {
    let format = "%d %x %o %e %g %a %s %q\\n";
    Guest::new("/usr/bin/printf")
        .arguments([format, "-5", "255", "8", "3.14159", "1e100", "0.1", "text", "a b'c"])
        .same_and_succeeds();
}

#[test]
fn ls_lists_directories_in_full() {
    for directory in ["/usr/lib/x86_64-linux-gnu", "/etc", "/usr/bin"] {
        assert!(Guest::new("/bin/ls").arguments(["-la", directory]).same_and_succeeds().stdout.len() > 1000);
    }
    Guest::new("/bin/ls").arguments(["-laR", "--color=always", "/usr/include/linux"]).same_and_succeeds();
}

#[test]
fn ls_reports_what_is_not_there() {
    Guest::new("/bin/ls").arguments(["-l", "/nonexistent", "/etc/passwd"]).same();
}

#[test]
fn cat_copies_files_and_its_input() {
    let outcome =
        Guest::new("/bin/cat").arguments(["f", "-"]).file("f", text()).stdin("end").same_and_succeeds();
    assert_eq!(outcome.stdout.len(), (2 << 20) + 3);
    Guest::new("/bin/cat").arguments(["-A", "f"]).file("f", data::mixed(300_000, 2)).same_and_succeeds();
}

#[test]
fn grep_searches_a_tree() {
    Guest::new("/bin/grep")
        .arguments(["-rn", "define.*SIG[A-Z]*", "/usr/include/asm-generic"])
        .same_and_succeeds();
    Guest::new("/bin/grep")
        .arguments(["-ciE", "(ka|to)+[0-9]? .*ver(men|pro)$", "f"])
        .file("f", text())
        .same();
    Guest::new("/bin/grep")
        .arguments(["-oP", "\\b(\\w)\\w*\\1\\b", "f"])
        .file("f", data::text(200_000, 3))
        .same();
}

#[test]
fn find_walks_a_tree() {
    let all = ["/usr/include", "-type", "f", "-size", "+8k", "-printf", "%p %s %m\\n"];
    Guest::new("/usr/bin/find").arguments(all).same_and_succeeds();
    Guest::new("/usr/bin/find").arguments(["/etc", "-name", "*.conf", "-newer", "/etc/passwd", "-ls"]).same();
}

#[test]
fn sed_edits_lines_and_files_in_place() {
    let script = "s/\\([a-z]*\\) \\([a-z]*\\)/\\2 \\1/g; /ver/d; y/abc/xyz/; $!N; P; D";
    Guest::new("/bin/sed").argument(script).stdin(text()).same_and_succeeds();
    let outcome =
        Guest::new("/bin/sed").arguments(["-i.old", "s/a/b/", "f"]).file("f", "aa\n").same_and_succeeds();
    assert_eq!(outcome.files["f"].1, b"ba\n");
    assert_eq!(outcome.files["f.old"].1, b"aa\n");
}

const AWK: &str = r#"
    { for (i = 1; i <= NF; i++) count[$i]++; total += NF; if ($1 ~ /^k.*n$/) hits++ }
    function twice(x) { return x * 2 }
    END {
        n = 0
        for (word in count) if (count[word] > 40) n += length(word) * count[word]
        printf "%d %d %d %.6f %s\n", NR, total, n, sqrt(total) + sin(hits) + exp(1), toupper(substr("hello", 2, 3))
        x = "a:b:c"; k = split(x, parts, ":"); gsub(/b/, "[&]", x); print k, x, twice(21), index("abc", "c")
    }"#;

#[test]
fn mawk_counts_words() {
    Guest::new("/usr/bin/mawk").argument(AWK).stdin(text()).same_and_succeeds();
}

#[test]
fn gawk_counts_words() {
    Guest::new("/usr/bin/gawk").argument(AWK).stdin(text()).same_and_succeeds();
}

#[test]
fn sort_sorts_by_text_and_by_number() {
    for options in
        [&["-u"][..], &["-k2,2", "-k1,1r"], &["-n", "--parallel=1"], &["-R", "--random-source=/etc/passwd"]]
    {
        Guest::new("/usr/bin/sort").arguments(options).stdin(text()).same_and_succeeds();
    }
}

#[test]
fn small_tools_of_coreutils_agree() {
    let input = data::text(300_000, 5);
    for (program, arguments) in [
        ("wc", &["-lwcmL"][..]),
        ("tr", &["a-m", "n-z"]),
        ("uniq", &["-c"]),
        ("cut", &["-d ", "-f2,4-"]),
        ("head", &["-n", "100"]),
        ("tail", &["-c", "5000"]),
        ("tac", &[]),
        ("rev", &[]),
        ("nl", &[]),
        ("fold", &["-sw", "30"]),
        ("fmt", &["-w", "60"]),
        ("od", &["-A", "d", "-t", "x1z"]),
        ("base64", &[]),
        ("md5sum", &[]),
        ("sha1sum", &[]),
        ("sha512sum", &[]),
        ("b2sum", &[]),
        ("cksum", &[]),
        ("shuf", &["--random-source=/bin/bash"]),
        ("split", &["-b", "50000"]),
        ("dd", &["bs=7777", "count=20", "iflag=fullblock", "status=none"]),
    ] {
        let outcome =
            Guest::new(format!("/usr/bin/{program}")).arguments(arguments).stdin(input.clone()).same();
        assert_eq!(outcome.status, endo_testing::Status::Exited(0), "{program}");
    }
    for (program, arguments) in [
        ("seq", &["-f", "%08.3f", "1", "0.37", "2000"][..]),
        ("factor", &["18446744073709551557", "600851475143", "1000000007"]),
        ("expr", &["123456789", "*", "1000", "%", "77"]),
        ("stat", &["-c", "%n %a %s %F", "/etc/passwd", "/dev/null"]),
        ("readlink", &["-f", "/usr/bin/python3"]),
        ("numfmt", &["--to=iec", "123456789"]),
        ("date", &["-d", "@1700000000", "+%Y-%m-%dT%H:%M:%S %A %j %U"]),
        ("env", &[]),
        ("pwd", &[]),
        ("id", &[]),
        ("uname", &["-srm"]),
        ("nproc", &[]),
    ] {
        let outcome = Guest::new(format!("/usr/bin/{program}")).arguments(arguments).same();
        assert_eq!(outcome.status, endo_testing::Status::Exited(0), "{program}");
    }
}

#[test]
fn cp_mv_ln_chmod_mkdir_and_rm_change_files_alike() {
    let script = "mkdir -p a/b && cp f a/b/g && ln -s b/g a/link && ln f hard && mv f a/f && chmod 600 a/f && \
                  touch a/empty && rm hard && cp -a a c && rm -r a/b && mkfifo p && install -m 755 c/f d && truncate -s 5 d";
    let outcome = Guest::shell(script).file("f", "contents\n").same_and_succeeds();
    assert_eq!(outcome.files["c/b/g"].1, b"contents\n");
}

#[test]
fn sha256sum_digests_fifty_megabytes() {
    Guest::new("/usr/bin/sha256sum").arguments(["f"]).file("f", data::mixed(50 << 20, 4)).same_and_succeeds();
}

#[test]
fn bc_computes_with_a_thousand_digits() {
    let script = "scale=600; 4*a(1); e(1); sqrt(2); s(1)+c(2); 2^3000 % 1000000007; define f(n) { if (n<2) return n; \
                  return f(n-1)+f(n-2) }; f(16); obase=16; 2^200; ibase=2; 1011\n";
    Guest::new("/usr/bin/bc").arguments(["-l"]).stdin(script).same_and_succeeds();
}

const SQL: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, v REAL, b BLOB);
    BEGIN;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO t SELECT i, 'name' || (i * 7919 % 10007), i * 0.37, zeroblob(i % 9) FROM n;
    COMMIT;
    CREATE INDEX by_name ON t (name);
    SELECT count(*), sum(id), avg(v), min(name), max(name) FROM t;
    SELECT name, count(*) AS c, total(v) FROM t GROUP BY name HAVING c > 9 ORDER BY c DESC, name LIMIT 50;
    UPDATE t SET v = v * 2 WHERE id % 3 = 0;
    DELETE FROM t WHERE name LIKE '%77%';
    SELECT count(*), round(sum(v), 3) FROM t;
    SELECT a.id, b.id FROM t a JOIN t b ON a.name = b.name AND a.id < b.id ORDER BY a.id, b.id LIMIT 200;
    SELECT upper(hex(substr(name, 2, 4))), json_object('id', id, 'v', v) FROM t WHERE id BETWEEN 500 AND 600;
    SELECT id, sum(v) OVER (ORDER BY id ROWS 5 PRECEDING) FROM t LIMIT 300;
    SELECT strftime('%Y-%m-%d', 1700000000, 'unixepoch');
    PRAGMA integrity_check;
    SELECT no_such_column FROM t;
";

#[test]
fn sqlite3_runs_a_script_of_100000_rows_in_memory() {
    let outcome = Guest::new("/usr/bin/sqlite3").arguments([":memory:"]).stdin(SQL).limit_seconds(60).same();
    assert!(outcome.text().contains("100000|5000050000|"));
}

#[test]
fn sqlite3_runs_a_script_of_100000_rows_on_a_file() {
    let outcome = Guest::new("/usr/bin/sqlite3").arguments(["data.db"]).stdin(SQL).limit_seconds(60).same();
    assert!(outcome.files["data.db"].1.len() > 1 << 20);
}

#[test]
fn sqlite3_runs_with_a_write_ahead_log() {
    let script = format!("PRAGMA journal_mode=WAL;{SQL}");
    Guest::new("/usr/bin/sqlite3").arguments(["data.db"]).stdin(script).limit_seconds(60).same();
}

#[test]
fn openssl_digests_and_encrypts() {
    let input = data::mixed(4 << 20, 6);
    for digest in ["-sha256", "-sha512", "-md5", "-sha3-256", "-blake2b512", "-ripemd160"] {
        Guest::new("/usr/bin/openssl").arguments(["dgst", digest]).stdin(input.clone()).same();
    }
    for cipher in ["-aes-256-cbc", "-aes-128-ctr", "-chacha20", "-camellia-256-cbc"] {
        let outcome = Guest::new("/usr/bin/openssl")
            .arguments(["enc", cipher, "-K", "000102030405060708090a0b0c0d0e0f", "-iv", "00"])
            .stdin(input.clone())
            .same();
        assert!(outcome.stdout.len() >= 4 << 20, "{cipher}");
    }
}

#[test]
fn openssl_speed_succeeds() {
    for what in ["sha256", "aes-128-gcm", "rsa2048", "ecdhx25519"] {
        let evp = if what.starts_with("aes") { &["-evp"][..] } else { &[] };
        let guest = Guest::new("/usr/bin/openssl")
            .argument("speed")
            .arguments(["-seconds", "1"])
            .arguments(if what.starts_with("rsa") || what.starts_with("ecdh") {
                &[][..]
            } else {
                &["-bytes", "1024"]
            })
            .arguments(evp)
            .argument(what);
        assert_eq!(guest.run(&endo_testing::Under::Endo).status, endo_testing::Status::Exited(0), "{what}");
    }
}

#[test]
fn openssl_makes_an_rsa_key_and_finds_primes() {
    let outcome =
        Guest::new("/usr/bin/openssl").arguments(["genrsa", "2048"]).run(&endo_testing::Under::Endo);
    assert_eq!(outcome.status, endo_testing::Status::Exited(0));
    let key = outcome.text();
    assert!(
        key.starts_with("-----BEGIN PRIVATE KEY-----\n") && key.ends_with("-----END PRIVATE KEY-----\n"),
        "{key}"
    );
    assert!((1650..1750).contains(&key.len()), "{} characters", key.len());
    let check =
        Guest::new("/usr/bin/openssl").arguments(["rsa", "-check", "-noout"]).stdin(key).same_and_succeeds();
    assert_eq!(check.text(), "RSA key ok\n");
    let primes =
        ["prime", "18446744073709551557", "170141183460469231731687303715884105727", "18446744073709551555"];
    Guest::new("/usr/bin/openssl").arguments(primes).same();
}

/// A C program of about this many lines, each function different from the others.
fn c_program(lines: usize) -> String {
    let mut numbers = data::Numbers::new(11);
    let mut text =
        String::from("#include <stdio.h>\n#include <string.h>\nstruct pair { int a; double b; };\n");
    let functions = lines / 12;
    for index in 0..functions {
        let (a, b, c) = (numbers.below(1000), 1 + numbers.below(63), 3 + numbers.below(40));
        text += &format!(
            "static int work{index}(struct pair *p, const char *s, unsigned n)\n{{\n    int sum = {a};\n    \
             for (unsigned i = 0; i < n; i++) {{\n        sum += (s[i % {c}] ^ {a}) << (i % {b} & 15);\n        \
             switch (sum % {c}) {{ case 0: p->a++; break; case 1: p->b *= 1.5; break; case 5: sum -= i; }}\n        \
             p[i & 3].b += sum * 0.{a}1;\n    }}\n    if (strlen(s) > {b}) return p->a;\n    \
             return sum / (int)(n + {b});\n}}\n\n"
        );
    }
    text += "int main(void)\n{\n    struct pair p[4] = {{1, 2}};\n    int total = 0;\n";
    for index in 0..functions {
        text += &format!("    total += work{index}(p, \"{}\", {});\n", "word".repeat(12), index + 3);
    }
    text + "    printf(\"%d %f\\n\", total, p[0].b);\n    return 0;\n}\n"
}

#[test]
fn gcc_compiles_a_file_of_2000_lines() {
    let program = c_program(2000);
    assert!(program.lines().count() >= 2000);
    let cc1 = String::from_utf8(
        std::process::Command::new("gcc").arg("-print-prog-name=cc1").output().expect("gcc is there").stdout,
    )
    .expect("a path of gcc is text");
    Guest::new(cc1.trim())
        .arguments(["-quiet", "-imultiarch", "x86_64-linux-gnu", "-O2", "f.c", "-o", "f.s"])
        .file("f.c", program.clone())
        .limit_seconds(120)
        .same_and_succeeds();
    let outcome = Guest::new("/usr/bin/gcc")
        .arguments(["-O2", "-S", "f.c"])
        .file("f.c", program)
        .limit_seconds(120)
        .same_and_succeeds();
    assert!(outcome.files["f.s"].1.len() > 20_000);
}

#[test]
fn gcc_reports_errors_with_their_place() {
    Guest::new("/usr/bin/gcc").arguments(["-c", "f.c"]).file("f.c", "int main(void) { return x; }\n").same();
}

#[test]
fn gcc_as_and_ld_build_a_program_that_runs() {
    let script = "g++ -O1 f.cc -o f && ./f && rm f";
    let program = "#include <iostream>\n#include <map>\nint main() { std::map<int, const char *> m{{1, \"one\"}}; \
                   std::cout << m.at(1) << std::endl; try { m.at(2); } catch (const std::exception &e) { std::cout << e.what() << '\\n'; } }\n";
    let outcome = Guest::shell(script).file("f.cc", program).limit_seconds(120).same_and_succeeds();
    assert_eq!(outcome.text(), "one\nmap::at\n");
}

#[test]
fn objdump_and_readelf_read_programs() {
    Guest::new("/usr/bin/objdump").arguments(["-d", "/bin/true"]).same_and_succeeds();
    Guest::new("/usr/bin/readelf").arguments(["-aW", "/bin/cat"]).same_and_succeeds();
}
