//! `#!` scripts, by the rules of fs/binfmt_script.c.

use std::ffi::CString;

/// Bytes of a file that the kernel looks at to find its interpreter (BINPRM_BUF_SIZE).
pub const LINE_LENGTH: usize = 256;

/// How many interpreters may follow one another before the kernel gives up with ELOOP (fs/exec.c, exec_binprm).
pub const MAX_DEPTH: usize = 5;

/// What a `#!` line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptLine {
    /// The program to run instead, as a path.
    pub interpreter: CString,
    /// Everything after it, as one argument.
    pub argument: Option<CString>,
}

/// Why a file that begins with `#!` is no script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadScript {
    /// Nothing after the `#!` on its line: ENOEXEC.
    #[error("the #! line names no interpreter")]
    NoInterpreter,
    /// The file ends, or holds a NUL, where the name should be: ENOENT, as the kernel opens the empty path.
    #[error("the #! line names an empty interpreter")]
    EmptyName,
    /// The interpreter's path does not end within the bytes that are looked at.
    #[error("the interpreter's name in the #! line does not end within {LINE_LENGTH} bytes")]
    TooLong,
}

/// Reads the `#!` line of a file that begins with `head`; `None` if it does not begin with `#!`.
pub fn parse(head: &[u8]) -> Option<Result<ScriptLine, BadScript>> {
    head.starts_with(b"#!").then(|| parse_line(head))
}

fn parse_line(head: &[u8]) -> Result<ScriptLine, BadScript> {
    // The kernel's buffer: zero past the end of a short file.
    let mut buffer = [0; LINE_LENGTH];
    let length = head.len().min(LINE_LENGTH);
    buffer[..length].copy_from_slice(&head[..length]);

    // A NUL ends the search for the newline, but not the line.
    let newline = buffer.iter().position(|&b| b == b'\n' || b == 0).filter(|&i| buffer[i] == b'\n');
    let end = match newline {
        Some(newline) => newline,
        None => {
            let name = skip_blanks(&buffer[..], 2).ok_or(BadScript::NoInterpreter)?;
            let ends = buffer[name..].iter().any(|&b| is_blank(b) || b == 0);
            if !ends {
                return Err(BadScript::TooLong);
            }
            LINE_LENGTH - 1
        }
    };
    let trimmed = buffer[..end].iter().rposition(|&b| !is_blank(b)).map_or(0, |last| last + 1);
    let line = &buffer[..trimmed];
    let name = skip_blanks(line, 2).ok_or(BadScript::NoInterpreter)?;
    let name_end = line[name..].iter().position(|&b| is_blank(b) || b == 0).map_or(line.len(), |n| name + n);
    if name_end == name {
        return Err(BadScript::EmptyName);
    }
    let argument = match line.get(name_end) {
        Some(&separator) if separator != 0 => {
            skip_blanks(line, name_end).map(|start| up_to_nul(&line[start..]))
        }
        _ => None,
    };
    Ok(ScriptLine { interpreter: up_to_nul(&line[name..name_end]), argument })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn skip_blanks(line: &[u8], from: usize) -> Option<usize> {
    line.get(from..)?.iter().position(|&b| !is_blank(b)).map(|n| from + n)
}

fn up_to_nul(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(head: &[u8]) -> (String, Option<String>) {
        let line = parse(head).expect("it begins with #!").expect("it is well formed");
        let text = |s: CString| s.into_string().unwrap();
        (text(line.interpreter), line.argument.map(text))
    }

    #[test]
    fn a_file_without_the_mark_is_no_script() {
        assert_eq!(parse(b"# !/bin/sh\n"), None);
        assert_eq!(parse(b"#"), None);
    }

    #[test]
    fn blanks_around_name_and_argument_are_dropped() {
        assert_eq!(line(b"#! \t/bin/sh \t -e  \necho"), ("/bin/sh".into(), Some("-e".into())));
    }

    #[test]
    fn all_that_follows_the_name_is_one_argument() {
        assert_eq!(line(b"#!/usr/bin/env a b\tc\n"), ("/usr/bin/env".into(), Some("a b\tc".into())));
    }

    #[test]
    fn a_line_may_end_with_the_file() {
        assert_eq!(line(b"#!/bin/sh"), ("/bin/sh".into(), None));
        assert_eq!(line(b"#!/bin/sh -x"), ("/bin/sh".into(), Some("-x".into())));
    }

    #[test]
    fn a_line_without_a_name_is_refused() {
        assert_eq!(parse(b"#!\n"), Some(Err(BadScript::NoInterpreter)));
        assert_eq!(parse(b"#!  \t \n"), Some(Err(BadScript::NoInterpreter)));
        assert_eq!(parse(b"#!"), Some(Err(BadScript::EmptyName)));
        assert_eq!(parse(&[b"#!".as_slice(), &[b' '; 300]].concat()), Some(Err(BadScript::NoInterpreter)));
    }

    #[test]
    fn a_name_cut_off_by_the_line_length_is_refused() {
        assert_eq!(parse(&[b"#!/".as_slice(), &[b'a'; 300]].concat()), Some(Err(BadScript::TooLong)));
    }

    #[test]
    fn an_argument_cut_off_by_the_line_length_is_taken_as_far_as_it_goes() {
        let (name, argument) = line(&[b"#!/bin/sh ".as_slice(), &[b'a'; 300]].concat());
        assert_eq!(name, "/bin/sh");
        assert_eq!(argument.map(|a| a.len()), Some(LINE_LENGTH - 1 - 10));
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let head = [b"#!".as_slice(), &tail].concat();
            let parsed = parse(&head);
            proptest::prop_assert!(parsed.is_some());
        }

        #[test]
        fn no_line_of_blanks_and_ends_makes_the_parser_panic(tail in "[ \t\n\0a]{0,300}") {
            let head = [b"#!", tail.as_bytes()].concat();
            if let Some(Ok(line)) = parse(&head) {
                proptest::prop_assert!(!line.interpreter.is_empty());
            }
        }
    }
}
