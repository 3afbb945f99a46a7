//! Guests that are built from source.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guests_directory;

/// Compiles a source file and returns the executable. `command` is the compiler with its flags, in words; sources,
/// with or without further files to link, are added by their paths. What was built before from the same source with
/// the same command is used again; headers (`.h`, `.inc`) beside the source count as part of it.
///
/// # Panics
///
/// If the compiler is not there or refuses, with what it said.
pub fn compile(command: &str, sources: &[PathBuf]) -> PathBuf {
    let first = sources.first().expect("a program has a source");
    let output = guests_directory().join(format!("{}-{:016x}", stem(first), fingerprint(command, sources)));
    if output.is_file() {
        return output;
    }
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let unfinished =
        output.with_extension(format!("{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    let mut words = command.split_whitespace();
    let compiler = words.next().expect("a command names a compiler");
    let (libraries, flags): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with("-l"));
    let result =
        Command::new(compiler).args(flags).args(sources).arg("-o").arg(&unfinished).args(libraries).output();
    let result = result.unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(
        result.status.success(),
        "{command} {}:\n{}",
        first.display(),
        String::from_utf8_lossy(&result.stderr)
    );
    fs::rename(&unfinished, &output).expect("both lie in the same directory");
    output
}

/// Whether the processor and the kernel have this flag of `/proc/cpuinfo`.
pub fn has_processor_flag(flag: &str) -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn fingerprint(command: &str, sources: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    command.hash(&mut hasher);
    for source in sources {
        read(source).hash(&mut hasher);
        let directory = source.parent().unwrap_or(Path::new("."));
        let mut headers: Vec<PathBuf> = fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "h" || extension == "inc"))
            .collect();
        headers.sort();
        headers.iter().for_each(|header| read(header).hash(&mut hasher));
    }
    hasher.finish()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
