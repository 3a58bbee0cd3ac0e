//! The numbers of a tunnel.

use std::net::IpAddr;
use std::time::Duration;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// Windows, limits and times of tunnels. The defaults are ztunnel's unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How many bytes a peer may send on one stream before we have read any: 512 KiB. ztunnel's 4 MiB would let four
    /// unread streams fill its connection window, and in a waypoint the streams of one tunnel belong to many callers.
    pub stream_window: u32,
    /// The same for all streams of a tunnel together: 64 MiB, which is more than all the streams that we open on one
    /// tunnel can hold unread. Otherwise whoever stops reading would hold up everybody behind the same tunnel.
    pub connection_window: u32,
    /// The largest HTTP/2 frame we accept: 1 MiB.
    pub max_frame: u32,
    /// How many bytes written to one stream may wait for the network: 1 MiB. A writer waits beyond that.
    pub send_buffer: usize,
    /// How many streams we open on one tunnel, if the peer allows as many: 100.
    pub max_streams: usize,
    /// How many streams we let a peer open on one tunnel: 200.
    pub advertised_streams: u32,
    /// The decoded size of an answer's header fields that we accept as a client: 16 KiB.
    pub client_header_list: u32,
    /// The decoded size of a request's header fields that we accept as a server: 64 KiB.
    pub server_header_list: u32,
    /// How long a tunnel is quiet before we ask whether the peer is still there: 10 s.
    pub ping_every: Duration,
    /// How long it may take to say yes before the tunnel is given up: 20 s.
    pub ping_timeout: Duration,
    /// The address that tunnels are dialled from, to peers of its family; `None` leaves it to the system.
    pub dial_from: Option<IpAddr>,
    /// How long a TCP connection may take: 10 s.
    pub connect_timeout: Duration,
    /// How long TLS and the HTTP/2 preface may take: 10 s.
    pub handshake_timeout: Duration,
    /// How long a peer may take to answer a `CONNECT`: 20 s, since ztunnel waits 5 s for a workload and then 10 s for
    /// its TCP connection before it answers.
    pub answer_timeout: Duration,
    /// How long a tunnel without streams is kept: 5 min. Pings do not count as use.
    pub idle_release: Duration,
    /// How long the receiving side of a dropped stream is still drained so that it ends without a reset: 5 s.
    pub linger: Duration,
    /// How old a tunnel that a peer made may become before the peer is told to make another, give or take a tenth: without
    /// it callers stay with the instances of a waypoint that were there first. `None` leaves them.
    pub max_age: Option<Duration>,
    /// How many streams a peer may reset on one tunnel before it is sent away: 1000, if that is also more than half of
    /// what it opened. Envoy's limit is of this kind.
    pub max_resets: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 512 * KIB,
            connection_window: 64 * MIB,
            max_frame: MIB,
            send_buffer: MIB as usize,
            max_streams: 100,
            advertised_streams: 200,
            client_header_list: 16 * KIB,
            server_header_list: 64 * KIB,
            ping_every: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            dial_from: None,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(20),
            idle_release: Duration::from_secs(300),
            linger: Duration::from_secs(5),
            max_age: None,
            max_resets: 1000,
        }
    }
}

/// Streams that the peer reset and that were not yet handed out: beyond this it is a flood (CVE-2023-44487).
const PENDING_RESETS: usize = 50;
/// Streams that we had to reset because of the peer's malformed frames: beyond this it is a flood (CVE-2025-8671).
const LOCAL_ERRORS: usize = 100;
/// Reset streams that are remembered, so that frames still under way for them are no error.
const REMEMBERED_RESETS: usize = 50;

impl Settings {
    /// How long a peer can be silent before it is given up: the time to the next ping, and that for its answer.
    pub fn silence(&self) -> Duration {
        self.ping_every.saturating_add(self.ping_timeout)
    }

    pub(super) fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame)
            .max_header_list_size(self.client_header_list)
            .max_send_buffer_size(self.send_buffer)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(Some(LOCAL_ERRORS))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .enable_push(false);
        builder
    }

    pub(super) fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_frame_size(self.max_frame)
            .max_header_list_size(self.server_header_list)
            .max_send_buffer_size(self.send_buffer)
            .max_concurrent_streams(self.advertised_streams)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(Some(LOCAL_ERRORS))
            .max_pending_accept_reset_streams(PENDING_RESETS);
        builder
    }
}
