//! The one table of all system calls.
//!
//! A row says what a call is named, its numbers, who answers it and what its arguments are. Dispatch, the checks of
//! pointers, trace lines, fast paths and docs/capabilities.md derive from it. A number without a row is ENOSYS.
//!
//! Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl as of Linux 6.18. The file stands alone, so that
//! build scripts can include it.

use Kind::*;
use Names::*;
use Type::*;

/// Who answers a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The kernel, once every pointer and descriptor is found to be the caller's.
    Pass,
    /// The kernel, after a handler of its own looked at the arguments.
    Check,
    /// The monitor.
    Emulate,
    /// Nobody: it fails with this errno.
    Deny(i32),
}

/// What an argument is. An index names the argument that holds the number of bytes or elements.
///
/// A null pointer goes to the kernel as it is: it means "none" there, or EFAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub enum Kind {
    /// A signed 32-bit number.
    Int,
    /// A signed 64-bit number, or one that only the call's handler understands.
    Long,
    /// A 32-bit set of bits without names here.
    Hex,
    /// A number of bytes or elements.
    Size,
    /// A file offset.
    Offset,
    /// File permissions.
    Mode,
    /// A process, thread or group id.
    Pid,
    /// A signal number.
    Signal,
    /// A named constant or set of them.
    Flags(Names),
    /// A descriptor.
    Fd,
    /// A descriptor, or -1.
    FdOrNone,
    /// A directory's descriptor, or `AT_FDCWD`.
    DirFd,
    /// A path: at most 4096 bytes with the final zero.
    Path,
    /// Another zero-terminated string: a name or a symbolic link's text.
    Text,
    /// One value that the kernel reads.
    In(Type),
    /// One value that the kernel writes.
    Out(Type),
    /// One value that the kernel reads and writes.
    InOut(Type),
    /// Values that the kernel reads.
    InArray(Type, usize),
    /// Values that the kernel writes.
    OutArray(Type, usize),
    /// Values that the kernel reads and writes.
    InOutArray(Type, usize),
    /// Bytes that the kernel reads.
    InBytes(usize),
    /// Bytes that the kernel writes.
    OutBytes(usize),
    /// An iovec array whose buffers the kernel reads.
    InVec(usize),
    /// An iovec array whose buffers the kernel writes.
    OutVec(usize),
    /// A msghdr to be sent.
    MsgIn,
    /// A msghdr to be filled.
    MsgOut,
    /// A socket address that the kernel reads.
    SockAddr(usize),
    /// A set of signals that the kernel reads; the index is of its size in bytes.
    SigSet(usize),
    /// A set of descriptors as `select` has it; as long as argument 0 says.
    FdSet,
    /// An address whose memory only the call's handler knows how to treat.
    Address,
    /// Not looked at by the kernel.
    Unused,
}

/// An enum whose variants' names say all there is to say.
macro_rules! named {
    ($(#[$attribute:meta])* pub enum $enum:ident { $($name:ident),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $enum { $(#[doc = concat!("`", stringify!($name), "`")] $name),* }
    };
}

#[rustfmt::skip]
named! {
/// The fixed-size types of the kernel's interface: the names are the C types'.
pub enum Type {
    I32, U32, I64, U64, IntPair, Timespec, TimespecPair, Timeval, TimevalPair, Timezone, Itimerval, Itimerspec, Timex, Tms, Stat, Statx,
    Statfs, Ustat, Utimbuf, Rlimit, Rusage, Utsname, Sysinfo, Pollfd, EpollEvent, Sembuf, MqAttr, Siginfo, Sigevent, StackT,
    CapHeader, CapData, CachestatRange, Cachestat,
}
}

impl Type {
    /// Bytes of one value.
    pub const fn size(self) -> u64 {
        self.size_on(cfg!(target_arch = "x86_64"))
    }

    /// Bytes of one value on x86-64, or on aarch64.
    pub const fn size_on(self, is_x86: bool) -> u64 {
        match self {
            I32 | U32 => 4,
            I64 | U64 | IntPair | Pollfd | Timezone | CapHeader => 8,
            Timespec | Timeval | Utimbuf | Rlimit | CachestatRange => 16,
            TimespecPair | TimevalPair | Itimerval | Itimerspec | Tms | Ustat => 32,
            Timex => 208,
            Stat => {
                if is_x86 {
                    144
                } else {
                    128
                }
            }
            Statx => 256,
            Statfs => 120,
            Rusage => 144,
            Utsname => 390,
            Sysinfo => 112,
            EpollEvent => {
                if is_x86 {
                    12
                } else {
                    16
                }
            }
            Sembuf => 6,
            MqAttr | Sigevent => 64,
            Siginfo => 128,
            StackT | CapData => 24,
            Cachestat => 40,
        }
    }
}

#[rustfmt::skip]
named! {
/// Sets of named constants.
pub enum Names {
    Access, At, Clock, EpollOp, Family, Fcntl, Futex, Ioctl, Madvise, Map, Mremap, Open, Prctl, Prot, Resource, SockType, Whence,
}
}

/// One system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// As the kernel's tables name it.
    pub name: &'static str,
    /// Its number on x86-64, if it exists there.
    pub x86_64: Option<u32>,
    /// Its number on aarch64, if it exists there.
    pub aarch64: Option<u32>,
    /// Who answers it.
    pub class: Class,
    /// What its arguments are.
    pub arguments: &'static [Kind],
}

