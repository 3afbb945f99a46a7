//! Software fault isolation by binary translation backend of Endo.
