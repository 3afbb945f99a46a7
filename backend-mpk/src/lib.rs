//! Protection-key isolation backend of Endo.
