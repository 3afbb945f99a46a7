//! Compiles the fast paths of system calls ahead of time, so that start-up pays nothing for them.
//!
//! The table of system calls says which calls have one ([`plan`]); Cranelift makes a function for each ([`stubs`]); they go
//! into a static library ([`archive`]). `fast_paths.rs` is the table of them, by number, which `src/fast/` includes.

#[expect(dead_code, unreachable_pub, reason = "it is part of the monitor, which uses more of it")]
#[path = "src/syscall/table.rs"]
mod table;

#[path = "build/archive.rs"]
mod archive;
#[path = "build/plan.rs"]
mod plan;
#[path = "build/stubs.rs"]
mod stubs;

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use plan::Architecture;

/// Calls whose function is the monitor's own (`src/signal/same.rs`, `src/fast/status.rs`).
const OWN: [&str; 2] = ["rt_sigaction", "newfstatat"];

/// Calls whose function copies what the kernel is to look at (`src/fast/vectors.rs`).
const COPIED: [&str; 3] = ["readv", "writev", "sendmsg"];

fn main() {
    for source in ["build.rs", "build", "src/syscall/table.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let architecture = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => Architecture::Aarch64,
        _ => Architecture::X86_64,
    };
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let write = |name: &str, bytes: &[u8]| {
        fs::write(out.join(name), bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    // The tests look at what comes out for the architecture that this is not built for.
    for other in [Architecture::X86_64, Architecture::Aarch64] {
        let object = stubs::object(other);
        write(&format!("fast_paths_{other:?}.o").to_lowercase(), &object);
        if other == architecture {
            write("libendo_fast.a", &archive::with_one_member("fast_paths.o", &object));
        }
    }
    write("fast_paths.rs", table_of_entries(architecture).as_bytes());
    // Half of the work of the dynamic linker at each start of endo is relocations: thousands, all of one kind.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    link_unwinder_statically();
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=endo_fast");
}

/// Takes the unwinder from the compiler's archive instead of its shared library, which is one library less to find, map and
/// relocate at each start, and whose constructor asks the processor questions that cost a virtual machine an exit each. Without a C
/// compiler that says where the archive is everything stays as it was.
fn link_unwinder_statically() {
    let target = env::var("TARGET").unwrap_or_default();
    let is_native = env::var("HOST").is_ok_and(|host| host == target);
    if !is_native || env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    let answer = std::process::Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let Some(archive) = answer.ok().and_then(|answer| String::from_utf8(answer.stdout).ok()) else { return };
    let archive = Path::new(archive.trim());
    // A compiler that has none answers with the bare name.
    if let (true, Some(folder)) = (archive.is_file(), archive.parent()) {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Declarations of the functions, and the table that has them at their calls' numbers.
fn table_of_entries(architecture: Architecture) -> String {
    let mut calls: Vec<(u32, &str, &str)> =
        plan::all(architecture).iter().map(|plan| (plan.number, plan.name, "Check")).collect();
    for answered in &plan::ANSWERED {
        let Some(number) = plan::number(answered.name, architecture) else { continue };
        calls.retain(|&(other, ..)| other != number);
        calls.push((number, answered.name, "Call"));
    }
    for (names, kind) in [(&OWN[..], "Call"), (&COPIED[..], "Copy")] {
        calls.extend(names.iter().filter_map(|&name| Some((plan::number(name, architecture)?, name, kind))));
    }
    let numbers = calls.iter().map(|&(number, ..)| number as usize + 1).max().unwrap_or(0);
    let mut text = String::from("unsafe extern \"C\" {\n");
    for (_, name, _) in &calls {
        writeln!(
            text,
            "    fn {}{name}(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> u64;",
            stubs::PREFIX
        )
        .expect("a string takes everything");
    }
    writeln!(text, "}}\n\nstatic FAST_PATHS: [FastEntry; {numbers}] = {{")
        .expect("a string takes everything");
    writeln!(text, "    let mut paths = [FastEntry::NONE; {numbers}];").expect("a string takes everything");
    for (number, name, kind) in &calls {
        writeln!(
            text,
            "    paths[{number}] = FastEntry {{ function: {}{name}, kind: FastKind::{kind} }};",
            stubs::PREFIX
        )
        .expect("a string takes everything");
    }
    text.push_str("    paths\n};\n");
    text
}
