//! Lines for what should not happen.

/// Writes one line to standard error. What `eprintln` calls may use vector registers that the guest still holds, so the
/// line goes to the kernel directly.
pub fn report(message: core::fmt::Arguments<'_>) {
    let line = format!("endo: {message}\n");
    // SAFETY: the line is valid for its length. A line that cannot be written is lost.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}
