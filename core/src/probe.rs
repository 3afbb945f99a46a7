//! Whether a backend can work on this machine, and what it then promises.

/// Why a backend cannot be used here. All reasons are listed, not only the first.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", reasons.join("; "))]
pub struct Unavailable {
    /// Each in a few lowercase words: "the cpu has no protection keys (cpuid 7.0 ecx.pku is 0)".
    pub reasons: Vec<String>,
}

impl Unavailable {
    /// A single reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Unavailable { reasons: vec![reason.into()] }
    }
}

bitflags::bitflags! {
    /// Which accesses a backend confines to the domain.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Confinement: u8 {
        /// Loads.
        const LOADS = 1;
        /// Stores.
        const STORES = 2;
        /// Control transfers.
        const JUMPS = 4;
        /// System calls: none reaches the kernel but through the monitor.
        const SYSCALLS = 8;
    }
}

/// Against whom a backend's confinement holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// Nothing is confined.
    Nobody,
    /// Wild pointers and overflows, not code that sets out to escape.
    Accidents,
    /// Arbitrary code.
    HostileCode,
}

/// What a backend offers on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Properties {
    /// The accesses that are confined.
    pub confinement: Confinement,
    /// Against whom.
    pub against: Against,
    /// How many domains can exist at once, the main one included.
    pub max_domains: u32,
    /// Bytes of address space that one domain has.
    pub address_space: u64,
    /// What a user should know besides, one lowercase line each.
    pub caveats: Vec<&'static str>,
}