impl Row {
    /// Its number on the architecture this is compiled for.
    pub const fn number(&self) -> Option<u32> {
        if cfg!(target_arch = "aarch64") { self.aarch64 } else { self.x86_64 }
    }
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// One more than the highest number that a row has.
pub const NUMBERS: usize = 470;

macro_rules! number {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

/// Rows are: x86-64 number, aarch64 number, name, class, argument kinds.
macro_rules! table {
    ($($x86_64:tt $aarch64:tt $name:ident $class:ident $(($errno:ident))? [$($kind:expr),*])*) => {
        /// A system call, by name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(non_camel_case_types, reason = "the names are the kernel's")]
        #[repr(u16)]
        pub enum Call { $(#[doc = concat!("`", stringify!($name), "`")] $name,)* }

        /// All rows, in the order of [`Call`].
        pub const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            x86_64: number!($x86_64),
            aarch64: number!($aarch64),
            class: Class::$class $(($errno))?,
            arguments: &[$($kind),*],
        },)*];

        const CALLS: &[Call] = &[$(Call::$name,)*];
    };
}

impl Call {
    /// The call of this number on the architecture this is compiled for.
    pub fn from_number(number: u32) -> Option<Call> {
        static BY_NUMBER: [Option<Call>; NUMBERS] = by_number();
        *BY_NUMBER.get(number as usize)?
    }

