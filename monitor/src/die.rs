//! Ending as the guest ended: by the same signal, so that whoever waits for Endo sees it.

/// Ends this process by the default action of a signal. Returns a status to exit with only if the signal's default
/// action does not end a process.
pub fn die_of(signal: i32) -> i32 {
    // SAFETY: the default action needs nothing of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut set = core::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is large enough for the call to fill.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` has been initialised; a bad number is an error, not undefined.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: no precondition. The signal becomes pending if it is blocked, and ends the process if not.
    unsafe { libc::raise(signal) };
    // SAFETY: `set` has been initialised; the old mask is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), core::ptr::null_mut()) };
    128 + signal
}
