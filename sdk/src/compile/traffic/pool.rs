//! `connectionPool`.

use crate::config::istio::destination_rule::{ConnectionPoolSettings, H2UpgradePolicy};
use crate::policy::limit::Limits;
use crate::policy::traffic::{ConnectionPolicy, Keepalive, Upgrade};

/// How much at once. Upstream cannot tell 0 from nothing: both mean no limit.
pub fn limits(written: &ConnectionPoolSettings) -> Limits {
    let limit = |it: Option<u32>| it.filter(|it| *it > 0).unwrap_or(u32::MAX);
    let http = written.http.as_ref();
    Limits {
        connections: limit(written.tcp.as_ref().and_then(|it| it.max_connections)),
        pending: limit(http.and_then(|it| it.http1_max_pending_requests)),
        requests: limit(http.and_then(|it| it.http2_max_requests)),
    }
}

/// How connections are made and kept.
pub fn connections(written: &ConnectionPoolSettings) -> ConnectionPolicy {
    let (tcp, http) = (written.tcp.as_ref(), written.http.as_ref());
    let some = |it: Option<u32>| it.filter(|it| *it > 0);
    let idle = http
        .and_then(|it| it.idle_timeout)
        .or_else(|| tcp.and_then(|it| it.idle_timeout));
    let ping = http.and_then(|it| it.http2_keep_alive.as_ref());
    let upgrade = match http {
        Some(it) if it.use_client_protocol == Some(true) => Upgrade::Caller,
        Some(it) if it.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) => Upgrade::Http2,
        _ => Upgrade::Declared,
    };
    ConnectionPolicy {
        connect_timeout: tcp.and_then(|it| it.connect_timeout).map(|it| it.0),
        idle_timeout: idle.map(|it| it.0),
        max_age: tcp.and_then(|it| it.max_connection_duration).map(|it| it.0),
        max_requests: some(http.and_then(|it| it.max_requests_per_connection)),
        max_streams: some(http.and_then(|it| it.max_concurrent_streams)),
        keepalive: tcp.and_then(|it| it.tcp_keepalive.as_ref()).map(|it| Keepalive {
            probes: it.probes,
            time: it.time.map(|it| it.0),
            interval: it.interval.map(|it| it.0),
        }),
        ping: ping.and_then(|it| Some((it.interval?.0, it.timeout?.0))),
        upgrade,
    }
}
