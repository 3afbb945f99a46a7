//! The emulator and the kernel: packages of one release of Debian, unpacked under `target/vm/x86`, once.
//!
//! QEMU comes with all its libraries and its own dynamic linker, so it runs on any distribution, whatever is installed
//! there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::apt::{self, Apt};

/// Its kernel is 6.12, the oldest that delivers signals onto stacks whose key is denied.
const RELEASE: &str = "trixie";
/// The emulator, and the firmware that it starts.
const EMULATOR: [&str; 2] = ["qemu-system-x86", "seabios"];
/// Depends on the newest of the release.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What is unpacked.
pub(super) struct Emulator {
    directory: PathBuf,
    kernel: PathBuf,
}

impl Emulator {
    /// Finds it below `directory`, or gets it there.
    pub(super) fn ready(directory: &Path) -> anyhow::Result<Self> {
        let place = directory.join("x86");
        if !place.exists() {
            Self::build(directory, &place).context("could not get the emulator")?;
        }
        let kernel = kernel_in(&place)
            .with_context(|| format!("{} is broken: remove it to have it made again", place.display()))?;
        Ok(Emulator { directory: place, kernel })
    }

    /// The kernel's image.
    pub(super) fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// A command that starts QEMU, through its own linker.
    pub(super) fn command(&self) -> Command {
        let root = self.directory.join("qemu");
        let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu"));
        command.arg(root.join("usr/bin/qemu-system-x86_64"));
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(root.join(data));
        }
        command
    }

    /// Makes all of it in a scratch directory, which then takes its place; another process may have been faster.
    fn build(directory: &Path, place: &Path) -> anyhow::Result<()> {
        let started = Instant::now();
        eprintln!("vm: getting QEMU and a kernel from Debian {RELEASE} (once, some 75 MB)");
        fs::create_dir_all(directory).with_context(|| format!("could not create {}", directory.display()))?;
        let scratch = tempfile::Builder::new().prefix("making-").tempdir_in(directory)?;
        let apt = Apt::prepare(&scratch.path().join("apt"), RELEASE)?;
        let made = scratch.path().join("x86");
        for archive in apt.download_with_dependencies(&EMULATOR)? {
            apt::unpack(&archive, &made.join("qemu"), None)?;
        }
        let kernel = apt.download_dependency(KERNEL, "linux-image-")?;
        apt::unpack(&kernel, &made.join("kernel"), Some("./boot/vmlinuz-*"))?;
        kernel_in(&made).context("there is no kernel in the package")?;
        if let Err(error) = fs::rename(&made, place) {
            ensure!(place.exists(), "could not create {}: {error}", place.display());
        }
        eprintln!("vm: got them in {:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    }
}

fn kernel_in(place: &Path) -> Option<PathBuf> {
    fs::read_dir(place.join("kernel/boot"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
}
