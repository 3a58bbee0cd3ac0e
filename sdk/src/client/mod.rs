//! The outbound end: from a request with an endpoint to a response.
//!
//! ```text
//! Client ── Observe ── Route ── Retry ── Balance ── Upstream ── inner HTTP connection ── tunnel ── TLS ── TCP
//! ```

mod connection;
mod directory;
mod facade;
mod http1;
mod http2;
mod introduce;
mod lane;
mod lifetime;
mod raw;
mod room;
mod socket;
mod tls;
mod translate;
mod unheard;
mod upstream;
mod wire;

pub use directory::PodDirectory;
pub use facade::Client;
pub(crate) use facade::sweep;
pub use raw::Connection;
pub use upstream::Upstream;
pub(crate) use wire::Opened;
pub use wire::Wire;
