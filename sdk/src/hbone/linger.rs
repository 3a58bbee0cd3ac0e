//! Ending a stream politely.

use h2::RecvStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::carrier::Seat;

/// How many bytes are thrown away for a peer that goes on sending, before it is reset.
const PATIENCE: usize = 16 * 1024 * 1024;

/// Drains what the peer still sends on a stream whose owner is gone, so that it ends by itself.
///
/// Dropping an HTTP/2 stream that the peer has not ended resets it. Envoy counts resets and closes the whole
/// connection after a thousand, streams of others included; an END_STREAM and a little patience avoid that. The task is
/// bounded in time, in bytes and in number per tunnel.
pub(super) fn drain(recv: RecvStream, seat: Seat) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if !seat.carrier().start_linger() {
        return;
    }
    runtime.spawn(async move {
        let wait = seat.carrier().linger;
        let _ = timeout(wait, swallow(recv)).await;
        seat.carrier().end_linger();
    });
}

async fn swallow(mut recv: RecvStream) {
    let mut swallowed = 0;
    while let Some(Ok(chunk)) = recv.data().await {
        swallowed += chunk.len();
        if swallowed > PATIENCE || recv.flow_control().release_capacity(chunk.len()).is_err() {
            return;
        }
    }
}
