//! The `endo` command.
//!
//! It is entered from the C runtime and not through Rust's: that one would ignore SIGPIPE, install handlers for SIGSEGV and
//! SIGBUS and open what is closed of descriptors 0 to 2, all of which the guest would notice.
#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// What the C runtime calls.
///
/// # Safety
///
/// The C runtime's to call: both vectors end with a null pointer, and what they hold stays as it is.
// SAFETY: every C program has a `main`; this is it, and with its proper type.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(
    _count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let arguments = unsafe { strings(arguments) };
    // SAFETY: the caller's promise.
    let environment = unsafe { strings(environment) };
    let arguments: Vec<OsString> =
        arguments.iter().map(|argument| OsStr::from_bytes(argument.to_bytes()).to_owned()).collect();
    std::process::exit(endo::cli::main(arguments, &environment))
}

/// The strings of a vector.
///
/// # Safety
///
/// The vector ends with a null pointer; it and its strings live, unchanged, as long as the process.
unsafe fn strings(mut vector: *const *const c_char) -> Vec<&'static CStr> {
    let mut strings = Vec::new();
    loop {
        // SAFETY: the null pointer at the vector's end has not been passed.
        let string = unsafe { *vector };
        if string.is_null() {
            return strings;
        }
        // SAFETY: the caller's promise.
        strings.push(unsafe { CStr::from_ptr(string) });
        // SAFETY: this was not the end, so there is another element.
        vector = unsafe { vector.add(1) };
    }
}
