//! aarch64 thread state.

/// Alignment of the stack pointer at a program's first instruction, in bytes (AAPCS64 6.4.5.1).
pub const ENTRY_STACK_ALIGNMENT: u64 = 16;

/// General registers of a guest thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// NZCV and the other flags of PSTATE that user code holds.
    pub pstate: u64,
    /// TPIDR_EL0: the thread pointer.
    pub tpidr: u64,
}

impl Registers {
    /// The stack pointer.
    pub const fn stack_pointer(&self) -> u64 {
        self.sp
    }

    /// Changes the stack pointer.
    pub const fn set_stack_pointer(&mut self, value: u64) {
        self.sp = value;
    }

    /// The thread pointer.
    pub const fn thread_pointer(&self) -> u64 {
        self.tpidr
    }

    /// Changes the thread pointer.
    pub const fn set_thread_pointer(&mut self, value: u64) {
        self.tpidr = value;
    }

    /// The number of the system call that the thread stands at: w8.
    pub const fn syscall_number(&self) -> u32 {
        self.x[8] as u32
    }

    /// The six arguments of the system call that the thread stands at (syscall(2)).
    pub const fn syscall_arguments(&self) -> [u64; 6] {
        [self.x[0], self.x[1], self.x[2], self.x[3], self.x[4], self.x[5]]
    }

    /// Puts a system call's result where the program expects it: -4095..=-1 is an errno, negated.
    pub const fn set_syscall_result(&mut self, result: i64) {
        self.x[0] = result as u64;
    }
}

/// The calling host thread's own thread pointer: TPIDR_EL0.
pub fn host_thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: reads a register that user code may read. Inputs none, no clobbers; memory, flags and stack untouched.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem));
    }
    pointer
}

/// The FPSIMD state of a guest thread: v0 to v31, FPSR and FPCR.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct VectorState {
    /// v0 to v31.
    pub v: [u128; 32],
    /// Floating-point status.
    pub fpsr: u32,
    /// Floating-point control.
    pub fpcr: u32,
}

impl VectorState {
    /// The fresh state of a program: all zero.
    pub const fn initial() -> Self {
        VectorState { v: [0; 32], fpsr: 0, fpcr: 0 }
    }

    /// Makes this the state of [`VectorState::initial`].
    pub const fn reset(&mut self) {
        *self = Self::initial();
    }
}

impl Default for VectorState {
    fn default() -> Self {
        Self::initial()
    }
}
