//! Guest code as assembly: written beside the property that runs it, assembled with the suite, copied into the guest.

/// Position-independent machine code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snippet {
    /// All of it.
    pub(super) bytes: &'static [u8],
    /// Offset of the instruction of interest.
    pub(super) here: u64,
}

impl Snippet {
    /// # Safety
    ///
    /// The three are labels in one section of read-only data, in this order.
    pub(super) unsafe fn between(start: *const u8, here: *const u8, end: *const u8) -> Self {
        let length = end as usize - start as usize;
        // SAFETY: the caller vouches for the labels.
        let bytes = unsafe { core::slice::from_raw_parts(start, length) };
        Snippet { bytes, here: (here as usize - start as usize) as u64 }
    }
}

/// `snippet!(name: "before", … ; "here", …)` assembles a [`Snippet`] and evaluates to it. What comes before the semicolon may be
/// left out; names are unique in the suite.
macro_rules! snippet {
    ($name:ident: $($line:literal),+) => { snippet!($name: ; $($line),+) };
    ($name:ident: $($before:literal),* ; $($line:literal),+) => {{
        mod assembly { core::arch::global_asm!(
            ".pushsection .rodata.endo_conformance, \"a\"",
            concat!(".globl endo_conformance_", stringify!($name)),
            concat!(".globl endo_conformance_", stringify!($name), "_here"),
            concat!(".globl endo_conformance_", stringify!($name), "_end"),
            concat!("endo_conformance_", stringify!($name), ":"),
            $($before,)*
            concat!("endo_conformance_", stringify!($name), "_here:"),
            $($line,)+
            concat!("endo_conformance_", stringify!($name), "_end:"),
            ".popsection",
        ); }
        unsafe extern "C" {
            #[link_name = concat!("endo_conformance_", stringify!($name))]
            static START: u8;
            #[link_name = concat!("endo_conformance_", stringify!($name), "_here")]
            static HERE: u8;
            #[link_name = concat!("endo_conformance_", stringify!($name), "_end")]
            static END: u8;
        }
        // SAFETY: labels of the section above, in this order.
        unsafe { $crate::conformance::x86_64::snippet::Snippet::between(&raw const START, &raw const HERE, &raw const END) }
    }};
}
pub(super) use snippet;
