//! Where things lie: the `endo` executable, compiled guests.

use std::env;
use std::path::{Path, PathBuf};

/// The backend under test.
pub fn backend() -> String {
    env::var("ENDO_BACKEND").unwrap_or_else(|_| "sfi".to_owned())
}

/// The `endo` executable under test.
///
/// # Panics
///
/// If it is not there: cargo builds it for the monitor's tests, whoever measures builds it himself.
pub fn endo_binary() -> PathBuf {
    let path = env::var_os("ENDO_BINARY").map_or_else(|| profile_directory().join("endo"), PathBuf::from);
    assert!(path.is_file(), "{} is not there: build it, or say with ENDO_BINARY where it is", path.display());
    path
}

/// Where compiled guests are kept between runs.
///
/// # Panics
///
/// If the directory cannot be made.
pub fn guests_directory() -> PathBuf {
    let directory =
        profile_directory().parent().expect("a profile lies in the target directory").join("guests");
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    directory
}

/// Where Endo keeps translations between runs, of one test and of all: the more they share, the more is tested.
pub fn store_directory() -> PathBuf {
    guests_directory().with_file_name("translations")
}

/// The directory of cargo's profile that the running executable was built in.
fn profile_directory() -> PathBuf {
    let executable = env::current_exe().expect("the kernel knows what is running");
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let is_in_deps = directory.file_name().is_some_and(|name| name == "deps");
    if is_in_deps { directory.parent().unwrap_or(directory).to_owned() } else { directory.to_owned() }
}
