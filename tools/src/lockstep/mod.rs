//! The lock-step comparer: a program under translation and, instruction by instruction, natively.
//!
//! The program runs under the monitor as always, but for [`backend::Stepping`], a backend that wraps the translating one: it runs
//! a step translated, then the same in a traced child ([`twin`]) that has the guest's memory at the guest's addresses, and
//! compares registers, vector state and what the step stored. The child makes no system calls: what the monitor did for
//! one is copied to it ([`memory`]), so both see the same world.

mod backend;
mod compare;
mod follow;
mod gate;
mod memory;
pub mod twin;

use std::ffi::{CStr, CString};

use endo::launch::{self, Guest};
use endo::loader;
use endo::memory::Scatter;
use endo::process::Ending;
use endo_core::BackendConfig;
use endo_core::copy::copy;
use endo_core::syscall::NullMonitor;
use endo_core::{HostAddr, VerifyMode};
use endo_sfi::step::Stride;

use self::backend::{OPTIONS, Options};

/// Runs a program and compares. Does not return if anything differs: the first divergence is printed and the process ends
/// with status 1.
pub fn run(program: &[CString], stride: Stride, wrong_at: Option<u64>) -> anyhow::Result<Ending> {
    let arguments: Vec<&CStr> = program.iter().map(CString::as_c_str).collect();
    let path = std::env::var_os("PATH");
    let found = loader::find(arguments[0], path.as_deref())?;
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            use std::os::unix::ffi::OsStrExt;
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    OPTIONS.set(Options { stride, wrong_at }).map_err(|_| anyhow::anyhow!("one program in a process"))?;
    let config = BackendConfig { verify: VerifyMode::On, ..BackendConfig::default() };
    let guest = Guest {
        scatter: Scatter::new([0; 32]),
        program: found,
        arguments: &arguments,
        environment: &environment,
        legacy: None,
        options: &[],
        report: None,
    };
    Ok(launch::run::<backend::Stepping, NullMonitor>(config, NullMonitor, guest)?)
}

/// Guest memory of this process, copied; `None` where some of it cannot be read.
fn guest_bytes(start: u64, length: usize) -> Option<Vec<u8>> {
    if start + length as u64 > 1 << 32 {
        return None;
    }
    let mut bytes = vec![0; length];
    // SAFETY: the destination has `length` bytes; the source lies in the guest's window, and the copy recovers from faults.
    let missing = unsafe { copy(HostAddr(bytes.as_mut_ptr() as usize), HostAddr(start as usize), length) };
    (missing == 0).then_some(bytes)
}
