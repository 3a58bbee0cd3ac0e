//! Measurements: `--bin engines` times the engines alone, `--bin compile` what makes them, `--bin compare` whole requests
//! beside bare hyper and a real Envoy.

pub mod compare;
pub mod compile;
pub mod engines;
