//! The null backend.
/// TODO
pub struct NullBackend;
