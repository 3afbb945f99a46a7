//! Programs with broken headers: refused in one line, or run to whatever end they have. Never does Endo itself break.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use endo_testing::{Ended, endo_binary, run_to_end};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// Numbers that are the same in every run (Knuth's 64-bit linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Changes up to eight bytes, or whole fields, of the headers; sometimes cuts the file.
fn mutate(program: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let headers = 64 + 56 * usize::from(program[0x38]);
    let mut bytes = program.to_vec();
    for _ in 0..=numbers.below(8) {
        let at = 16 + numbers.below(headers as u64 - 24) as usize;
        match numbers.below(3) {
            0 => bytes[at] = numbers.below(256) as u8,
            1 => bytes[at] ^= 1 << numbers.below(8),
            _ => {
                let field = at & !7;
                let value = 1_u64 << numbers.below(64);
                bytes[field..field + 8].copy_from_slice(&value.wrapping_sub(numbers.below(2)).to_le_bytes());
            }
        }
    }
    if numbers.below(8) == 0 {
        bytes.truncate(numbers.below(bytes.len() as u64) as usize);
    }
    bytes
}

fn run(path: &Path) -> Ended {
    let mut command = Command::new(endo_binary());
    command.args(["run", "--backend", &endo_testing::backend(), "--"]).arg(path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run_to_end(&mut command, None, Some(Duration::from_secs(5))).expect("endo can be started")
}

/// Signals that a broken program may die of. Endo's own bugs end in SIGABRT, or say so.
const FAULTS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

fn check(ended: &Ended, what: &str) {
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(!text.contains("internal error") && !text.contains("panicked"), "{what}: {text}");
    match (ended.status.code(), ended.status.signal()) {
        (Some(125), _) => panic!("{what}: endo failed: {text}"),
        (Some(126 | 127), _) if text.starts_with("endo: ") => {
            assert_eq!(text.matches('\n').count(), 1, "{what}: {text}");
        }
        (Some(_), _) => assert!(!text.contains("endo: "), "{what}: {text}"),
        (None, Some(signal)) => {
            assert!(FAULTS.contains(&signal) || ended.timed_out, "{what}: signal {signal}: {text}");
        }
        (None, None) => unreachable!("a process exits or is killed"),
    }
}

#[test]
fn no_broken_header_breaks_endo() {
    let program = fs::read("/bin/true").expect("every Linux has /bin/true");
    let directory = tempfile::tempdir().expect("there is room for scratch files");
    let mut numbers = Numbers(2);
    let mut refused = 0;
    for number in 0..200 {
        let path = directory.path().join("program");
        fs::write(&path, mutate(&program, &mut numbers)).expect("the scratch directory can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        let ended = run(&path);
        check(&ended, &format!("mutation {number}"));
        refused += u32::from(ended.stderr.starts_with(b"endo: "));
    }
    assert!((40..160).contains(&refused), "{refused} of 200 refused: the mutations test one side only");
}
