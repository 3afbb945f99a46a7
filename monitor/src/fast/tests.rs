use std::sync::Mutex;

use endo_core::{GuestAddr, GuestRange, SyscallNumber, copy};
use goblin::elf::Elf;
use goblin::elf::header::EM_AARCH64;
use proptest::prelude::*;

use super::*;
use crate::syscall::table::{self, Call, Kind};

#[path = "../../build/plan.rs"]
mod plan;

use plan::{Architecture, Check, Length, Plan};

/// The lowest of the monitor's descriptors, and the watched page, in these tests.
const OWN_DESCRIPTORS: u64 = 1000;
const WATCHED: u64 = 0x7654_3000;
const END: u64 = plan::WINDOW_END;

fn prepare() {
    limit_descriptors(OWN_DESCRIPTORS as i32);
    watched().include(GuestRange::new(GuestAddr(WATCHED), 4096).expect("a page"));
    state::set_vdso(&vdso::functions());
}

fn run(call: Call, arguments: [u64; 6]) -> u64 {
    let entry = FAST_PATHS[call.row().number().expect("it exists here") as usize];
    assert_ne!(entry.kind, FastKind::None, "{call:?} has no fast path");
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: a check looks at its arguments only; a call that answers stores recoverably, and only where a test has
    // mapped memory or nothing is.
    unsafe { (entry.function)(a, b, c, d, e, f) }
}

fn passes(call: Call, arguments: &[u64]) -> bool {
    prepare();
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(call, all) == 0
}

/// What the checks say, in plain arithmetic.
fn admits(checks: &[Check], arguments: &[u64; 6]) -> bool {
    let bytes = |pointer: usize, length: Length| -> Option<(u64, u64)> {
        let start = arguments[pointer];
        let length = match length {
            Length::Fixed(length) => length,
            Length::Bytes(index) => arguments[index],
            Length::Values { count, size } => {
                let count = arguments[count];
                if count >= plan::MOST_VALUES {
                    return None;
                }
                count * size
            }
        };
        let is_inside = start < END && length < END && start + length <= END;
        (is_inside && (start, length) != (0, 0)).then_some((start, length))
    };
    let is_watched = |(start, length): (u64, u64)| start < WATCHED + 4096 && start + length > WATCHED;
    checks.iter().all(|&check| match check {
        Check::Descriptor(index) => u64::from(arguments[index] as u32) < OWN_DESCRIPTORS,
        Check::Read { pointer, length } => bytes(pointer, length).is_some(),
        Check::Written { pointer, length } => bytes(pointer, length).is_some_and(|bytes| !is_watched(bytes)),
        Check::Zero(index) => arguments[index] == 0,
        Check::Clear { argument, bits } => arguments[argument] as u32 & bits == 0,
        Check::OneOf { argument, ignored, allowed } => {
            let value = arguments[argument] as u32 & !ignored;
            value < 64 && allowed & (1 << value) != 0
        }
    })
}

/// What the table's kinds demand of a call that goes to the kernel as it stands: nothing here knows the plan.
fn is_safe(call: Call, arguments: &[u64; 6]) -> bool {
    let in_window = |start: u64, length: u128| u128::from(start) + length <= u128::from(END);
    call.row().arguments.iter().enumerate().all(|(index, &kind)| {
        let value = arguments[index];
        match kind {
            Kind::Fd => (value as u32 as u64) < OWN_DESCRIPTORS,
            Kind::In(ty) | Kind::Out(ty) | Kind::InOut(ty) => in_window(value, ty.size().into()),
            Kind::InBytes(length) | Kind::OutBytes(length) => in_window(value, arguments[length].into()),
            Kind::InArray(ty, count) | Kind::OutArray(ty, count) | Kind::InOutArray(ty, count) => {
                in_window(value, u128::from(arguments[count]) * u128::from(ty.size()))
            }
            Kind::Address | Kind::SockAddr(_) => value == 0,
            Kind::Path | Kind::Text | Kind::DirFd | Kind::InVec(_) | Kind::OutVec(_) | Kind::FdSet => false,
            _ => true,
        }
    })
}

