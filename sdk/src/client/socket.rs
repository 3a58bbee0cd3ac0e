//! The socket of a plain connection to a workload.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::policy::traffic::Keepalive;

/// How long what was sent may stay unacknowledged before the peer is given up: as long as a tunnel waits for its pings.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Prepares a socket: no delay, keep-alive as the destination wants it. Where it wants none, a peer that vanished without
/// a word is noticed by what it does not acknowledge.
pub(super) fn prepare(stream: &TcpStream, keepalive: Option<&Keepalive>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    match keepalive {
        Some(it) => {
            let mut wanted = TcpKeepalive::new();
            if let Some(time) = it.time {
                wanted = wanted.with_time(time);
            }
            if let Some(interval) = it.interval {
                wanted = wanted.with_interval(interval);
            }
            if let Some(probes) = it.probes {
                wanted = wanted.with_retries(probes);
            }
            socket.set_tcp_keepalive(&wanted)
        }
        #[cfg(target_os = "linux")]
        None => socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)),
        #[cfg(not(target_os = "linux"))]
        None => Ok(()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keep_alive_is_the_destinations() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wanted = Keepalive {
            probes: Some(4),
            time: Some(Duration::from_secs(7)),
            interval: Some(Duration::from_secs(3)),
        };
        prepare(&stream, Some(&wanted)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 7);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 3);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&other, None).unwrap();
        assert_eq!(
            SockRef::from(&other).tcp_user_timeout().unwrap(),
            Some(UNACKNOWLEDGED)
        );
    }
}
