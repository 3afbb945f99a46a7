//! XRSTOR of a guest, done by the monitor: all that it loads but the rights of keys.
//!
//! Follows SDM volume 1, 13.8, for user components in the standard and the compacted format. Where the processor would
//! raise a general-protection fault, so does this.

use core::arch::x86_64::__cpuid_count;

use endo_core::arch::xsave;
use endo_core::{Fault, FaultKind, GuestAddr, VectorState};

use super::user::User;

/// The word after XSTATE_BV in the header; its top bit says that the area is compacted.
const XCOMP_BV: usize = xsave::HEADER + 8;
const COMPACTED: u64 = 1 << 63;

/// Loads the components of `requested` (edx:eax) from the guest's area at `address` into `state`.
pub(super) fn emulate(
    state: &mut VectorState,
    user: User,
    address: u64,
    requested: u64,
) -> Result<(), Fault> {
    const PROTECTION: Fault = Fault { kind: FaultKind::Protection, address: GuestAddr(0) };
    if !address.is_multiple_of(64) {
        return Err(PROTECTION);
    }
    let mut head = [0_u8; xsave::EXTENDED];
    user.load(address, &mut head)?;
    let (present, compaction) = (word(&head, xsave::HEADER), word(&head, XCOMP_BV));
    let requested = requested & xsave::enabled_components();
    let is_compacted = compaction & COMPACTED != 0;
    let is_valid = if is_compacted { present & !compaction == 0 } else { compaction == 0 };
    if !is_valid || present & !(xsave::enabled_components() | xsave::PKRU) != 0 {
        return Err(PROTECTION);
    }
    let length = state.bytes().len();
    let mut compact_offset = xsave::EXTENDED;
    for component in 2..63_u32 {
        let bit = 1_u64 << component;
        if is_compacted && compaction & bit == 0 && requested & present & bit == 0 {
            continue;
        }
        if requested & bit == 0 && !is_compacted {
            continue;
        }
        let leaf = __cpuid_count(0xd, component);
        let (size, standard) = (leaf.eax as usize, leaf.ebx as usize);
        if is_compacted && leaf.ecx & 2 != 0 {
            compact_offset = compact_offset.next_multiple_of(64);
        }
        let from = if is_compacted { compact_offset } else { standard };
        compact_offset += size;
        let is_ours = requested & bit != 0 && bit & xsave::PKRU == 0 && standard + size <= length;
        if is_ours && present & bit != 0 {
            user.load(address + from as u64, &mut state.bytes_mut()[standard..standard + size])?;
        }
    }
    load_legacy(state, &head, requested, present, is_compacted);
    let kept = word(state.bytes(), xsave::HEADER) & !requested;
    let loaded = present & requested & !xsave::PKRU;
    state.bytes_mut()[xsave::HEADER..XCOMP_BV].copy_from_slice(&(kept | loaded).to_le_bytes());
    Ok(())
}

/// x87 and SSE, which share the first 512 bytes, and MXCSR, which has rules of its own (13.8.1).
fn load_legacy(state: &mut VectorState, head: &[u8], requested: u64, present: u64, is_compacted: bool) {
    const X87: u64 = 1;
    const SSE: u64 = 2;
    const AVX: u64 = 4;
    let bytes = state.bytes_mut();
    if requested & present & X87 != 0 {
        bytes[..xsave::MXCSR].copy_from_slice(&head[..xsave::MXCSR]);
        bytes[32..160].copy_from_slice(&head[32..160]);
    }
    if requested & present & SSE != 0 {
        bytes[160..xsave::RESERVED].copy_from_slice(&head[160..xsave::RESERVED]);
    }
    let mxcsr = xsave::MXCSR..xsave::MXCSR_MASK.start;
    if is_compacted && requested & SSE != 0 && present & SSE == 0 {
        bytes[mxcsr].copy_from_slice(&xsave::MXCSR_DEFAULT.to_le_bytes());
    } else if requested & (SSE | AVX) != 0 {
        bytes[mxcsr.clone()].copy_from_slice(&head[mxcsr]);
    }
}

fn word(area: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(area[at..at + 8].try_into().expect("eight bytes"))
}
