//! What the loader has to know of the architecture that guests run on.

use std::ffi::CStr;

use goblin::elf::header;

#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{
    MACHINE, PLATFORM, RETURN_ADDRESS, UNWIND_RULES, VDSO_FUNCTIONS, VDSO_VERSION, offered_hwcap2, vdso_stub,
};

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::{
    MACHINE, PLATFORM, RETURN_ADDRESS, UNWIND_RULES, VDSO_FUNCTIONS, VDSO_VERSION, offered_hwcap2, vdso_stub,
};

/// A function of the vDSO: its name, and the system call that it stands for.
pub(super) struct VdsoFunction {
    pub(super) name: &'static str,
    pub(super) number: u32,
}

const fn function(name: &'static str, number: i64) -> VdsoFunction {
    VdsoFunction { name, number: number as u32 }
}

/// Bytes that each stub of the vDSO takes, padding included.
pub(super) const VDSO_STUB_LENGTH: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::*;

    /// `e_machine` of programs that can run here.
    pub(in super::super) const MACHINE: u16 = header::EM_X86_64;

    /// `AT_PLATFORM` (arch/x86/include/asm/elf.h).
    pub(in super::super) const PLATFORM: &CStr = c"x86_64";

    /// The symbol version of the vDSO (arch/x86/entry/vdso/vdso.lds.S).
    pub(in super::super) const VDSO_VERSION: &str = "LINUX_2.6";

    /// Every name twice, as in the kernel's: C libraries look for the prefixed one, old programs for the other.
    pub(in super::super) const VDSO_FUNCTIONS: &[VdsoFunction] = &[
        function("__vdso_clock_gettime", libc::SYS_clock_gettime),
        function("__vdso_gettimeofday", libc::SYS_gettimeofday),
        function("__vdso_time", libc::SYS_time),
        function("__vdso_getcpu", libc::SYS_getcpu),
        function("__vdso_clock_getres", libc::SYS_clock_getres),
        function("clock_gettime", libc::SYS_clock_gettime),
        function("gettimeofday", libc::SYS_gettimeofday),
        function("time", libc::SYS_time),
        function("getcpu", libc::SYS_getcpu),
        function("clock_getres", libc::SYS_clock_getres),
    ];

    /// `mov eax, number; syscall; ret`, padded with int3.
    pub(in super::super) const fn vdso_stub(number: u32) -> [u8; VDSO_STUB_LENGTH] {
        let mut code = [0xcc; VDSO_STUB_LENGTH];
        let number = number.to_le_bytes();
        code[0] = 0xb8;
        code[1] = number[0];
        code[2] = number[1];
        code[3] = number[2];
        code[4] = number[3];
        code[5] = 0x0f;
        code[6] = 0x05;
        code[7] = 0xc3;
        code
    }

    /// DWARF's number of the return address column.
    pub(in super::super) const RETURN_ADDRESS: u8 = 16;

    /// DW_CFA_def_cfa rsp, 8; DW_CFA_offset of the return address, 1 (times -8).
    pub(in super::super) const UNWIND_RULES: &[u8] = &[0x0c, 7, 8, 0x90, 1];

    /// `AT_HWCAP2` without bit 1, HWCAP2_FSGSBASE (arch/x86/include/uapi/asm/hwcap2.h): segment bases are the monitor's.
    pub(in super::super) const fn offered_hwcap2(hardware: u64) -> u64 {
        hardware & !(1 << 1)
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::*;

    /// `e_machine` of programs that can run here.
    pub(in super::super) const MACHINE: u16 = header::EM_AARCH64;

    /// `AT_PLATFORM` (arch/arm64/include/asm/elf.h).
    pub(in super::super) const PLATFORM: &CStr = c"aarch64";

    /// The symbol version of the vDSO (arch/arm64/kernel/vdso/vdso.lds.S).
    pub(in super::super) const VDSO_VERSION: &str = "LINUX_2.6.39";

    /// The vDSO's functions.
    pub(in super::super) const VDSO_FUNCTIONS: &[VdsoFunction] = &[
        function("__kernel_clock_gettime", libc::SYS_clock_gettime),
        function("__kernel_gettimeofday", libc::SYS_gettimeofday),
        function("__kernel_clock_getres", libc::SYS_clock_getres),
        function("__kernel_rt_sigreturn", libc::SYS_rt_sigreturn),
    ];

    /// `mov w8, #number; svc #0; ret`, padded with brk.
    pub(in super::super) const fn vdso_stub(number: u32) -> [u8; VDSO_STUB_LENGTH] {
        let words = [0x5280_0008 | (number & 0xffff) << 5, 0xd400_0001, 0xd65f_03c0_u32, 0xd420_0000];
        let mut code = [0; VDSO_STUB_LENGTH];
        let mut i = 0;
        while i < VDSO_STUB_LENGTH {
            code[i] = words[i / 4].to_le_bytes()[i % 4];
            i += 1;
        }
        code
    }

    /// DWARF's number of the return address column: the link register.
    pub(in super::super) const RETURN_ADDRESS: u8 = 30;

    /// DW_CFA_def_cfa sp, 0.
    pub(in super::super) const UNWIND_RULES: &[u8] = &[0x0c, 31, 0];

    /// `AT_HWCAP2` as the hardware has it.
    pub(in super::super) const fn offered_hwcap2(hardware: u64) -> u64 {
        hardware
    }
}
