//! Figures for `--stats`.

use endo_core::Statistic;

/// What has been counted since the backend was created.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Fragments translated.
    pub fragments: u64,
    /// Guest instructions translated.
    pub instructions: u64,
    /// Guest bytes that fragments cover.
    pub guest_bytes: u64,
    /// Bytes emitted.
    pub emitted_bytes: u64,
    /// Direct branches linked after they were emitted.
    pub links: u64,
    /// Indirect branches that found no entry.
    pub misses: u64,
    /// Instructions emulated.
    pub emulated: u64,
    /// Fragments dropped because their code changed or went away.
    pub retired: u64,
    /// Stores into pages with translated code.
    pub code_writes: u64,
    /// Times the whole cache was dropped.
    pub flushes: u64,
    /// Fragments that the verifier refused.
    pub refused_fragments: u64,
    /// Instructions that raise SIGILL because the verifier refused them.
    pub refused_instructions: u64,
    /// Fragments that an earlier process had translated.
    pub taken: u64,
}

impl Counters {
    /// As the monitor shows them.
    pub fn statistics(&self) -> Vec<Statistic> {
        [
            ("fragments translated", self.fragments, ""),
            ("guest instructions translated", self.instructions, ""),
            ("guest code covered", self.guest_bytes, "bytes"),
            ("code emitted", self.emitted_bytes, "bytes"),
            ("branches linked", self.links, ""),
            ("dispatch misses", self.misses, ""),
            ("instructions emulated", self.emulated, ""),
            ("fragments retired", self.retired, ""),
            ("stores into translated pages", self.code_writes, ""),
            ("cache flushes", self.flushes, ""),
            ("fragments refused by the verifier", self.refused_fragments, ""),
            ("instructions refused by the verifier", self.refused_instructions, ""),
            ("fragments taken from the store", self.taken, ""),
        ]
        .map(|(name, value, unit)| Statistic { name, value, unit })
        .into()
    }
}
