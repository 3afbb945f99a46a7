//! A program's initial stack, laid out as the kernel does (fs/exec.c, create_elf_tables in fs/binfmt_elf.c).
//!
//! ```text
//! top ─ 8     a null word
//!             execfn\0
//!             environment strings, the first one lowest
//!             argument strings, the first one lowest
//!             up to 8 KiB left free at random, to a multiple of 16
//!             platform\0
//!             16 random bytes
//!             alignment
//!             auxiliary vector, to AT_NULL
//!             envp[0] … NULL
//!             argv[0] … NULL
//! sp ───────  argc
//! ```

use std::ffi::CStr;

use super::arch;
use super::auxv::{self, AuxEntry, HostFacts, ProgramFacts, StackFacts};
use super::error::TooMuch;

/// The longest argument or environment string, its NUL included (MAX_ARG_STRLEN).
pub const MAX_STRING: u64 = 32 * endo_core::PAGE_SIZE;

/// Room for arguments that even the smallest stack grants (ARG_MAX).
const MIN_ARGUMENT_ROOM: u64 = 128 << 10;

/// Room for arguments that no stack exceeds: three quarters of the default stack limit.
const MAX_ARGUMENT_ROOM: u64 = (8 << 20) / 4 * 3;

/// Strings are moved down by less than this, at random (arch_align_stack).
pub const MAX_JITTER: u64 = 8 << 10;

const WORD: u64 = size_of::<u64>() as u64;

/// What a program is started with.
#[derive(Clone, Debug, Default)]
pub struct Arguments<'a> {
    /// `argv`.
    pub arguments: Vec<&'a CStr>,
    /// `environ`.
    pub environment: Vec<&'a CStr>,
    /// `AT_EXECFN`.
    pub exec_name: &'a CStr,
}

impl Arguments<'_> {
    /// Checks the kernel's limits for a stack of at most `stack_limit` bytes (bprm_stack_limits, copy_strings).
    pub fn check(&self, stack_limit: u64) -> Result<(), TooMuch> {
        let room = (stack_limit / 4).clamp(MIN_ARGUMENT_ROOM, MAX_ARGUMENT_ROOM);
        let pointers = (self.arguments.len().max(1) + self.environment.len()) as u64 * WORD;
        let mut total = pointers;
        for string in self.strings() {
            let length = string.count_bytes() as u64 + 1;
            if length > MAX_STRING {
                return Err(TooMuch::String { length: length - 1, limit: MAX_STRING - 1 });
            }
            total += length;
        }
        if total > room { Err(TooMuch::Total { length: total, limit: room }) } else { Ok(()) }
    }

    /// All of them, lowest first.
    fn strings(&self) -> impl Iterator<Item = &CStr> {
        self.arguments.iter().chain(&self.environment).copied().chain([self.exec_name])
    }

    fn length(&self) -> u64 {
        self.strings().map(|string| string.count_bytes() as u64 + 1).sum()
    }
}

/// Where randomness has its say.
#[derive(Clone, Copy, Debug)]
pub struct Randomness {
    /// `AT_RANDOM`'s bytes.
    pub bytes: [u8; 16],
    /// Bytes left free below the strings: less than [`MAX_JITTER`].
    pub jitter: u64,
}

/// The bytes between the stack pointer and the top of the stack.
#[derive(Clone, Debug)]
pub struct InitialStack {
    /// The stack pointer at the program's first instruction.
    pub pointer: u64,
    /// What lies from there to the top.
    pub bytes: Vec<u8>,
    /// Where the argument strings lie: the first, and one past the last.
    pub argument_strings: (u64, u64),
    /// Where the environment's lie.
    pub environment_strings: (u64, u64),
    /// The auxiliary vector that is in them.
    pub auxiliary_vector: [AuxEntry; auxv::ENTRIES],
}

/// Lays out the stack that ends at `top`, a page boundary.
pub fn lay_out(
    top: u64,
    arguments: &Arguments<'_>,
    host: &HostFacts,
    program: &ProgramFacts,
    random: &Randomness,
) -> InitialStack {
    let strings = top - WORD - arguments.length();
    let exec_name = top - WORD - (arguments.exec_name.count_bytes() as u64 + 1);
    let platform_length = arch::PLATFORM.count_bytes() as u64 + 1;
    let platform = ((strings - random.jitter) & !15) - platform_length;
    let random_bytes = platform - random.bytes.len() as u64;

    let stack = StackFacts { random: random_bytes, exec_name, platform };
    let auxiliary_vector = auxv::vector(host, program, &stack);
    let (argc, envc) = (arguments.arguments.len(), arguments.environment.len());
    let words = 1 + (argc + 1) + (envc + 1) + 2 * auxiliary_vector.len();
    let pointer = (random_bytes - words as u64 * WORD) & !(endo_core::arch::ENTRY_STACK_ALIGNMENT - 1);

    let mut image = Image { base: pointer, bytes: vec![0; (top - pointer) as usize] };
    let mut table = pointer;
    image.put_word(&mut table, argc as u64);
    let mut string = strings;
    for argument in &arguments.arguments {
        image.put_word(&mut table, string);
        image.put_string(&mut string, argument);
    }
    let environment = string;
    image.put_word(&mut table, 0);
    for variable in &arguments.environment {
        image.put_word(&mut table, string);
        image.put_string(&mut string, variable);
    }
    image.put_word(&mut table, 0);
    for entry in &auxiliary_vector {
        image.put_word(&mut table, entry.kind);
        image.put_word(&mut table, entry.value);
    }
    image.put_string(&mut string, arguments.exec_name);
    image.put(platform, arch::PLATFORM.to_bytes_with_nul());
    image.put(random_bytes, &random.bytes);
    InitialStack {
        pointer,
        bytes: image.bytes,
        argument_strings: (strings, environment),
        environment_strings: (environment, exec_name),
        auxiliary_vector,
    }
}

