//! Every property of the conformance suite, on this backend with returns that the processor predicts.

#![cfg(target_arch = "x86_64")]

use endo_core::BackendConfig;

fn predicting() -> BackendConfig {
    BackendConfig { predict_returns: true, ..BackendConfig::default() }
}

endo_core::conformance_suite!(endo_sfi::SfiBackend, predicting);
