//! What a siginfo says, in trace lines (include/uapi/asm-generic/siginfo.h).

use std::fmt::Write as _;

use super::trace_names as names;
use crate::signal::{SigInfo, Signal};

/// Codes that mean the same for every signal.
const COMMON: &[(i32, &str)] = &[
    (0, "SI_USER"),
    (0x80, "SI_KERNEL"),
    (-1, "SI_QUEUE"),
    (-2, "SI_TIMER"),
    (-3, "SI_MESGQ"),
    (-4, "SI_ASYNCIO"),
    (-5, "SI_SIGIO"),
    (-6, "SI_TKILL"),
];

/// Codes 1, 2, 3… of one signal.
const OWN: &[(i32, &[&str])] = &[
    (libc::SIGSEGV, &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"]),
    (libc::SIGBUS, &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"]),
    (
        libc::SIGFPE,
        &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
    ),
    (libc::SIGILL, &["ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC"]),
    (libc::SIGTRAP, &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"]),
    (
        libc::SIGCHLD,
        &["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"],
    ),
    (libc::SIGIO, &["POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"]),
];

/// `SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=1, si_uid=0}`.
pub(super) fn signal(info: &SigInfo) -> String {
    let number = info.signal().map_or(0, Signal::number);
    let (name, code) = (names::signal(number), info.code());
    let mut text = format!("{name} {{si_signo={name}, si_code={}", code_name(number, code));
    add_fields(&mut text, info, number, code);
    text.push('}');
    text
}

fn code_name(number: i32, code: i32) -> String {
    let common = COMMON.iter().find(|&&(known, _)| known == code).map(|&(_, name)| name);
    let own = OWN.iter().find(|&&(signal, _)| signal == number).and_then(|&(_, codes)| {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        codes.get(index).copied()
    });
    common.or(own).map_or_else(|| format!("{code:#x}"), str::to_owned)
}

/// The rest of the structure: which of its forms it has, signal and code tell.
fn add_fields(text: &mut String, info: &SigInfo, number: i32, code: i32) {
    const FIRST: usize = 16;
    let word = |index: usize| info.i32_at(FIRST + index * 4);
    let long = |index: usize| u64::from(word(index) as u32) | u64::from(word(index + 1) as u32) << 32;
    let pointer = |value| if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") };
    let is_fault =
        matches!(number, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
    // A string takes what is written to it.
    let _ = match code {
        -2 => write!(text, ", si_timerid={}, si_overrun={}", word(0), word(1)),
        1.. if number == libc::SIGCHLD => write!(
            text,
            ", si_pid={}, si_uid={}, si_status={}, si_utime={}, si_stime={}",
            word(0),
            word(1),
            child_status(code, word(2)),
            long(4),
            long(6)
        ),
        1.. if number == libc::SIGIO => write!(text, ", si_band={}, si_fd={}", long(0), word(2)),
        1.. if is_fault => write!(text, ", si_addr={}", pointer(long(0))),
        1.. => Ok(()),
        _ => write!(text, ", si_pid={}, si_uid={}", word(0), word(1)),
    };
    let has_value = matches!(code, -5..=-1) && long(2) != 0;
    if has_value {
        let _ = write!(text, ", si_int={}, si_ptr={}", word(2), pointer(long(2)));
    }
}

/// An exit status, or the signal that ended, stopped or continued the child.
fn child_status(code: i32, status: i32) -> String {
    const EXITED: i32 = 1;
    if code == EXITED { status.to_string() } else { names::signal(status) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use endo_core::GuestAddr;

    fn of_words(number: i32, code: i32, words: &[i32]) -> String {
        let mut bytes = [0; SigInfo::SIZE];
        let mut put = |at: usize, value: i32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, number);
        put(8, code);
        words.iter().enumerate().for_each(|(index, &word)| put(16 + index * 4, word));
        signal(&SigInfo::from_bytes(bytes))
    }

    #[test]
    fn a_sender_is_named() {
        let expected = "SIGUSR1 {si_signo=SIGUSR1, si_code=SI_TKILL, si_pid=12, si_uid=3}";
        assert_eq!(of_words(libc::SIGUSR1, -6, &[12, 3]), expected);
    }

    #[test]
    fn a_queued_value_is_shown() {
        let expected =
            "SIGRT_5 {si_signo=SIGRT_5, si_code=SI_QUEUE, si_pid=12, si_uid=0, si_int=11, si_ptr=0xb}";
        assert_eq!(of_words(37, -1, &[12, 0, 11]), expected);
    }

    #[test]
    fn a_childs_end_is_told() {
        let text = of_words(libc::SIGCHLD, 2, &[12, 0, libc::SIGTERM]);
        assert!(text.contains("si_code=CLD_KILLED, si_pid=12, si_uid=0, si_status=SIGTERM,"), "{text}");
    }

    #[test]
    fn a_fault_has_an_address() {
        let info = SigInfo::about_address(Signal::SEGV, 1, GuestAddr(0x8));
        let expected = "SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x8}";
        assert_eq!(signal(&info), expected);
    }
}
