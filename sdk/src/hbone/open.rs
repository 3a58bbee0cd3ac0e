//! One `CONNECT` on a tunnel, from the request to its answer.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::StatusCode;
use http::response::Parts;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::carrier::Seat;
use super::{ConnectHead, Error, TunnelStream, linger};

/// A seat taken on a tunnel.
pub(super) struct Opening {
    pub(super) requests: SendRequest<Bytes>,
    pub(super) seat: Seat,
}

/// Sends the `CONNECT` and waits for its answer.
pub(super) async fn open(
    opening: Opening,
    head: &ConnectHead,
    after: Duration,
) -> Result<TunnelStream, Error> {
    let Opening { requests, seat } = opening;
    let addr = seat.carrier().peer.addr;
    let bad_head = |_| Error::Status {
        addr,
        authority: head.authority.to_string(),
        status: StatusCode::BAD_REQUEST,
    };
    let request = head.to_request().map_err(bad_head)?;
    // Fails only if the whole tunnel is gone or going, and then nothing of ours was sent.
    let mut requests = requests
        .ready()
        .await
        .map_err(|_| Error::RefusedStream { addr })?;
    let (answer, send) = requests
        .send_request(request, false)
        .map_err(|e| Error::before_answer(addr, e))?;
    drop(requests);
    let mut asked = Asked(Some((answer, send, seat)));
    let Ok(answered) = timeout(after, asked.answer()).await else {
        let authority = head.authority.to_string();
        return Err(Error::AnswerTimeout {
            addr,
            authority,
            after,
        });
    };
    let (parts, stream) = answered.map_err(|e| Error::before_answer(addr, e))?;
    if parts.status != StatusCode::OK {
        let authority = head.authority.to_string();
        let status = parts.status;
        return Err(Error::Status {
            addr,
            authority,
            status,
        }); // dropping the stream ends it
    }
    Ok(stream)
}

/// A `CONNECT` without an answer yet. If its owner loses interest it is ended like any stream, not reset.
struct Asked(Option<(ResponseFuture, SendStream<Bytes>, Seat)>);

impl Asked {
    /// # Cancel safety
    /// Until it returns, the stream stays in `self`.
    async fn answer(&mut self) -> Result<(Parts, TunnelStream), h2::Error> {
        let response = match &mut self.0 {
            Some((answer, ..)) => answer.await,
            None => return Err(h2::Reason::INTERNAL_ERROR.into()),
        };
        let Some((_, send, seat)) = self.0.take() else {
            return Err(h2::Reason::INTERNAL_ERROR.into());
        };
        let (parts, recv) = response?.into_parts();
        Ok((parts, TunnelStream::new(send, recv, seat)))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (Some((answer, mut send, seat)), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        // Fails only if the stream is over.
        let _ = send.send_data(Bytes::new(), true);
        runtime.spawn(async move {
            if let Ok(Ok(response)) = timeout(seat.carrier().linger, answer).await {
                linger::drain(response.into_body(), seat);
            }
        });
    }
}
