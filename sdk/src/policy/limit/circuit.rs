//! Circuit breaking: how much one destination may be asked at once.

/// Limits of everything that is under way to one destination, from this process (`connectionPool` of a
/// DestinationRule). Unlimited unless something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, whichever endpoint they lead to.
    pub connections: u32,
    /// Requests that wait for a connection, whatever protocol they use.
    pub pending: u32,
    /// Requests under way, whatever protocol they use.
    pub requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: u32::MAX,
            pending: u32::MAX,
            requests: u32::MAX,
        }
    }
}