/// The stack while it is laid out.
struct Image {
    base: u64,
    bytes: Vec<u8>,
}

impl Image {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - self.base) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_word(&mut self, address: &mut u64, word: u64) {
        self.put(*address, &word.to_le_bytes());
        *address += WORD;
    }

    fn put_string(&mut self, address: &mut u64, string: &CStr) {
        let bytes = string.to_bytes_with_nul();
        self.put(*address, bytes);
        *address += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    const TOP: u64 = 0x7fff_f000;

    fn host() -> HostFacts {
        HostFacts::of_this_process()
    }

    fn word(stack: &InitialStack, address: u64) -> u64 {
        let at = (address - stack.pointer) as usize;
        u64::from_le_bytes(stack.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(stack: &InitialStack, address: u64) -> &CStr {
        CStr::from_bytes_until_nul(&stack.bytes[(address - stack.pointer) as usize..]).unwrap()
    }

    fn value(stack: &InitialStack, kind: u64) -> u64 {
        stack.auxiliary_vector.iter().find(|entry| entry.kind == kind).unwrap().value
    }

    fn example(jitter: u64, environment: Vec<&CStr>) -> InitialStack {
        let arguments =
            Arguments { arguments: vec![c"prog", c"-x", c""], environment, exec_name: c"/bin/prog" };
        let random = Randomness { bytes: *b"0123456789abcdef", jitter };
        lay_out(TOP, &arguments, &host(), &ProgramFacts::default(), &random)
    }

    #[test]
    fn the_tables_follow_one_another_from_the_stack_pointer() {
        let environment = vec![c"A=1", c"B=2"];
        let stack = example(100, environment);
        assert_eq!(word(&stack, stack.pointer), 3);
        let at = |index: u64| word(&stack, stack.pointer + 8 * index);
        assert_eq!([at(1), at(2), at(3)].map(|a| string(&stack, a)), [c"prog", c"-x", c""]);
        assert_eq!(at(4), 0);
        assert_eq!([at(5), at(6)].map(|a| string(&stack, a)), [c"A=1", c"B=2"]);
        assert_eq!(at(7), 0);
        assert_eq!((at(8), at(9)), (libc::AT_SYSINFO_EHDR, 0));
        let last = 8 + 2 * (auxv::ENTRIES as u64 - 1);
        assert_eq!((at(last), at(last + 1)), (libc::AT_NULL, 0));
    }

    #[test]
    fn strings_lie_below_a_null_word_at_the_top_as_the_kernel_puts_them() {
        let environment = vec![c"A=1"];
        let stack = example(0, environment);
        assert_eq!(word(&stack, TOP - 8), 0);
        let exec_name = value(&stack, libc::AT_EXECFN);
        assert_eq!(exec_name + 10, TOP - 8);
        assert_eq!(string(&stack, exec_name), c"/bin/prog");
        assert_eq!(string(&stack, exec_name - 4), c"A=1");
        assert_eq!(string(&stack, exec_name - 4 - 9), c"prog");
    }

    #[test]
    fn the_vector_points_at_platform_and_random_bytes() {
        let stack = example(8191, vec![]);
        assert_eq!(string(&stack, value(&stack, libc::AT_PLATFORM)), arch::PLATFORM);
        let random = (value(&stack, libc::AT_RANDOM) - stack.pointer) as usize;
        assert_eq!(&stack.bytes[random..random + 16], b"0123456789abcdef");
    }

    #[test]
    fn a_string_may_have_128_kib_and_no_byte_more() {
        let long = CString::new(vec![b'x'; MAX_STRING as usize - 1]).unwrap();
        let longer = CString::new(vec![b'x'; MAX_STRING as usize]).unwrap();
        let with = |string| Arguments { arguments: vec![string], environment: vec![], exec_name: c"" };
        assert!(with(long.as_c_str()).check(8 << 20).is_ok());
        assert_eq!(
            with(longer.as_c_str()).check(8 << 20),
            Err(TooMuch::String { length: MAX_STRING, limit: MAX_STRING - 1 })
        );
    }

    #[test]
    fn all_strings_and_pointers_may_take_a_quarter_of_the_stack() {
        let arguments = |count| Arguments { arguments: vec![c"1234567"; count], ..Default::default() };
        // 16 bytes an argument, and one for the empty name.
        assert!(arguments((2 << 20) / 16 - 1).check(8 << 20).is_ok());
        assert_eq!(
            arguments((2 << 20) / 16).check(8 << 20),
            Err(TooMuch::Total { length: (2 << 20) + 1, limit: 2 << 20 })
        );
        assert!(arguments((6 << 20) / 16 - 1).check(u64::MAX).is_ok());
        assert!(arguments((6 << 20) / 16).check(u64::MAX).is_err());
        assert!(arguments((128 << 10) / 16 - 1).check(4096).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn the_stack_pointer_is_aligned_for_any_strings(
            strings in proptest::collection::vec("[a-z]{0,40}", 0..20),
            jitter in 0..MAX_JITTER,
        ) {
            let environment: Vec<CString> = strings.into_iter().map(|s| CString::new(s).unwrap()).collect();
            let stack = example(jitter, environment.iter().map(CString::as_c_str).collect());
            proptest::prop_assert_eq!(stack.pointer % 16, 0);
            proptest::prop_assert_eq!(stack.pointer + stack.bytes.len() as u64, TOP);
        }
    }
}
