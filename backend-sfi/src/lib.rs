//! Software fault isolation by binary translation backend of Endo.

pub mod verify;
