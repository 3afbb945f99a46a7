//! A traced child that runs the guest's instructions natively, at the guest's addresses, in its own low 4 GiB.

use std::io;
use std::mem::MaybeUninit;

use endo_core::arch::Gpr;
use endo_core::{GuestRange, Registers, Rights, ThreadState, VectorState};

/// The child.
#[derive(Debug)]
pub struct Twin {
    pid: libc::pid_t,
}

/// Why the child stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It has run one instruction, or one round of a repeated one.
    Stepped,
    /// An instruction raised this signal, with this code and address.
    Signal(i32, i32, u64),
}

const NT_X86_XSTATE: usize = 0x202;

impl Twin {
    /// Forks the child and waits until it is traced. To be called before anything lies in the low 4 GiB.
    pub fn spawn() -> io::Result<Self> {
        // SAFETY: the child calls nothing but system calls.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: no precondition.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                // SAFETY: no precondition.
                unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
                loop {
                    // SAFETY: no precondition. The tracer never lets it return from here but to its own code.
                    unsafe { libc::raise(libc::SIGSTOP) };
                }
            }
            pid => {
                let twin = Twin { pid };
                twin.wait()?;
                Ok(twin)
            }
        }
    }

    /// Maps zeroed memory that can be read and written, in place of what was there.
    pub fn map(&self, range: GuestRange) -> io::Result<()> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE) as u64;
        let arguments = [range.start().0, range.len(), protection, flags, u64::MAX, 0];
        self.call(libc::SYS_mmap, arguments).map(drop)
    }

    /// Changes the protection of mapped memory.
    pub fn protect(&self, range: GuestRange, rights: Rights) -> io::Result<()> {
        let bits = [
            (Rights::READ, libc::PROT_READ),
            (Rights::WRITE, libc::PROT_WRITE),
            (Rights::EXECUTE, libc::PROT_EXEC),
        ];
        let protection =
            bits.into_iter().filter(|(right, _)| rights.contains(*right)).fold(0, |all, (_, bit)| all | bit);
        self.call(libc::SYS_mprotect, [range.start().0, range.len(), protection as u64, 0, 0, 0]).map(drop)
    }

    /// Unmaps memory.
    pub fn unmap(&self, range: GuestRange) -> io::Result<()> {
        self.call(libc::SYS_munmap, [range.start().0, range.len(), 0, 0, 0, 0]).map(drop)
    }

    /// Makes the child call the kernel.
    fn call(&self, number: libc::c_long, arguments: [u64; 6]) -> io::Result<u64> {
        let mut registers = self.registers()?;
        registers.rip = super::gate::SYSCALL as *const () as u64;
        registers.rax = number as u64;
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        self.set_registers(&registers)?;
        self.resume()?;
        let result = self.registers()?.rax as i64;
        if result < 0 { Err(io::Error::from_raw_os_error(-result as i32)) } else { Ok(result as u64) }
    }

    /// Copies into the child's writable memory what lies at the same addresses here.
    pub fn copy_from_here(&self, start: u64, length: u64) -> bool {
        let vector = libc::iovec { iov_base: start as *mut _, iov_len: length as usize };
        // SAFETY: reads guest memory of this process through the kernel, which fails where there is none, and writes
        // the child's memory only.
        let copied =
            unsafe { libc::process_vm_writev(self.pid, &raw const vector, 1, &raw const vector, 1, 0) };
        copied == length as isize
    }

    /// Reads the child's memory; false where it has none.
    pub fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: into.len() };
        // SAFETY: the local buffer is valid for its length.
        let read = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        read == into.len() as isize
    }

    /// Gives the child a guest's state.
    pub fn set_state(&self, state: &ThreadState) -> io::Result<()> {
        let mut registers = self.registers()?;
        for (slot, register) in slots(&mut registers) {
            *slot = state.registers.get(register);
        }
        registers.rip = state.registers.pc;
        registers.eflags = state.registers.flags.sanitised().0;
        registers.fs_base = state.registers.fs_base;
        registers.gs_base = state.registers.gs_base;
        registers.orig_rax = u64::MAX;
        self.set_registers(&registers)?;
        let mut area = self.vector()?;
        let length = area.bytes().len().min(state.vector.bytes().len());
        area.bytes_mut()[..length].copy_from_slice(&state.vector.bytes()[..length]);
        self.set_vector(&mut area)
    }

    /// The child's general registers as a guest's.
    pub fn guest_registers(&self) -> io::Result<Registers> {
        let mut registers = self.registers()?;
        let mut guest = Registers {
            pc: registers.rip,
            flags: endo_core::arch::Flags(registers.eflags).sanitised(),
            fs_base: registers.fs_base,
            gs_base: registers.gs_base,
            ..Registers::default()
        };
        for (slot, register) in slots(&mut registers) {
            guest.set(register, *slot);
        }
        Ok(guest)
    }

    /// Runs one instruction.
    pub fn step(&self) -> io::Result<Stop> {
        let status = self.resume()?;
        if libc::WSTOPSIG(status) == libc::SIGTRAP {
            let (code, _) = self.signal()?;
            // TRAP_TRACE, or TRAP_BRKPT as some kernels say after a system call.
            if code == libc::TRAP_TRACE || code == libc::TRAP_BRKPT {
                return Ok(Stop::Stepped);
            }
        }
        let (code, address) = self.signal()?;
        Ok(Stop::Signal(libc::WSTOPSIG(status), code, address))
    }

    fn signal(&self) -> io::Result<(i32, u64)> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        self.request(libc::PTRACE_GETSIGINFO, 0, info.as_mut_ptr() as usize)?;
        // SAFETY: zeroed at first, then filled in by the kernel.
        let info = unsafe { info.assume_init() };
        // SAFETY: for a fault it is the address; for anything else a number that nobody relies on.
        Ok((info.si_code, unsafe { info.si_addr() } as u64))
    }

    fn resume(&self) -> io::Result<i32> {
        self.request(libc::PTRACE_SINGLESTEP, 0, 0)?;
        self.wait()
    }

    fn wait(&self) -> io::Result<i32> {
        let mut status = 0;
        loop {
            // SAFETY: our child; `status` is writable.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
            if waited == self.pid && libc::WIFSTOPPED(status) {
                return Ok(status);
            }
            if waited == self.pid {
                return Err(io::Error::other(format!("the native process ended, status {status:#x}")));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        self.request(libc::PTRACE_GETREGS, 0, registers.as_mut_ptr() as usize)?;
        // SAFETY: integers, filled in by the kernel.
        Ok(unsafe { registers.assume_init() })
    }

    fn set_registers(&self, registers: &libc::user_regs_struct) -> io::Result<()> {
        self.request(libc::PTRACE_SETREGS, 0, core::ptr::from_ref(registers) as usize)
    }

    /// The child's vector state.
    pub fn vector(&self) -> io::Result<VectorState> {
        let mut area = VectorState::initial();
        let bytes = area.bytes_mut();
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        self.request(libc::PTRACE_GETREGSET, NT_X86_XSTATE, &raw mut vector as usize)?;
        Ok(area)
    }

    fn set_vector(&self, area: &mut VectorState) -> io::Result<()> {
        let length = VectorState::area_length();
        let mut vector = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: length };
        self.request(libc::PTRACE_SETREGSET, NT_X86_XSTATE, &raw mut vector as usize)
    }

    fn request(&self, request: libc::c_uint, address: usize, data: usize) -> io::Result<()> {
        // SAFETY: each caller passes what its request wants: integers, or a pointer to a buffer of the right type.
        match unsafe { libc::ptrace(request, self.pid, address, data) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // SAFETY: our child.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

fn slots(registers: &mut libc::user_regs_struct) -> [(&mut u64, Gpr); 16] {
    [
        (&mut registers.rax, Gpr::Rax),
        (&mut registers.rcx, Gpr::Rcx),
        (&mut registers.rdx, Gpr::Rdx),
        (&mut registers.rbx, Gpr::Rbx),
        (&mut registers.rsp, Gpr::Rsp),
        (&mut registers.rbp, Gpr::Rbp),
        (&mut registers.rsi, Gpr::Rsi),
        (&mut registers.rdi, Gpr::Rdi),
        (&mut registers.r8, Gpr::R8),
        (&mut registers.r9, Gpr::R9),
        (&mut registers.r10, Gpr::R10),
        (&mut registers.r11, Gpr::R11),
        (&mut registers.r12, Gpr::R12),
        (&mut registers.r13, Gpr::R13),
        (&mut registers.r14, Gpr::R14),
        (&mut registers.r15, Gpr::R15),
    ]
}
