//! Names of constants in trace lines.

use super::ioctl;
use super::table::Names;
use crate::errno::Errno;

/// Constants that are bits: what is left over is shown as a number.
type Bits = &'static [(u64, &'static str)];

macro_rules! named {
    ($($name:ident)*) => { &[$((libc::$name as u64, stringify!($name))),*] };
}

const OPEN: Bits = named! {
    O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_ASYNC O_DIRECT O_TMPFILE O_DIRECTORY O_NOFOLLOW
    O_NOATIME O_CLOEXEC O_PATH
};
const PROT: Bits = named! { PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP };
const MAP: Bits = named! {
    MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK
    MAP_HUGETLB MAP_SYNC MAP_FIXED_NOREPLACE
};
const MREMAP: Bits = named! { MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP };
const AT: Bits = named! {
    AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH
};
const ACCESS: Bits = named! { R_OK W_OK X_OK };
const CLOCK: Bits = named! {
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_TAI
};
const EPOLL_OP: Bits = named! { EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD };
const FAMILY: Bits = named! { AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK };
const SOCK_TYPE: Bits = named! { SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET };
const SOCK_FLAGS: Bits = named! { SOCK_NONBLOCK SOCK_CLOEXEC };
const FCNTL: Bits = named! {
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW
    F_SETLEASE F_GETLEASE F_NOTIFY F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS
};
const FUTEX: Bits = named! {
    FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI
    FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI
};
const FUTEX_FLAGS: Bits = named! { FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME };
const MADVISE: Bits = named! {
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK MADV_DOFORK
    MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP MADV_WIPEONFORK
    MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE MADV_COLLAPSE
};
const PRCTL: Bits = named! {
    PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME PR_GET_SECCOMP PR_SET_SECCOMP
    PR_CAPBSET_READ PR_CAPBSET_DROP PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_MM PR_SET_CHILD_SUBREAPER
    PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_SET_THP_DISABLE PR_CAP_AMBIENT PR_SET_VMA
};
const RESOURCE: Bits = named! {
    RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK
    RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME
};
const WHENCE: Bits = named! { SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE };
const SIGNAL: Bits = named! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM
    SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO
    SIGPWR SIGSYS
};
const FILE_TYPE: Bits = named! { S_IFREG S_IFDIR S_IFCHR S_IFBLK S_IFIFO S_IFLNK S_IFSOCK };

/// A value of one of the table's sets.
pub(super) fn flags(set: Names, value: u64) -> String {
    let value = u64::from(value as u32);
    match set {
        Names::Open => open_flags(value),
        Names::Prot => bits(PROT, value, "PROT_NONE"),
        Names::Map => map_flags(value),
        Names::Mremap => bits(MREMAP, value, "0"),
        Names::At => bits(AT, value, "0"),
        Names::Access => bits(ACCESS, value, "F_OK"),
        Names::Clock => one(CLOCK, value),
        Names::EpollOp => one(EPOLL_OP, value),
        Names::Family => one(FAMILY, value),
        Names::SockType => split(SOCK_TYPE, SOCK_FLAGS, value),
        Names::Fcntl => one(FCNTL, value),
        Names::Futex => split(FUTEX, FUTEX_FLAGS, value),
        Names::Ioctl => {
            ioctl::request_name(value as u32).map_or_else(|| format!("{value:#x}"), str::to_owned)
        }
        Names::Madvise => one(MADVISE, value),
        Names::Prctl => one(PRCTL, value),
        Names::Resource => one(RESOURCE, value),
        Names::Whence => one(WHENCE, value),
    }
}

/// A directory's descriptor.
pub(super) fn directory(fd: i32) -> String {
    if fd == libc::AT_FDCWD { "AT_FDCWD".to_owned() } else { fd.to_string() }
}

/// A signal's name.
pub(super) fn signal(number: i32) -> String {
    match number {
        32..=64 => format!("SIGRT_{}", number - 32),
        _ => one(SIGNAL, number as u64),
    }
}

/// A file's type and permissions.
pub(super) fn file_mode(mode: u32) -> String {
    let kind = one(FILE_TYPE, u64::from(mode & libc::S_IFMT));
    format!("{kind}|0{:o}", mode & !libc::S_IFMT)
}

/// What perror(3) says.
pub(super) fn error_text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.0).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn open_flags(value: u64) -> String {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize];
    join(access, OPEN, value & !3)
}

fn map_flags(value: u64) -> String {
    let sharing = match value & 0xf {
        1 => "MAP_SHARED",
        2 => "MAP_PRIVATE",
        3 => "MAP_SHARED_VALIDATE",
        _ => "0",
    };
    join(sharing, MAP, value & !0xf)
}

fn split(values: Bits, flags: Bits, value: u64) -> String {
    let flag_bits = flags.iter().fold(0, |all, &(bit, _)| all | bit);
    join(&one(values, value & !flag_bits), flags, value & flag_bits)
}

fn join(first: &str, names: Bits, value: u64) -> String {
    if value == 0 { first.to_owned() } else { format!("{first}|{}", bits(names, value, "0")) }
}

fn one(names: Bits, value: u64) -> String {
    let name = names.iter().find(|&&(known, _)| known == value).map(|&(_, name)| name);
    name.map_or_else(|| format!("{value:#x}"), str::to_owned)
}

fn bits(names: Bits, mut value: u64, zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let mut shown = Vec::new();
    for &(bit, name) in names {
        if bit != 0 && value & bit == bit {
            shown.push(name.to_owned());
            value &= !bit;
        }
    }
    if value != 0 {
        shown.push(format!("{value:#x}"));
    }
    shown.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_their_c_names() {
        assert_eq!(
            flags(Names::Open, (libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC) as u64),
            "O_RDWR|O_CREAT|O_CLOEXEC"
        );
        assert_eq!(flags(Names::Map, 0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(flags(Names::Prot, 0), "PROT_NONE");
        assert_eq!(flags(Names::Futex, 0x80), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
        assert_eq!(flags(Names::Whence, 77), "0x4d");
    }

    #[test]
    fn errors_read_as_perror_says() {
        assert_eq!(error_text(Errno::ENOENT), "No such file or directory");
    }
}
