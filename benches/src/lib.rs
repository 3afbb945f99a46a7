//! Benchmarks of Endo.
