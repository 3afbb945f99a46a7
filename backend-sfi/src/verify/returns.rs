//! The sequence of a return that the processor predicts, known by its bytes.

use super::ContextSlots;

/// `lea esp, [r11 + 8]`, directly before an indirect entry: where such a return arrives. rsp holds anything there.
pub(super) const ARRIVAL: [u8; 4] = [0x41, 0x8d, 0x63, 0x08];

/// Length of the sequence.
pub(super) const RETURN_BYTES: usize = 35;

/// Whether `bytes` begin with
///
/// ```text
/// 65 4e 8b 1c dd 00 00 00 00    mov r11, gs:[r11*8]
/// 4d 8d 5b fc                   lea r11, [r11-4]
/// 64 4c 89 1c 25 disp32         mov fs:[return_target], r11
/// 41 89 e3                      mov r11d, esp
/// 64 48 8b 24 25 disp32         mov rsp, fs:[return_stack]
/// c3                            ret
/// ```
pub(super) fn is_return(bytes: &[u8], slots: &ContextSlots) -> bool {
    let Some(bytes) = bytes.first_chunk::<RETURN_BYTES>() else { return false };
    let slot = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    bytes[..13] == [0x65, 0x4e, 0x8b, 0x1c, 0xdd, 0, 0, 0, 0, 0x4d, 0x8d, 0x5b, 0xfc]
        && bytes[13..18] == [0x64, 0x4c, 0x89, 0x1c, 0x25]
        && slot(18) == slots.return_target
        && bytes[22..30] == [0x41, 0x89, 0xe3, 0x64, 0x48, 0x8b, 0x24, 0x25]
        && slot(30) == slots.return_stack
        && bytes[34] == 0xc3
}
