//! ARM permission overlays and memory tagging backend of Endo.
