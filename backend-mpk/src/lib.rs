//! Protection-key isolation backend of Endo.
//!
//! Guests run natively, in pages of their own key; everything else has the default key, the monitor's, which they have no rights
//! to. [`pkru`] is the rights register, `probe` finds what stands in the way on a machine, [`scan`] looks for instructions
//! that load the register, [`book`] records guest pages. The rest is x86-64's, in `x86_64`.

#[cfg(target_arch = "x86_64")]
pub mod book;
pub mod pkru;
mod probe;
pub mod scan;

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{MpkBackend, ProtectionKeys};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{MpkBackend, MpkThread};
