//! Programs that use inmesh.
//!
//! [`bookinfo`] is Istio's sample application, ported: four services, each of which links the library and so
//! needs no proxy beside it. The binaries in `src/bin` are one page each and say in their first lines what to
//! type.

pub mod bookinfo;
mod observe;
mod stop;

pub use observe::telemetry;
pub use stop::{GRACE, serve, told_to_stop};
