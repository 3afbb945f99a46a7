//! A net below Syscall User Dispatch that nobody can take away: a seccomp filter by instruction pointer.
//!
//! No system call made in the guest's window reaches the kernel, nor one of the vsyscall page, which dispatch does not see;
//! all code of Endo's lies above the window. The filter names no address of this process, so that it fits the endo of
//! an exec as well, which finds it there and adds no second one.

use std::io;

use super::window;

/// No system call: asked for it, the filter answers [`ANSWER`], and a kernel without the filter ENOSYS.
const QUESTION: u32 = 0x0e0d_0001;
const ANSWER: i32 = 1201;

/// `AUDIT_ARCH_X86_64` (linux/audit.h).
const ARCHITECTURE: u32 = 0xc000_003e;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const POINTER_HIGH: u32 = 12;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn row(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The program; jumps count rows from the next one.
const PROGRAM: [libc::sock_filter; 10] = [
    row(LOAD, NUMBER, 0, 0),
    row(JUMP_EQUAL, QUESTION, 6, 0),
    row(LOAD, ARCH, 0, 0),
    row(JUMP_EQUAL, ARCHITECTURE, 0, 3),
    row(LOAD, POINTER_HIGH, 0, 0),
    row(JUMP_GREATER, (1 << 31) - 1, 1, 0),
    row(JUMP_GREATER, (window::END >> 32) as u32, 2, 0),
    row(RETURN, libc::SECCOMP_RET_TRAP, 0, 0),
    row(RETURN, libc::SECCOMP_RET_ERRNO | ANSWER as u32, 0, 0),
    row(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
];

/// Spreads the net under all threads of the process, if it is not there. Without the right to do so alone, the process gives up
/// gaining privileges by exec, which it does not under Endo anyway.
pub(super) fn spread() -> io::Result<()> {
    if is_there() || install().is_ok() {
        return Ok(());
    }
    // SAFETY: no pointer is passed.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_usize, 0_usize, 0_usize, 0_usize) };
    install()
}

fn is_there() -> bool {
    // SAFETY: there is no such call.
    let answer = unsafe { libc::syscall(i64::from(QUESTION)) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(ANSWER)
}

fn install() -> io::Result<()> {
    let mut program = PROGRAM;
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program.
    let status = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(number: u32, arch: u32, pointer: u64) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let row = PROGRAM[at];
            at += 1;
            match (row.code, row.k) {
                (LOAD, NUMBER) => loaded = number,
                (LOAD, ARCH) => loaded = arch,
                (LOAD, _) => loaded = (pointer >> 32) as u32,
                (RETURN, verdict) => return verdict,
                (JUMP_EQUAL, k) => at += usize::from(if loaded == k { row.jt } else { row.jf }),
                (_, k) => at += usize::from(if loaded >= k { row.jt } else { row.jf }),
            }
        }
    }

    #[test]
    fn calls_of_the_window_and_of_the_vsyscall_page_are_caught() {
        for pointer in [0x1000, 0x40_1000, 0x7fff_f000, window::END - 1, 0xffff_ffff_ff60_0000] {
            assert_eq!(verdict(39, ARCHITECTURE, pointer), libc::SECCOMP_RET_TRAP, "{pointer:#x}");
        }
    }

    #[test]
    fn calls_of_endo_pass_and_those_of_32_bit_code_do_not() {
        for pointer in [window::END, 0x2aaa_aaaa_a000, 0x5555_5555_4000, 0x7fff_f7fc_1000] {
            assert_eq!(verdict(39, ARCHITECTURE, pointer), libc::SECCOMP_RET_ALLOW, "{pointer:#x}");
            assert_eq!(verdict(39, 0x4000_0003, pointer), libc::SECCOMP_RET_TRAP, "{pointer:#x}");
        }
    }

    #[test]
    fn the_filter_says_that_it_is_there() {
        let answer = libc::SECCOMP_RET_ERRNO | ANSWER as u32;
        assert_eq!(verdict(QUESTION, ARCHITECTURE, 0x7fff_0000_0000), answer);
    }
}
