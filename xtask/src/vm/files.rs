//! What lies in the machine: what every one needs, `endo`, tests, programs, and what else was asked for.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::guest::{INIT, Order};
use super::image::Image;
use super::libraries::Libraries;

/// Where programs are found by their names that do not lie where programs lie.
const LINKS: &str = "/usr/local/bin";

/// Directories that every machine has, with their rights.
const DIRECTORIES: [(&str, u32); 8] = [
    ("/usr/bin", 0o755),
    (LINKS, 0o755),
    ("/etc", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/var/lib", 0o755),
    ("/var/tmp", 0o1777),
];

/// Small files that every machine has.
const TEXTS: [(&str, &str); 5] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n\
                     www-data:x:33:33:www-data:/:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/hostname", "machine\n"),
];

/// On a merged /usr these are links, and so they are in the machine.
const TOP_LINKS: [&str; 5] = ["/bin", "/sbin", "/lib", "/lib64", "/lib32"];

/// The machine's files.
pub(super) struct Files {
    image: Image,
}

impl Files {
    /// What every machine has.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut image = Image::new(Libraries::of_this_machine());
        for path in TOP_LINKS {
            image.link_as_here(path)?;
        }
        for (path, mode) in DIRECTORIES {
            image.directory(path, mode)?;
        }
        for (path, content) in TEXTS {
            image.text(path, 0o644, content)?;
        }
        let mut files = Files { image };
        for program in ["/bin/sh", "/bin/busybox"] {
            files.add_if_there(Path::new(program));
        }
        Ok(files)
    }

    /// The executable of endo, under its name.
    pub(super) fn endo(&mut self, program: &Path) -> anyhow::Result<()> {
        self.named(program, "endo")
    }

    /// A test's program, under the name of its source.
    pub(super) fn test(&mut self, source: &str, program: &Path) -> anyhow::Result<()> {
        let name = Path::new(source).file_stem().and_then(OsStr::to_str).context("a test without a name")?;
        self.named(program, name)
    }

    fn named(&mut self, program: &Path, name: &str) -> anyhow::Result<()> {
        self.image.add(program)?;
        self.image.link(&Path::new(LINKS).join(name), program)
    }

    /// The programs of a list, one path a line. What is not on this machine is left out, with a word about it.
    pub(super) fn programs(&mut self, list: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            self.add_if_there(Path::new(line));
        }
        Ok(())
    }

    fn add_if_there(&mut self, path: &Path) {
        if let Err(error) = self.image.add(path) {
            eprintln!(
                "vm: left out: {} (cargo xtask packages installs what tests need)",
                crate::reasons(&error)
            );
        }
    }

    /// A file or directory of this machine with its libraries: `HOST` or `HOST:GUEST`.
    pub(super) fn bring(&mut self, file: &str) -> anyhow::Result<()> {
        let (host, guest) = file.split_once(':').map_or((file, None), |(host, guest)| (host, Some(guest)));
        let host = std::path::absolute(host)?;
        match guest {
            Some(guest) => {
                ensure!(guest.starts_with('/'), "{file}: the path in the machine begins with a slash");
                self.image.add_at(&host, Path::new(guest))
            }
            None => self.image.add(&host),
        }
    }

    /// A file or directory of this machine at its own path.
    pub(super) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        self.image.add(path)
    }

    /// A directory to start in.
    pub(super) fn directory(&mut self, path: &Path) -> anyhow::Result<()> {
        let path =
            path.to_str().filter(|path| path.starts_with('/')).context("a directory begins with a slash")?;
        if self.image.has(Path::new(path)) { Ok(()) } else { self.image.directory(path, 0o755) }
    }

    /// The program of a command: brings it, if it is one of this machine. A path becomes an absolute one.
    pub(super) fn program(&mut self, word: &mut OsString) -> anyhow::Result<()> {
        let path = Path::new(word);
        if path.components().count() > 1 || word.as_encoded_bytes().contains(&b'/') {
            let absolute = std::path::absolute(path)?;
            if absolute.is_file() {
                self.image.add(&absolute)?;
                *word = absolute.into();
            }
            return Ok(());
        }
        if self.image.has(&Path::new(LINKS).join(path)) {
            return Ok(());
        }
        let found = std::env::var_os("PATH").and_then(|variable| {
            std::env::split_paths(&variable)
                .map(|directory| directory.join(path))
                .find(|path| is_executable(path))
        });
        // Its directory may be one that is not searched in the machine.
        found.map_or(Ok(()), |found| {
            self.image.add(&found)?;
            let here = found.parent().and_then(Path::to_str).unwrap_or_default();
            if super::guest::PATH.split(':').any(|directory| directory == here) {
                return Ok(());
            }
            self.image.link(&Path::new(LINKS).join(path), &found)
        })
    }

    /// Adds this program as the machine's first process and the commands that it is to run, and writes the archive into a
    /// directory.
    pub(super) fn write(mut self, directory: &Path, orders: &[Order]) -> anyhow::Result<PathBuf> {
        let init = directory.join("init");
        strip(&std::env::current_exe().context("could not find this program")?, &init)?;
        self.image.add_at(&init, Path::new(INIT))?;
        for (number, order) in orders.iter().enumerate() {
            order.put(&mut self.image, number)?;
        }
        for missing in self.image.missing() {
            eprintln!("vm: not on this machine: {missing}");
        }
        let archive = directory.join("files.cpio");
        self.image.write(&archive)?;
        Ok(archive)
    }
}

/// Copies a program without what debuggers need, which is most of it.
fn strip(program: &Path, to: &Path) -> anyhow::Result<()> {
    let stripped = Command::new("strip").arg("-o").args([to, program]).output();
    if !stripped.is_ok_and(|output| output.status.success()) {
        fs::copy(program, to).with_context(|| format!("could not copy {}", program.display()))?;
    }
    Ok(())
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
