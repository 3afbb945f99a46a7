//! What a program needs besides itself: its interpreter, and the shared libraries that it names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::elf::Elf;

/// Where the dynamic linker finds libraries on this machine.
#[derive(Default)]
pub(super) struct Libraries {
    by_name: HashMap<String, PathBuf>,
}

/// What a file needs.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Needs {
    /// These files.
    pub(super) files: Vec<PathBuf>,
    /// These libraries, which are nowhere.
    pub(super) missing: Vec<String>,
}

impl Libraries {
    /// Asks `ldconfig` for what the dynamic linker's cache holds.
    pub(super) fn of_this_machine() -> Self {
        let listing = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
            .iter()
            .find_map(|program| Command::new(program).arg("-p").output().ok())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        Self::parse(&listing)
    }

    fn parse(listing: &str) -> Self {
        let mut by_name = HashMap::new();
        for line in listing.lines().filter(|line| line.contains("x86-64")) {
            if let Some((name, path)) = line.split_once(" => ")
                && let Some(name) = name.split_whitespace().next()
            {
                // The first one is the one that the linker takes.
                by_name.entry(name.to_owned()).or_insert_with(|| path.into());
            }
        }
        Libraries { by_name }
    }

    /// What the file at a path needs, which has this content.
    pub(super) fn needs(&self, path: &Path, content: &[u8]) -> Needs {
        match content {
            [b'#', b'!', rest @ ..] => Needs {
                files: interpreter(rest).into_iter().filter(|program| program.exists()).collect(),
                ..Needs::default()
            },
            [0x7f, b'E', b'L', b'F', ..] => {
                Elf::parse(content).map_or_else(|_| Needs::default(), |elf| self.linked(path, &elf))
            }
            _ => Needs::default(),
        }
    }

    fn linked(&self, path: &Path, elf: &Elf<'_>) -> Needs {
        let mut needs =
            Needs { files: elf.interpreter.map(PathBuf::from).into_iter().collect(), ..Needs::default() };
        let origin = path.parent().unwrap_or(Path::new("/"));
        let directories: Vec<PathBuf> = elf
            .rpaths
            .iter()
            .chain(&elf.runpaths)
            .flat_map(|list| list.split(':'))
            .map(|directory| {
                directory.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &origin.to_string_lossy()).into()
            })
            .collect();
        for name in &elf.libraries {
            let beside = directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
            let found = beside
                .or_else(|| self.by_name.get(*name).cloned())
                // A library of a program whose own search path its user inherits.
                .or_else(|| Some(origin.join(name)).filter(|path| path.exists()));
            match found {
                Some(path) => needs.files.push(path),
                None => needs.missing.push((*name).to_owned()),
            }
        }
        needs
    }
}

/// The program in a script's first line.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|&byte| byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    word.starts_with(b"/").then(|| OsStr::from_bytes(word).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "3 libs found in cache `/etc/ld.so.cache'\n\
        \tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1\n\
        \tlibz.so.1 (libc6) => /lib/i386-linux-gnu/libz.so.1\n\
        \tlibc.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => /lib/x86_64-linux-gnu/libc.so.6\n";

    #[test]
    fn the_linker_s_cache_is_read_for_this_architecture_only() {
        let libraries = Libraries::parse(LISTING);
        assert_eq!(libraries.by_name["libz.so.1"], Path::new("/lib/x86_64-linux-gnu/libz.so.1"));
        assert_eq!(libraries.by_name["libc.so.6"], Path::new("/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(libraries.by_name.len(), 2);
    }

    #[test]
    fn this_test_needs_the_c_library_and_its_linker() {
        let path = std::env::current_exe().unwrap();
        let needs = Libraries::of_this_machine().needs(&path, &std::fs::read(&path).unwrap());
        let names: Vec<_> = needs.files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert!(names.contains(&"libc.so.6") && names.contains(&"ld-linux-x86-64.so.2"), "{names:?}");
        assert_eq!(needs.missing, Vec::<String>::new());
    }

    #[test]
    fn a_library_that_is_nowhere_is_named() {
        let path = std::env::current_exe().unwrap();
        let needs = Libraries::default().needs(Path::new("/nowhere/test"), &std::fs::read(&path).unwrap());
        assert!(needs.missing.iter().any(|name| name == "libc.so.6"), "{needs:?}");
    }

    #[test]
    fn a_script_needs_its_interpreter() {
        let needs = |text: &str| Libraries::default().needs(Path::new("/x"), text.as_bytes()).files;
        assert_eq!(needs("#!/bin/sh\nexit"), [Path::new("/bin/sh")]);
        assert_eq!(needs("#! /usr/bin/env python3\n"), [Path::new("/usr/bin/env")]);
        assert_eq!(needs("#!/nowhere/python\n"), Vec::<PathBuf>::new());
        assert_eq!(needs("text\n"), Vec::<PathBuf>::new());
    }
}
