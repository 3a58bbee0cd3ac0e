//! Measurements: `--bin engines` times the engines alone, `--bin compare` whole requests beside bare hyper and a
//! real Envoy.

pub mod compare;
pub mod engines;
