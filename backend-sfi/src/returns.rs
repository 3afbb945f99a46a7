//! How a guest's returns are carried out.

/// The two ways. All code in the cache is made for the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Returns {
    /// Through the dispatch table, like any indirect jump: few instructions, but the processor has to predict where each one
    /// leads, with a predictor that has room for some thousands of places.
    #[default]
    Dispatched,
    /// By the processor's own `ret`, which predicts from its stack of return addresses, whatever the number of places. The
    /// address is the dispatch table's and is returned to from the thread's context, never from the guest's stack. Twice the
    /// instructions: it pays for programs with very much code.
    Predicted,
}

/// From how many bytes of code in one mapping on a program's returns are predicted.
pub const LARGE_CODE: u64 = 8 << 20;
