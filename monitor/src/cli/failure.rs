//! What Endo says when it cannot do what it was asked: one line, `endo: SUBJECT: why (what to do)`.

use std::fmt;

use super::exit;
use crate::launch::LaunchError;
use crate::loader::LoadError;

/// A message and the status to exit with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    subject: Option<String>,
    why: String,
    advice: Option<String>,
    /// The exit status.
    pub status: i32,
}

impl Failure {
    /// Endo itself cannot.
    pub fn new(why: impl Into<String>) -> Self {
        Failure { subject: None, why: why.into(), advice: None, status: exit::FAILURE }
    }

    /// The same, about something that has a name.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Failure { subject: Some(subject.into()), ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Failure { advice: Some(advice.into()), ..self }
    }

    /// The program cannot be loaded.
    pub fn load(program: &str, error: &LoadError) -> Self {
        let status = if error.is_not_found() { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
        Failure { status, ..Failure::new(error.to_string()).about(program).advise(error.advice()) }
    }

    /// The program cannot be started.
    pub fn launch(program: &str, error: &LaunchError) -> Self {
        match error {
            LaunchError::Load(error) => Failure::load(program, error),
            LaunchError::Choice(error) => {
                Failure::new(error.to_string()).advise("endo doctor says what this machine supports")
            }
            LaunchError::Backend(_) | LaunchError::Host { .. } => {
                Failure::new(error.to_string()).about(program)
            }
        }
    }
}

/// A single line, whatever bytes the names hold.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = "endo: ".to_owned();
        if let Some(subject) = &self.subject {
            line += &format!("{subject}: ");
        }
        line += &self.why;
        if let Some(advice) = &self.advice {
            line += &format!(" ({advice})");
        }
        line.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_name_holds() {
        let failure = Failure::new("no such file").about("a\nb\x1b[0m").advise("look again");
        assert_eq!(failure.to_string(), "endo: a\\nb\\u{1b}[0m: no such file (look again)");
    }

    #[test]
    fn statuses_tell_missing_from_not_executable() {
        assert_eq!(Failure::load("x", &LoadError::NotInPath).status, exit::NOT_FOUND);
        assert_eq!(Failure::load("x", &LoadError::Directory).status, exit::NOT_EXECUTABLE);
        assert_eq!(Failure::new("").status, exit::FAILURE);
    }
}
