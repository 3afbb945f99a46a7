//! Finding a program by its name, as execvp(3) does.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use super::{LoadError, Program};
use crate::errno::Errno;

/// Where execvp looks when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Opens the program `name`: a path if it has a slash, else the first in the directories of `path` that can run.
///
/// If none can, the error is that of the first one that may not be run, or whose interpreter is missing. One that is no
/// program ends the search. Unlike execvp(3), a file that is neither ELF nor script
/// is not handed to the shell.
pub fn find(name: &CStr, path: Option<&OsStr>) -> Result<Program, LoadError> {
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes.contains(&b'/') {
        return Program::open(name);
    }
    let mut first = None;
    for directory in path.map_or(DEFAULT_PATH, OsStr::as_bytes).split(|&b| b == b':') {
        match Program::open(&candidate(directory, bytes)) {
            Ok(program) => return Ok(program),
            Err(LoadError::NotFound | LoadError::Open(_)) => {}
            Err(error) if matches!(error.errno(), Errno::EACCES | Errno::ENOENT) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or(LoadError::NotInPath))
}

/// An empty directory means the working directory.
fn candidate(directory: &[u8], name: &[u8]) -> CString {
    let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    CString::new([directory, separator, name].concat()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &CStr, path: &str) -> Result<CString, LoadError> {
        find(name, Some(OsStr::new(path))).map(|program| program.exec_name)
    }

    #[test]
    fn the_first_directory_that_has_it_wins() {
        assert_eq!(found(c"true", "/nowhere:/bin:/usr/bin").unwrap(), c"/bin/true".to_owned());
        assert_eq!(found(c"true", "/usr/bin:/bin").unwrap(), c"/usr/bin/true".to_owned());
    }

    #[test]
    fn a_name_with_a_slash_is_not_looked_up() {
        assert!(matches!(found(c"./true", "/bin"), Err(LoadError::NotFound)));
    }

    #[test]
    fn a_name_that_nobody_has_is_not_in_path() {
        assert!(matches!(found(c"endo-no-such-program", "/bin:/etc/passwd:"), Err(LoadError::NotInPath)));
    }

    #[test]
    fn what_exists_and_cannot_run_is_reported_if_nothing_else_can() {
        assert!(matches!(found(c"passwd", "/etc"), Err(LoadError::NotExecutable)));
        assert!(found(c"true", "/etc:/bin").is_ok());
        assert!(matches!(found(c"share", "/usr:/bin"), Err(LoadError::Directory)));
    }
}