/// Numbers near all the borders.
fn argument() -> impl Strategy<Value = u64> {
    let border = prop::sample::select(vec![
        0,
        1,
        16,
        OWN_DESCRIPTORS,
        WATCHED,
        WATCHED + 4096,
        plan::MOST_VALUES,
        END,
        END - WATCHED,
        1 << 31,
        1 << 52,
        1 << 63,
        0u64.wrapping_sub(END),
    ]);
    let near = (border, -300i64..300).prop_map(|(border, by)| border.wrapping_add_signed(by));
    prop_oneof![6 => near, 2 => 0..END, 2 => 0u64..200, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_check_answers_as_plain_arithmetic_does(
        plan in prop::sample::select(checked()),
        arguments in prop::array::uniform6(argument()),
    ) {
        prepare();
        let call = Call::from_number(plan.number).expect("it has a row");
        prop_assert_eq!(run(call, arguments) == 0, admits(&plan.checks, &arguments), "{} {:x?}", plan.name, arguments);
    }

    #[test]
    fn what_passes_is_safe_by_the_tables_own_kinds(
        plan in prop::sample::select(checked()),
        arguments in prop::array::uniform6(argument()),
    ) {
        prepare();
        let call = Call::from_number(plan.number).expect("it has a row");
        // What this one's arguments are depends on the first; the test above has all of it.
        prop_assume!(!matches!(call, Call::futex | Call::fcntl));
        prop_assert!(run(call, arguments) != 0 || is_safe(call, &arguments), "{} {:x?}", plan.name, arguments);
    }
}

/// The plans of calls that the kernel answers.
fn checked() -> Vec<Plan> {
    let is_answered = |plan: &Plan| plan::ANSWERED.iter().any(|answered| answered.name == plan.name);
    plan::all(Architecture::X86_64).into_iter().filter(|plan| !is_answered(plan)).collect()
}

#[test]
fn reading_into_the_window_passes_and_anything_beyond_does_not() {
    assert!(passes(Call::read, &[3, 0x10000, 4096]));
    assert!(passes(Call::read, &[3, END - 4096, 4096]), "up to the last byte");
    assert!(!passes(Call::read, &[3, END - 4096, 4097]), "one byte too far");
    assert!(!passes(Call::read, &[3, END, 1]), "past the window");
    assert!(!passes(Call::read, &[3, 0x7fff_0000_0000, 1]), "the monitor's memory");
    assert!(!passes(Call::read, &[3, u64::MAX, 2]), "a sum that wraps");
    assert!(!passes(Call::read, &[3, 0x10000, u64::MAX - 0xffff]), "a length that wraps");
    assert!(!passes(Call::read, &[3, 0x10000, 1 << 63]), "a negative length");
    assert!(!passes(Call::read, &[3, 0x10000, END]), "a length past the window");
}

#[test]
fn the_monitors_descriptors_do_not_pass() {
    assert!(passes(Call::read, &[OWN_DESCRIPTORS - 1, 0x10000, 1]));
    for descriptor in [OWN_DESCRIPTORS, OWN_DESCRIPTORS + 1, i32::MAX as u64, u64::MAX, 1 << 31] {
        assert!(!passes(Call::read, &[descriptor, 0x10000, 1]), "{descriptor:#x}");
        assert!(!passes(Call::dup2, &[1, descriptor]), "{descriptor:#x}");
        assert!(!passes(Call::close, &[descriptor]), "{descriptor:#x}");
    }
    let upper_half = 7 << 32;
    assert!(passes(Call::close, &[upper_half | 5]), "the kernel does not look at the upper half either");
    assert!(!passes(Call::close, &[upper_half | OWN_DESCRIPTORS]));
}

#[test]
fn null_goes_to_the_kernel_as_it_is() {
    assert!(passes(Call::setitimer, &[0, 0x10000, 0]));
    assert!(passes(Call::read, &[3, 0, 1]), "which then says EFAULT");
}

#[test]
fn what_the_kernel_would_write_over_watched_code_does_not_pass() {
    assert!(!passes(Call::read, &[3, WATCHED - 1, 2]));
    assert!(passes(Call::read, &[3, WATCHED - 1, 1]));
    assert!(!passes(Call::read, &[3, WATCHED + 4095, 1]));
    assert!(passes(Call::read, &[3, WATCHED + 4096, 1]));
    assert!(passes(Call::write, &[3, WATCHED, 4096]), "the kernel may read it");
    assert!(!passes(Call::fstat, &[3, WATCHED - 100]));
}

#[test]
fn arrays_of_too_many_do_not_pass() {
    assert!(passes(Call::poll, &[0x10000, 100, 0]));
    assert!(!passes(Call::poll, &[END - 800, 101, 0]));
    assert!(!passes(Call::poll, &[0x10000, 1 << 61, 0]), "a product that wraps");
    assert!(!passes(Call::poll, &[0x10000, plan::MOST_VALUES, 0]));
}

#[test]
fn only_the_flat_forms_of_complicated_calls_pass() {
    assert!(passes(Call::sendto, &[3, 0x10000, 10, 0x4000, 0, 0]));
    assert!(!passes(Call::sendto, &[3, 0x10000, 10, 0, 0x20000, 16]), "an address");
    assert!(!passes(Call::sendto, &[3, 0x10000, 10, 0x400_0000, 0, 0]), "MSG_ZEROCOPY");
    assert!(!passes(Call::recvfrom, &[3, 0x10000, 10, 0, 0, 0x20000]), "an address's length");
    let (wait, wake, private, requeue) = (0, 1, 128, 3);
    assert!(passes(Call::futex, &[0x10000, wake | private, 1, 0]));
    assert!(passes(Call::futex, &[0x10000, wait, 1, 0x20000]));
    assert!(!passes(Call::futex, &[0x10000, wait, 1, END]), "a timeout outside");
    assert!(!passes(Call::futex, &[0x10000, requeue, 1, 0, 0x20000]), "a second word");
    assert!(!passes(Call::futex, &[0x10000, 64, 1, 0]), "an operation that no bit stands for");
    assert!(passes(Call::setsockopt, &[3, 6, 1, 0x10000, 4]));
    assert!(!passes(Call::setsockopt, &[3, 1, 26, 0x10000, 16]), "SO_ATTACH_FILTER");
    assert!(!passes(Call::setsockopt, &[3, 0, 1, 0x10000, 4]), "a level with longer options");
    assert!(passes(Call::accept4, &[3, 0, 0, 0x800]));
    assert!(!passes(Call::accept4, &[3, 0x10000, 0x20000, 0x800]), "an address");
    assert!(passes(Call::epoll_pwait, &[3, 0x10000, 64, 0, 0, 8]));
    assert!(!passes(Call::epoll_pwait, &[3, 0x10000, 64, 0, 0x20000, 8]), "a mask");
    assert!(passes(Call::ppoll, &[0x10000, 3, 0, 0, 8]));
    assert!(!passes(Call::ppoll, &[0x10000, 3, END, 0, 8]), "a timeout outside");
    assert!(passes(Call::fcntl, &[3, libc::F_GETFL as u64]));
    assert!(!passes(Call::fcntl, &[3, libc::F_SETLK as u64, 0x10000]));
    assert!(!passes(Call::fcntl, &[3, libc::F_DUPFD as u64, 0]));
}

#[test]
fn calls_that_are_the_monitors_have_no_fast_path() {
    let calls = [
        Call::mmap,
        Call::open,
        Call::rt_sigprocmask,
        Call::clone,
        Call::execve,
        Call::ioctl,
        Call::preadv,
        Call::prctl,
    ];
    for number in calls.map(|call| call.row().number().expect("it exists here")) {
        assert_eq!(FAST_PATHS[number as usize].kind, FastKind::None, "{number}");
    }
}

#[test]
fn what_a_monitor_observes_has_no_fast_path() {
    let read = 0;
    let paths = paths(|number| number == SyscallNumber(read));
    assert_eq!(paths[read as usize].kind, FastKind::None);
    assert_eq!(paths[1].kind, FastKind::Check);
    assert!(super::paths(|_| true).is_empty());
}

#[test]
fn the_same_functions_are_made_for_aarch64() {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/fast_paths_aarch64.o"));
    let object = Elf::parse(bytes).expect("an ELF file");
    assert_eq!(object.header.e_machine, EM_AARCH64);
    let has = |name: &str| {
        object.syms.iter().any(|symbol| {
            symbol.st_size > 0 && symbol.is_function() && object.strtab.get_at(symbol.st_name) == Some(name)
        })
    };
    let plans = plan::all(Architecture::Aarch64);
    assert!(plans.len() > 100, "there are as many as on x86-64, or nearly");
    let missing: Vec<_> = plans.iter().filter(|plan| !has(&format!("endo_fast_{}", plan.name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_plan_has_what_the_row_says() {
    let plan = plan::all(Architecture::X86_64).into_iter().find(|plan| plan.name == "getrandom");
    let checks = vec![Check::Written { pointer: 0, length: Length::Bytes(1) }];
    assert_eq!(plan, Some(Plan { name: "getrandom", number: 318, checks }));
}

/// A page of guest memory, and none after it.
struct Page(u64);

impl Page {
    fn new(address: u64) -> Page {
        // SAFETY: nothing is there, or the call fails.
        let page = unsafe {
            libc::mmap(
                address as *mut _,
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        assert_eq!(page as u64, address);
        Page(address)
    }

    fn words(&self) -> [u64; 2] {
        // SAFETY: the page is mapped, and nobody writes it now.
        unsafe { (self.0 as *const [u64; 2]).read() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the page is this value's.
        unsafe { libc::munmap(self.0 as *mut _, 4096) };
    }
}

/// Runs something that may fault in the recoverable copy.
fn with_recovery<R>(run: impl FnOnce() -> R) -> R {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    extern "C" fn recover(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes the context that it restores, and nobody else has it.
        let is_ours = copy::recover(unsafe { &mut *context.cast::<libc::ucontext_t>() });
        if !is_ours {
            std::process::abort();
        }
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: all zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = recover as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both live until the call returns; the handler is async-signal-safe.
    unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut before) };
    let result = run();
    // SAFETY: what was there before.
    unsafe { libc::sigaction(libc::SIGSEGV, &raw const before, std::ptr::null_mut()) };
    result
}

#[test]
fn the_time_is_what_the_host_says() {
    prepare();
    let page = Page::new(0x1234_5000);
    let monotonic = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` lives until the call returns.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        [time.tv_sec as u64, time.tv_nsec as u64]
    };
    let before = monotonic();
    assert_eq!(run(Call::clock_gettime, [libc::CLOCK_MONOTONIC as u64, page.0, 0, 0, 0, 0]), 0);
    let (between, after) = (page.words(), monotonic());
    assert!(before <= between && between <= after, "{before:?} {between:?} {after:?}");
    assert_eq!(run(Call::gettimeofday, [page.0, 0, 0, 0, 0, 0]), 0);
    let seconds = run(Call::time, [page.0 + 8, 0, 0, 0, 0, 0]);
    assert_eq!(page.words()[1], seconds);
    assert!(seconds - 1_700_000_000 < 10_000_000_000, "{seconds} lies in this age");
    assert_eq!(run(Call::clock_getres, [libc::CLOCK_MONOTONIC as u64, page.0, 0, 0, 0, 0]), 0);
    assert_eq!(page.words(), [0, 1]);
    assert_eq!(run(Call::getcpu, [page.0, page.0 + 4, 0, 0, 0, 0]), 0);
    assert!(page.words()[0] as u32 as i64 <= 4096, "a processor's number");
    assert_eq!(run(Call::getcpu, [0; 6]), 0, "both may be null");
}

#[test]
fn what_the_vdso_does_not_answer_with_success_falls_back() {
    prepare();
    let page = Page::new(0x1235_5000);
    let no_clock = 1000;
    assert_eq!(run(Call::clock_gettime, [no_clock, page.0, 0, 0, 0, 0]), FastEntry::FALL_BACK);
    assert_eq!(run(Call::gettimeofday, [page.0, page.0, 0, 0, 0, 0]), FastEntry::FALL_BACK, "a time zone");
    assert_eq!(page.words(), [0, 0]);
}

#[test]
fn a_time_for_memory_that_is_not_there_falls_back() {
    prepare();
    let page = Page::new(0x1236_5000);
    let (end, outside) = (page.0 + 4096, Box::new([7_u64; 2]));
    let address = (&raw const *outside) as u64;
    with_recovery(|| {
        for to in [end, end - 8, 0, END - 8, address] {
            assert_eq!(run(Call::clock_gettime, [0, to, 0, 0, 0, 0]), FastEntry::FALL_BACK, "{to:#x}");
            assert_eq!(run(Call::clock_getres, [0, to, 0, 0, 0, 0]), FastEntry::FALL_BACK, "{to:#x}");
        }
        assert_eq!(run(Call::time, [end - 4, 0, 0, 0, 0, 0]), FastEntry::FALL_BACK);
        assert_eq!(run(Call::time, [address, 0, 0, 0, 0, 0]), FastEntry::FALL_BACK);
        assert_eq!(run(Call::getcpu, [page.0, END, 0, 0, 0, 0]), FastEntry::FALL_BACK);
        assert_eq!(run(Call::getcpu, [end - 2, 0, 0, 0, 0, 0]), FastEntry::FALL_BACK);
    });
    assert_eq!(*outside, [7, 7], "memory outside the window is untouched");
}
