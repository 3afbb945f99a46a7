//! Which function answers which call of the classes *check* and *emulate*.
#![deny(unsafe_code)]

use endo_core::{IsolationBackend, SyscallMonitor};

use super::table::Call;
use super::{
    arch, descriptors, fcntl, files, futex, ioctl, ipc, limits, memory, open, poll, prctl, remote, sockets,
};
use crate::errno::{Errno, SyscallResult};
use crate::process::calls as process;
use crate::signal::calls as signal;
use crate::thread::Thread;

macro_rules! handlers {
    ($($module:ident: $($call:ident)*;)*) => {
        /// Carries out a call that has a handler.
        pub(super) fn call<B: IsolationBackend, M: SyscallMonitor>(
            thread: &mut Thread<'_, B, M>,
            call: Call,
            arguments: [u64; 6],
        ) -> SyscallResult {
            match call {
                $($(Call::$call => $module::$call(thread, arguments),)*)*
                _ => Err(Errno::ENOSYS),
            }
        }

        /// The calls that have a handler.
        #[cfg(test)]
        pub(super) const HANDLED: &[Call] = &[$($(Call::$call,)*)*];
    };
}

handlers! {
    memory: mmap mprotect munmap brk mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall pkey_mprotect;
    files: stat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64;
    open: open openat openat2 creat;
    descriptors: close_range vmsplice;
    fcntl: fcntl;
    ioctl: ioctl;
    poll: poll ppoll select pselect6 epoll_pwait epoll_pwait2;
    futex: futex futex_waitv futex_requeue;
    sockets: bind connect accept accept4 getsockname getpeername sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg setsockopt getsockopt;
    ipc: shmat shmdt shmctl semctl msgsnd msgrcv msgctl;
    remote: process_vm_readv process_vm_writev;
    limits: getrlimit setrlimit prlimit64 sysinfo sched_setattr;
    prctl: prctl personality unshare;
    arch: arch_prctl;
    process: clone clone3 fork vfork execve execveat exit exit_group wait4 waitid set_tid_address set_robust_list get_robust_list;
    signal: rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend rt_sigreturn
        sigaltstack pidfd_send_signal;
}

#[cfg(test)]
mod tests {
    use super::super::table::{Class, ROWS};
    use super::*;

    #[test]
    fn every_row_that_needs_a_handler_has_one() {
        let needs = ROWS.iter().filter(|row| matches!(row.class, Class::Check | Class::Emulate));
        let handled: Vec<_> = HANDLED.iter().map(|call| call.row().name).collect();
        let missing: Vec<_> = needs.map(|row| row.name).filter(|name| !handled.contains(name)).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn no_handler_is_left_out_of_the_table() {
        let is_idle = |row: &super::super::table::Row| matches!(row.class, Class::Pass | Class::Deny(_));
        let idle: Vec<_> = HANDLED.iter().map(|call| call.row()).filter(|row| is_idle(row)).collect();
        assert!(idle.is_empty(), "{idle:?}");
    }
}
