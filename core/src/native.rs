//! What backends share whose guests run natively: [`dispatch`] captures system calls, [`entry`] is where signals arrive,
//! [`frame`] reads and writes the state in their frames, [`requirements`] says what the machine needs for it.

pub mod dispatch;
pub mod entry;
pub mod frame;
pub mod requirements;

/// A segment base that the processor takes. No guest can hold another.
pub fn canonical_or_zero(base: u64) -> u64 {
    let sign_extended = (base as i64) << 16 >> 16;
    if sign_extended as u64 == base { base } else { 0 }
}