    /// What the table says about it.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

const fn by_number() -> [Option<Call>; NUMBERS] {
    let mut calls = [None; NUMBERS];
    let mut index = 0;
    while index < ROWS.len() {
        if let Some(number) = ROWS[index].number() {
            calls[number as usize] = Some(CALLS[index]);
        }
        index += 1;
    }
    calls
}

#[rustfmt::skip]
table! {
    // x86  arm
       0   63 read                     Pass           [Fd, OutBytes(2), Size]
       1   64 write                    Pass           [Fd, InBytes(2), Size]
       2    - open                     Check          [Path, Flags(Open), Mode]
       3   57 close                    Pass           [Fd]
       4    - stat                     Check          [Path, Out(Stat)]
       5   80 fstat                    Pass           [Fd, Out(Stat)]
       6    - lstat                    Pass           [Path, Out(Stat)]
       7    - poll                     Check          [InOutArray(Pollfd, 1), Size, Int]
       8   62 lseek                    Pass           [Fd, Offset, Flags(Whence)]
       9  222 mmap                     Emulate        [Address, Size, Flags(Prot), Flags(Map), FdOrNone, Offset]
      10  226 mprotect                 Emulate        [Address, Size, Flags(Prot)]
      11  215 munmap                   Emulate        [Address, Size]
      12  214 brk                      Emulate        [Address]
      13  134 rt_sigaction             Emulate        [Signal, Address, Address, Size]
      14  135 rt_sigprocmask           Emulate        [Int, SigSet(3), Address, Size]
      15  139 rt_sigreturn             Emulate        []
      16   29 ioctl                    Check          [Fd, Flags(Ioctl), Long]
      17   67 pread64                  Pass           [Fd, OutBytes(2), Size, Offset]
      18   68 pwrite64                 Pass           [Fd, InBytes(2), Size, Offset]
      19   65 readv                    Pass           [Fd, OutVec(2), Int]
      20   66 writev                   Pass           [Fd, InVec(2), Int]
      21    - access                   Check          [Path, Flags(Access)]
      22    - pipe                     Pass           [Out(IntPair)]
      23    - select                   Check          [Int, FdSet, FdSet, FdSet, InOut(Timeval)]
      24  124 sched_yield              Pass           []
      25  216 mremap                   Emulate        [Address, Size, Size, Flags(Mremap), Address]
      26  227 msync                    Emulate        [Address, Size, Hex]
      27  232 mincore                  Emulate        [Address, Size, Address]
      28  233 madvise                  Emulate        [Address, Size, Flags(Madvise)]
      29  194 shmget                   Pass           [Int, Size, Hex]
      30  196 shmat                    Emulate        [Int, Address, Hex]
      31  195 shmctl                   Check          [Int, Int, Address]
      32   23 dup                      Pass           [Fd]
      33    - dup2                     Pass           [Fd, Fd]
      34    - pause                    Pass           []
      35  101 nanosleep                Pass           [In(Timespec), Out(Timespec)]
      36  102 getitimer                Pass           [Int, Out(Itimerval)]
      37    - alarm                    Pass           [Int]
      38  103 setitimer                Pass           [Int, In(Itimerval), Out(Itimerval)]
      39  172 getpid                   Pass           []
      40   71 sendfile                 Pass           [Fd, Fd, InOut(I64), Size]
      41  198 socket                   Pass           [Flags(Family), Flags(SockType), Int]
      42  203 connect                  Check          [Fd, SockAddr(2), Int]
      43  202 accept                   Check          [Fd, Address, Address]
      44  206 sendto                   Check          [Fd, InBytes(2), Size, Hex, SockAddr(5), Int]
      45  207 recvfrom                 Check          [Fd, OutBytes(2), Size, Hex, Address, Address]
      46  211 sendmsg                  Check          [Fd, MsgIn, Hex]
      47  212 recvmsg                  Check          [Fd, MsgOut, Hex]
      48  210 shutdown                 Pass           [Fd, Int]
      49  200 bind                     Check          [Fd, SockAddr(2), Int]
      50  201 listen                   Pass           [Fd, Int]
      51  204 getsockname              Check          [Fd, Address, Address]
      52  205 getpeername              Check          [Fd, Address, Address]
      53  199 socketpair               Pass           [Flags(Family), Flags(SockType), Int, Out(IntPair)]
      54  208 setsockopt               Check          [Fd, Int, Int, InBytes(4), Int]
      55  209 getsockopt               Check          [Fd, Int, Int, Address, Address]
      56  220 clone                    Emulate        [Hex, Address, Address, Address, Address]
      57    - fork                     Emulate        []
      58    - vfork                    Emulate        []
      59  221 execve                   Emulate        [Path, Address, Address]
      60   93 exit                     Emulate        [Int]
      61  260 wait4                    Emulate        [Pid, Out(I32), Hex, Out(Rusage)]
      62  129 kill                     Pass           [Pid, Signal]
      63  160 uname                    Pass           [Out(Utsname)]
      64  190 semget                   Pass           [Int, Int, Hex]
      65  193 semop                    Pass           [Int, InArray(Sembuf, 2), Size]
      66  191 semctl                   Check          [Int, Int, Int, Long]
      67  197 shmdt                    Emulate        [Address]
      68  186 msgget                   Pass           [Int, Hex]
      69  189 msgsnd                   Check          [Int, Address, Size, Hex]
      70  188 msgrcv                   Check          [Int, Address, Size, Long, Hex]
      71  187 msgctl                   Check          [Int, Int, Address]
      72   25 fcntl                    Check          [Fd, Flags(Fcntl), Long]
      73   32 flock                    Pass           [Fd, Int]
      74   82 fsync                    Pass           [Fd]
      75   83 fdatasync                Pass           [Fd]
      76   45 truncate                 Pass           [Path, Offset]
      77   46 ftruncate                Pass           [Fd, Offset]
      78    - getdents                 Check          [Fd, OutBytes(2), Size]
      79   17 getcwd                   Pass           [OutBytes(1), Size]
      80   49 chdir                    Pass           [Path]
      81   50 fchdir                   Pass           [Fd]
      82    - rename                   Pass           [Path, Path]
      83    - mkdir                    Pass           [Path, Mode]
      84    - rmdir                    Pass           [Path]
      85    - creat                    Check          [Path, Mode]
      86    - link                     Pass           [Path, Path]
      87    - unlink                   Pass           [Path]
      88    - symlink                  Pass           [Text, Path]
      89    - readlink                 Check          [Path, OutBytes(2), Size]
      90    - chmod                    Pass           [Path, Mode]
      91   52 fchmod                   Pass           [Fd, Mode]
      92    - chown                    Pass           [Path, Int, Int]
      93   55 fchown                   Pass           [Fd, Int, Int]
      94    - lchown                   Pass           [Path, Int, Int]
      95  166 umask                    Pass           [Mode]
      96  169 gettimeofday             Pass           [Out(Timeval), Out(Timezone)]
      97  163 getrlimit                Check          [Flags(Resource), Out(Rlimit)]
      98  165 getrusage                Pass           [Int, Out(Rusage)]
      99  179 sysinfo                  Check          [Out(Sysinfo)]
     100  153 times                    Pass           [Out(Tms)]
     101  117 ptrace                   Deny(EPERM)    [Long, Pid, Address, Address]
     102  174 getuid                   Pass           []
     103  116 syslog                   Pass           [Int, OutBytes(2), Int]
     104  176 getgid                   Pass           []
     105  146 setuid                   Pass           [Int]
     106  144 setgid                   Pass           [Int]
     107  175 geteuid                  Pass           []
     108  177 getegid                  Pass           []
     109  154 setpgid                  Pass           [Pid, Pid]
     110  173 getppid                  Pass           []
     111    - getpgrp                  Pass           []
     112  157 setsid                   Pass           []
     113  145 setreuid                 Pass           [Int, Int]
     114  143 setregid                 Pass           [Int, Int]
     115  158 getgroups                Pass           [Int, OutArray(U32, 0)]
     116  159 setgroups                Pass           [Int, InArray(U32, 0)]
     117  147 setresuid                Pass           [Int, Int, Int]
     118  148 getresuid                Pass           [Out(U32), Out(U32), Out(U32)]
     119  149 setresgid                Pass           [Int, Int, Int]
     120  150 getresgid                Pass           [Out(U32), Out(U32), Out(U32)]
     121  155 getpgid                  Pass           [Pid]
     122  151 setfsuid                 Pass           [Int]
     123  152 setfsgid                 Pass           [Int]
     124  156 getsid                   Pass           [Pid]
     125   90 capget                   Pass           [InOut(CapHeader), Out(CapData)]
     126   91 capset                   Pass           [In(CapHeader), In(CapData)]
     127  136 rt_sigpending            Emulate        [Address, Size]
     128  137 rt_sigtimedwait          Emulate        [SigSet(3), Out(Siginfo), In(Timespec), Size]
     129  138 rt_sigqueueinfo          Emulate        [Pid, Signal, In(Siginfo)]
     130  133 rt_sigsuspend            Emulate        [SigSet(1), Size]
     131  132 sigaltstack              Emulate        [In(StackT), Out(StackT)]
     132    - utime                    Pass           [Path, In(Utimbuf)]
     133    - mknod                    Pass           [Path, Mode, Hex]
     134    - uselib                   Deny(ENOSYS)   [Path]
     135   92 personality              Check          [Hex]
     136    - ustat                    Pass           [Int, Out(Ustat)]
     137   43 statfs                   Pass           [Path, Out(Statfs)]
     138   44 fstatfs                  Pass           [Fd, Out(Statfs)]
     139    - sysfs                    Deny(ENOSYS)   [Int, Long, Long]
     140  141 getpriority              Pass           [Int, Int]
     141  140 setpriority              Pass           [Int, Int, Int]
     142  118 sched_setparam           Pass           [Pid, In(I32)]
     143  121 sched_getparam           Pass           [Pid, Out(I32)]
     144  119 sched_setscheduler       Pass           [Pid, Int, In(I32)]
     145  120 sched_getscheduler       Pass           [Pid]
     146  125 sched_get_priority_max   Pass           [Int]
     147  126 sched_get_priority_min   Pass           [Int]
     148  127 sched_rr_get_interval    Pass           [Pid, Out(Timespec)]
     149  228 mlock                    Emulate        [Address, Size]
     150  229 munlock                  Emulate        [Address, Size]
     151  230 mlockall                 Emulate        [Hex]
     152  231 munlockall               Emulate        []
     153   58 vhangup                  Deny(EPERM)    []
     154    - modify_ldt               Deny(ENOSYS)   [Int, Address, Size]
     155   41 pivot_root               Deny(EPERM)    [Path, Path]
     156    - _sysctl                  Deny(ENOSYS)   [Address]
     157  167 prctl                    Check          [Flags(Prctl), Long, Long, Long, Long]
     158    - arch_prctl               Emulate        [Hex, Address]
     159  171 adjtimex                 Pass           [InOut(Timex)]
     160  164 setrlimit                Check          [Flags(Resource), In(Rlimit)]
     161   51 chroot                   Deny(EPERM)    [Path]
     162   81 sync                     Pass           []
     163   89 acct                     Deny(EPERM)    [Path]
     164  170 settimeofday             Deny(EPERM)    [In(Timeval), In(Timezone)]
     165   40 mount                    Deny(EPERM)    [Path, Path, Text, Hex, Address]
     166   39 umount2                  Deny(EPERM)    [Path, Hex]
     167  224 swapon                   Deny(EPERM)    [Path, Hex]
     168  225 swapoff                  Deny(EPERM)    [Path]
     169  142 reboot                   Deny(EPERM)    [Hex, Hex, Hex, Address]
     170  161 sethostname              Deny(EPERM)    [InBytes(1), Size]
     171  162 setdomainname            Deny(EPERM)    [InBytes(1), Size]
     172    - iopl                     Deny(EPERM)    [Int]
     173    - ioperm                   Deny(EPERM)    [Size, Size, Int]
     174    - create_module            Deny(ENOSYS)   []
     175  105 init_module              Deny(EPERM)    [Address, Size, Text]
     176  106 delete_module            Deny(EPERM)    [Text, Hex]
     177    - get_kernel_syms          Deny(ENOSYS)   []
     178    - query_module             Deny(ENOSYS)   []
     179   60 quotactl                 Deny(EPERM)    [Hex, Path, Int, Address]
     180   42 nfsservctl               Deny(ENOSYS)   []
     181    - getpmsg                  Deny(ENOSYS)   []
     182    - putpmsg                  Deny(ENOSYS)   []
     183    - afs_syscall              Deny(ENOSYS)   []
     184    - tuxcall                  Deny(ENOSYS)   []
     185    - security                 Deny(ENOSYS)   []
     186  178 gettid                   Pass           []
     187  213 readahead                Pass           [Fd, Offset, Size]
     188    5 setxattr                 Pass           [Path, Text, InBytes(3), Size, Hex]
     189    6 lsetxattr                Pass           [Path, Text, InBytes(3), Size, Hex]
     190    7 fsetxattr                Pass           [Fd, Text, InBytes(3), Size, Hex]
     191    8 getxattr                 Pass           [Path, Text, OutBytes(3), Size]
     192    9 lgetxattr                Pass           [Path, Text, OutBytes(3), Size]
     193   10 fgetxattr                Pass           [Fd, Text, OutBytes(3), Size]
     194   11 listxattr                Pass           [Path, OutBytes(2), Size]
     195   12 llistxattr               Pass           [Path, OutBytes(2), Size]
     196   13 flistxattr               Pass           [Fd, OutBytes(2), Size]
     197   14 removexattr              Pass           [Path, Text]
     198   15 lremovexattr             Pass           [Path, Text]
     199   16 fremovexattr             Pass           [Fd, Text]
     200  130 tkill                    Pass           [Pid, Signal]
     201    - time                     Pass           [Out(I64)]
     202   98 futex                    Check          [InOut(U32), Flags(Futex), Int, Long, Address, Int]
     203  122 sched_setaffinity        Pass           [Pid, Size, InBytes(1)]
     204  123 sched_getaffinity        Pass           [Pid, Size, OutBytes(1)]
     205    - set_thread_area          Deny(ENOSYS)   [Address]
     206    0 io_setup                 Deny(ENOSYS)   [Int, Address]
     207    1 io_destroy               Deny(ENOSYS)   [Address]
     208    4 io_getevents             Deny(ENOSYS)   [Address, Long, Long, Address, Address]
     209    2 io_submit                Deny(ENOSYS)   [Address, Long, Address]
     210    3 io_cancel                Deny(ENOSYS)   [Address, Address, Address]
     211    - get_thread_area          Deny(ENOSYS)   [Address]
     212   18 lookup_dcookie           Deny(ENOSYS)   [Long, Address, Size]
     213    - epoll_create             Pass           [Int]
     214    - epoll_ctl_old            Deny(ENOSYS)   []
     215    - epoll_wait_old           Deny(ENOSYS)   []
     216  234 remap_file_pages         Deny(ENOSYS)   [Address, Size, Hex, Size, Hex]
     217   61 getdents64               Check          [Fd, OutBytes(2), Size]
     218   96 set_tid_address          Emulate        [Address]
     219  128 restart_syscall          Pass           []
     220  192 semtimedop               Pass           [Int, InArray(Sembuf, 2), Size, In(Timespec)]
     221  223 fadvise64                Pass           [Fd, Offset, Size, Int]
     222  107 timer_create             Pass           [Flags(Clock), In(Sigevent), Out(I32)]
     223  110 timer_settime            Pass           [Int, Hex, In(Itimerspec), Out(Itimerspec)]
     224  108 timer_gettime            Pass           [Int, Out(Itimerspec)]
     225  109 timer_getoverrun         Pass           [Int]
     226  111 timer_delete             Pass           [Int]
     227  112 clock_settime            Deny(EPERM)    [Flags(Clock), In(Timespec)]
     228  113 clock_gettime            Pass           [Flags(Clock), Out(Timespec)]
     229  114 clock_getres             Pass           [Flags(Clock), Out(Timespec)]
     230  115 clock_nanosleep          Pass           [Flags(Clock), Hex, In(Timespec), Out(Timespec)]
     231   94 exit_group               Emulate        [Int]
     232    - epoll_wait               Pass           [Fd, OutArray(EpollEvent, 2), Int, Int]
     233   21 epoll_ctl                Pass           [Fd, Flags(EpollOp), Fd, In(EpollEvent)]
     234  131 tgkill                   Pass           [Pid, Pid, Signal]
     235    - utimes                   Pass           [Path, In(TimevalPair)]
     236    - vserver                  Deny(ENOSYS)   []
     237  235 mbind                    Deny(ENOSYS)   [Address, Size, Int, Address, Size, Hex]
     238  237 set_mempolicy            Deny(ENOSYS)   [Int, Address, Size]
     239  236 get_mempolicy            Deny(ENOSYS)   [Address, Address, Size, Address, Hex]
     240  180 mq_open                  Pass           [Text, Flags(Open), Mode, In(MqAttr)]
     241  181 mq_unlink                Pass           [Text]
     242  182 mq_timedsend             Pass           [Fd, InBytes(2), Size, Int, In(Timespec)]
     243  183 mq_timedreceive          Pass           [Fd, OutBytes(2), Size, Out(U32), In(Timespec)]
     244  184 mq_notify                Deny(ENOSYS)   [Fd, Address]
     245  185 mq_getsetattr            Pass           [Fd, In(MqAttr), Out(MqAttr)]
     246  104 kexec_load               Deny(EPERM)    [Address, Size, Address, Hex]
     247   95 waitid                   Emulate        [Int, Pid, Out(Siginfo), Hex, Out(Rusage)]
     248  217 add_key                  Deny(ENOSYS)   [Text, Text, Address, Size, Int]
     249  218 request_key              Deny(ENOSYS)   [Text, Text, Text, Int]
     250  219 keyctl                   Deny(ENOSYS)   [Int, Long, Long, Long, Long]
     251   30 ioprio_set               Pass           [Int, Int, Int]
     252   31 ioprio_get               Pass           [Int, Int]
     253    - inotify_init             Pass           []
     254   27 inotify_add_watch        Pass           [Fd, Path, Hex]
     255   28 inotify_rm_watch         Pass           [Fd, Int]
     256  238 migrate_pages            Deny(ENOSYS)   [Pid, Size, Address, Address]
     257   56 openat                   Check          [DirFd, Path, Flags(Open), Mode]
     258   34 mkdirat                  Pass           [DirFd, Path, Mode]
     259   33 mknodat                  Pass           [DirFd, Path, Mode, Hex]
     260   54 fchownat                 Pass           [DirFd, Path, Int, Int, Flags(At)]
     261    - futimesat                Pass           [DirFd, Path, In(TimevalPair)]
     262   79 newfstatat               Check          [DirFd, Path, Out(Stat), Flags(At)]
     263   35 unlinkat                 Pass           [DirFd, Path, Flags(At)]
     264   38 renameat                 Pass           [DirFd, Path, DirFd, Path]
     265   37 linkat                   Pass           [DirFd, Path, DirFd, Path, Flags(At)]
     266   36 symlinkat                Pass           [Text, DirFd, Path]
     267   78 readlinkat               Check          [DirFd, Path, OutBytes(3), Size]
     268   53 fchmodat                 Pass           [DirFd, Path, Mode]
     269   48 faccessat                Check          [DirFd, Path, Flags(Access)]
     270   72 pselect6                 Check          [Int, FdSet, FdSet, FdSet, InOut(Timespec), Address]
     271   73 ppoll                    Check          [InOutArray(Pollfd, 1), Size, InOut(Timespec), SigSet(4), Size]
     272   97 unshare                  Check          [Hex]
     273   99 set_robust_list          Emulate        [Address, Size]
     274  100 get_robust_list          Emulate        [Pid, Out(U64), Out(U64)]
     275   76 splice                   Pass           [Fd, InOut(I64), Fd, InOut(I64), Size, Hex]
     276   77 tee                      Pass           [Fd, Fd, Size, Hex]
     277   84 sync_file_range          Pass           [Fd, Offset, Size, Hex]
     278   75 vmsplice                 Check          [Fd, InVec(2), Int, Hex]
     279  239 move_pages               Deny(ENOSYS)   [Pid, Size, Address, Address, Address, Hex]
     280   88 utimensat                Pass           [DirFd, Path, In(TimespecPair), Flags(At)]
     281   22 epoll_pwait              Check          [Fd, OutArray(EpollEvent, 2), Int, Int, SigSet(5), Size]
     282    - signalfd                 Pass           [FdOrNone, SigSet(2), Size]
     283   85 timerfd_create           Pass           [Flags(Clock), Hex]
     284    - eventfd                  Pass           [Int]
     285   47 fallocate                Pass           [Fd, Hex, Offset, Offset]
     286   86 timerfd_settime          Pass           [Fd, Hex, In(Itimerspec), Out(Itimerspec)]
     287   87 timerfd_gettime          Pass           [Fd, Out(Itimerspec)]
     288  242 accept4                  Check          [Fd, Address, Address, Flags(Open)]
     289   74 signalfd4                Pass           [FdOrNone, SigSet(2), Size, Flags(Open)]
     290   19 eventfd2                 Pass           [Int, Hex]
     291   20 epoll_create1            Pass           [Hex]
     292   24 dup3                     Pass           [Fd, Fd, Flags(Open)]
     293   59 pipe2                    Pass           [Out(IntPair), Flags(Open)]
     294   26 inotify_init1            Pass           [Hex]
     295   69 preadv                   Pass           [Fd, OutVec(2), Int, Offset, Long]
     296   70 pwritev                  Pass           [Fd, InVec(2), Int, Offset, Long]
     297  240 rt_tgsigqueueinfo        Emulate        [Pid, Pid, Signal, In(Siginfo)]
     298  241 perf_event_open          Deny(EACCES)   [Address, Pid, Int, FdOrNone, Hex]
     299  243 recvmmsg                 Check          [Fd, Address, Int, Hex, InOut(Timespec)]
     300  262 fanotify_init            Deny(EPERM)    [Hex, Hex]
     301  263 fanotify_mark            Deny(EPERM)    [Fd, Hex, Long, DirFd, Path]
     302  261 prlimit64                Check          [Pid, Flags(Resource), In(Rlimit), Out(Rlimit)]
     303  264 name_to_handle_at        Deny(EOPNOTSUPP) [DirFd, Path, Address, Address, Hex]
     304  265 open_by_handle_at        Deny(EPERM)    [Fd, Address, Flags(Open)]
     305  266 clock_adjtime            Pass           [Flags(Clock), InOut(Timex)]
     306  267 syncfs                   Pass           [Fd]
     307  269 sendmmsg                 Check          [Fd, Address, Int, Hex]
     308  268 setns                    Deny(EPERM)    [Fd, Hex]
     309  168 getcpu                   Pass           [Out(U32), Out(U32), Unused]
     310  270 process_vm_readv         Check          [Pid, Address, Size, Address, Size, Hex]
     311  271 process_vm_writev        Check          [Pid, Address, Size, Address, Size, Hex]
     312  272 kcmp                     Deny(EPERM)    [Pid, Pid, Int, Long, Long]
     313  273 finit_module             Deny(EPERM)    [Fd, Text, Hex]
     314  274 sched_setattr            Check          [Pid, Address, Hex]
     315  275 sched_getattr            Pass           [Pid, OutBytes(2), Size, Hex]
     316  276 renameat2                Pass           [DirFd, Path, DirFd, Path, Hex]
     317  277 seccomp                  Deny(ENOSYS)   [Int, Hex, Address]
     318  278 getrandom                Pass           [OutBytes(1), Size, Hex]
     319  279 memfd_create             Pass           [Text, Hex]
     320  294 kexec_file_load          Deny(EPERM)    [Fd, Fd, Size, Address, Hex]
     321  280 bpf                      Deny(EPERM)    [Int, Address, Int]
     322  281 execveat                 Emulate        [DirFd, Path, Address, Address, Flags(At)]
     323  282 userfaultfd              Deny(ENOSYS)   [Hex]
     324  283 membarrier               Pass           [Int, Hex, Int]
     325  284 mlock2                   Emulate        [Address, Size, Hex]
     326  285 copy_file_range          Pass           [Fd, InOut(I64), Fd, InOut(I64), Size, Hex]
     327  286 preadv2                  Pass           [Fd, OutVec(2), Int, Offset, Long, Hex]
     328  287 pwritev2                 Pass           [Fd, InVec(2), Int, Offset, Long, Hex]
     329  288 pkey_mprotect            Emulate        [Address, Size, Flags(Prot), Int]
     330  289 pkey_alloc               Deny(ENOSPC)   [Hex, Hex]
     331  290 pkey_free                Deny(EINVAL)   [Int]
     332  291 statx                    Check          [DirFd, Path, Flags(At), Hex, Out(Statx)]
     333  292 io_pgetevents            Deny(ENOSYS)   [Address, Long, Long, Address, Address, Address]
     334  293 rseq                     Deny(ENOSYS)   [Address, Size, Hex, Hex]
     335    - uretprobe                Deny(ENOSYS)   []
     336    - uprobe                   Deny(ENOSYS)   []
     424  424 pidfd_send_signal        Emulate        [Fd, Signal, In(Siginfo), Hex]
     425  425 io_uring_setup           Deny(ENOSYS)   [Int, Address]
     426  426 io_uring_enter           Deny(ENOSYS)   [Fd, Int, Int, Hex, Address, Size]
     427  427 io_uring_register        Deny(ENOSYS)   [Fd, Int, Address, Int]
     428  428 open_tree                Deny(EPERM)    [DirFd, Path, Hex]
     429  429 move_mount               Deny(EPERM)    [DirFd, Path, DirFd, Path, Hex]
     430  430 fsopen                   Deny(EPERM)    [Text, Hex]
     431  431 fsconfig                 Deny(EPERM)    [Fd, Int, Text, Address, Int]
     432  432 fsmount                  Deny(EPERM)    [Fd, Hex, Hex]
     433  433 fspick                   Deny(EPERM)    [DirFd, Path, Hex]
     434  434 pidfd_open               Pass           [Pid, Hex]
     435  435 clone3                   Emulate        [Address, Size]
     436  436 close_range              Check          [Int, Int, Hex]
     437  437 openat2                  Check          [DirFd, Path, InBytes(3), Size]
     438  438 pidfd_getfd              Deny(EPERM)    [Fd, Int, Hex]
     439  439 faccessat2               Check          [DirFd, Path, Flags(Access), Flags(At)]
     440  440 process_madvise          Deny(ENOSYS)   [Fd, Address, Size, Flags(Madvise), Hex]
     441  441 epoll_pwait2             Check          [Fd, OutArray(EpollEvent, 2), Int, In(Timespec), SigSet(5), Size]
     442  442 mount_setattr            Deny(EPERM)    [DirFd, Path, Hex, Address, Size]
     443  443 quotactl_fd              Deny(EPERM)    [Fd, Hex, Int, Address]
     444  444 landlock_create_ruleset  Deny(ENOSYS)   [Address, Size, Hex]
     445  445 landlock_add_rule        Deny(ENOSYS)   [Fd, Int, Address, Hex]
     446  446 landlock_restrict_self   Deny(ENOSYS)   [Fd, Hex]
     447  447 memfd_secret             Deny(ENOSYS)   [Hex]
     448  448 process_mrelease         Pass           [Fd, Hex]
     449  449 futex_waitv              Check          [Address, Int, Hex, In(Timespec), Flags(Clock)]
     450  450 set_mempolicy_home_node  Deny(ENOSYS)   [Address, Size, Int, Hex]
     451  451 cachestat                Pass           [Fd, In(CachestatRange), Out(Cachestat), Hex]
     452  452 fchmodat2                Pass           [DirFd, Path, Mode, Flags(At)]
     453  453 map_shadow_stack         Deny(ENOSYS)   [Address, Size, Hex]
     454  454 futex_wake               Pass           [In(U32), Hex, Int, Hex]
     455  455 futex_wait               Pass           [In(U32), Hex, Hex, Hex, In(Timespec), Flags(Clock)]
     456  456 futex_requeue            Check          [Address, Hex, Int, Int]
     457  457 statmount                Deny(ENOSYS)   [Address, Address, Size, Hex]
     458  458 listmount                Deny(ENOSYS)   [Address, Address, Size, Hex]
     459  459 lsm_get_self_attr        Deny(ENOSYS)   [Int, Address, Address, Hex]
     460  460 lsm_set_self_attr        Deny(ENOSYS)   [Int, Address, Int, Hex]
     461  461 lsm_list_modules         Deny(ENOSYS)   [Address, Address, Hex]
     462  462 mseal                    Deny(ENOSYS)   [Address, Size, Hex]
     463  463 setxattrat               Deny(ENOSYS)   [DirFd, Path, Flags(At), Text, Address, Size]
     464  464 getxattrat               Deny(ENOSYS)   [DirFd, Path, Flags(At), Text, Address, Size]
     465  465 listxattrat              Pass           [DirFd, Path, Flags(At), OutBytes(4), Size]
     466  466 removexattrat            Pass           [DirFd, Path, Flags(At), Text]
     467  467 open_tree_attr           Deny(EPERM)    [DirFd, Path, Hex, Address, Size]
     468  468 file_getattr             Pass           [DirFd, Path, OutBytes(3), Size, Flags(At)]
     469  469 file_setattr             Pass           [DirFd, Path, InBytes(3), Size, Flags(At)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(of: impl Fn(&Row) -> Option<u32>) -> Vec<u32> {
        let mut numbers: Vec<u32> = ROWS.iter().filter_map(of).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn x86_64_has_every_number_but_those_kept_free() {
        // 337 to 423 were left out so that new calls have the same number everywhere.
        let expected: Vec<u32> = (0..=336).chain(424..=469).collect();
        assert_eq!(numbers(|row| row.x86_64), expected);
    }

    #[test]
    fn no_two_calls_share_a_number_on_aarch64() {
        let all = numbers(|row| row.aarch64);
        let mut different = all.clone();
        different.dedup();
        assert_eq!(all, different);
    }

    #[test]
    fn newer_calls_have_the_same_number_everywhere() {
        let newer = ROWS.iter().filter(|row| row.x86_64.is_some_and(|number| number >= 424));
        let different: Vec<_> = newer.filter(|row| row.aarch64 != row.x86_64).map(|row| row.name).collect();
        assert_eq!(different, ["memfd_secret"; 0]);
    }

    #[test]
    fn a_length_is_named_by_an_argument_that_is_a_number() {
        let is_length = |kind: &Kind| matches!(kind, Int | Size | Hex | Long);
        for row in ROWS {
            for kind in row.arguments {
                let (InArray(_, at)
                | OutArray(_, at)
                | InOutArray(_, at)
                | InBytes(at)
                | OutBytes(at)
                | InVec(at)
                | OutVec(at)
                | SockAddr(at)
                | SigSet(at)) = kind
                else {
                    continue;
                };
                assert!(row.arguments.get(*at).is_some_and(is_length), "{}: {kind:?}", row.name);
            }
        }
    }

    #[test]
    fn names_and_numbers_are_the_kernel_headers() {
        let header =
            std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").unwrap_or_default();
        for line in header.lines().filter_map(|line| line.strip_prefix("#define __NR_")) {
            let (name, number) = line.split_once(' ').expect("a definition has a value");
            let row = ROWS.iter().find(|row| row.name == name);
            assert_eq!(row.and_then(|row| row.x86_64), number.trim().parse().ok(), "{name}");
        }
    }

    #[test]
    fn a_number_leads_to_its_row() {
        for row in ROWS.iter().filter(|row| row.number().is_some()) {
            assert_eq!(Call::from_number(row.number().unwrap()).map(|call| call.row().name), Some(row.name));
        }
        assert_eq!(Call::from_number(400), None);
        assert_eq!(Call::from_number(u32::MAX), None);
    }
}
