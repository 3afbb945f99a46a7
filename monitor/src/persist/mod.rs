//! What outlives a process: the directory of stored translations, and the secret of this user and this boot.
//!
//! The secret authenticates what is stored, and the places of code follow from it ([`Scatter`]). The kernel keeps it: see
//! [`keyring`]. No guest can ask for it, so a guest that writes into the directory, as it may with the user's rights,
//! makes nothing that another Endo would take for its own.

mod directory;
mod keyring;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endo_core::{StoreConfig, StoreKey};

use crate::errno::Errno;
use crate::memory::Scatter;
use crate::syscall::hidden;

/// Whether translations are kept, and where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Wish {
    /// In the user's cache directory.
    #[default]
    Default,
    /// In this one.
    In(PathBuf),
    /// They are not.
    Off,
}

/// Why nothing is kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Off {
    /// So it was asked for.
    #[error("switched off")]
    Asked,
    /// The environment names no place.
    #[error("none of ENDO_CACHE_DIR, XDG_CACHE_HOME and HOME names a directory")]
    NoPlace,
    /// The directory cannot be had.
    #[error("{}: {errno}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Others can write there.
    #[error("{} belongs to somebody else, or others may write into it", .0.display())]
    Shared(PathBuf),
    /// The kernel keeps no secret.
    #[error("the kernel's keyring cannot be used: {0}")]
    NoKey(Errno),
}

/// What a process has of it.
#[derive(Debug)]
pub struct Persistence {
    /// Where translations are kept, or why they are not.
    pub store: Result<StoreConfig, Off>,
    /// Where code from files goes.
    pub scatter: Scatter,
}

/// Where translations are kept by default, or why they are not, in a few words.
pub fn describe() -> String {
    match Persistence::open(&Wish::Default).store {
        Ok(_) => place_of(&Wish::Default)
            .map_or_else(|off| off.to_string(), |place| format!("in {}", place.path().display())),
        Err(off) => format!("not at all: {off}"),
    }
}

impl Persistence {
    /// Looks for secret and directory. To be called before the first guest runs.
    pub fn open(wish: &Wish) -> Self {
        let opened = open_directory(wish).and_then(|directory| {
            let secret = keyring::secret().map_err(Off::NoKey)?;
            Ok((Arc::new(directory), secret))
        });
        match opened {
            Ok((directory, secret)) => {
                let key = StoreKey(blake3::derive_key("endo translation store 1", &secret));
                let layout = blake3::derive_key("endo placement 1", &secret);
                Persistence { store: Ok(StoreConfig { directory, key }), scatter: Scatter::new(layout) }
            }
            Err(off) => Persistence { store: Err(off), scatter: Scatter::new(keyring::random()) },
        }
    }
}

/// A directory that may have to be made.
struct Place {
    /// What exists, or is to be made whatever is above it.
    parent: PathBuf,
    /// What is to be made below it, if the parent is the user's own.
    below: Option<&'static str>,
}

impl Place {
    fn path(&self) -> PathBuf {
        self.below.map_or_else(|| self.parent.clone(), |below| self.parent.join(below))
    }
}

fn place_of(wish: &Wish) -> Result<Place, Off> {
    let exactly = |parent| Place { parent, below: None };
    let within = |below| move |parent| Place { parent, below: Some(below) };
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match wish {
        Wish::Off => Err(Off::Asked),
        Wish::In(path) => Ok(exactly(path.clone())),
        Wish::Default => variable("ENDO_CACHE_DIR")
            .map(exactly)
            .or_else(|| variable("XDG_CACHE_HOME").map(within("endo")))
            .or_else(|| variable("HOME").map(within(".cache/endo")))
            .ok_or(Off::NoPlace),
    }
}

fn open_directory(wish: &Wish) -> Result<OwnedFd, Off> {
    let place = place_of(wish)?;
    let path = place.path();
    let fail = |errno| Off::Directory { path: path.clone(), errno };
    let directory = match directory::open(&path) {
        Err(Errno::ENOENT) => {
            // A home that does not exist, or is another user's, is not one to make directories in.
            let is_own =
                || File::open(&place.parent).is_ok_and(|it| directory::is_private(&it.into()) == Ok(true));
            if place.below.is_some() && !is_own() {
                return Err(Off::Shared(place.parent));
            }
            create(&path).map_err(|error| fail(Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
            directory::open(&path)
        }
        opened => opened,
    };
    let directory = directory.map_err(fail)?;
    if !directory::is_private(&directory).map_err(fail)? {
        return Err(Off::Shared(path));
    }
    hidden::hide(directory).map_err(fail)
}

fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
