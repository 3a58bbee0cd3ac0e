//! Interim answers on their way from an upstream to the caller (103 Early Hints; RFC 9110 §15.2).
//!
//! hyper's client tells of them, its server cannot send them. On an HTTP/1 connection they are plain bytes before the
//! answer, so the stream below the server writes them, at a moment at which the server has nothing left to write: between
//! two messages. Over HTTP/2 there is no such way, and they end here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, StatusCode};

/// How many bytes of interim answers may wait: a caller that takes none is not owed any.
const MOST: usize = 16 << 10;

/// What one connection still has to say before its next answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interim(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// So that nobody takes the lock who need not.
    is_waiting: AtomicBool,
    bytes: Mutex<BytesMut>,
    connection: AtomicWaker,
}

impl Interim {
    /// Has the upstream's interim answers to this request passed on.
    pub(crate) fn listen<B>(self, request: &mut Request<B>) {
        hyper::ext::on_informational(request, move |response| {
            self.tell(response.status(), response.headers());
        });
    }

    /// Passes an upstream's interim answer on.
    pub(crate) fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        // The server has said 100 itself, and 101 is an answer.
        if status.as_u16() > 101 {
            self.say(status, headers);
        }
    }

    fn say(&self, status: StatusCode, headers: &HeaderMap) {
        let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        let mut bytes = self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() + head.len() <= MOST {
            bytes.extend_from_slice(&head);
            self.0.is_waiting.store(true, Ordering::Release);
            self.0.connection.wake();
        }
    }

    /// Forgets what was not sent in time: the answer itself comes now.
    pub(super) fn close(&self) {
        if self.0.is_waiting.load(Ordering::Acquire) {
            self.take();
        }
    }

    /// What there is to say, for the connection that can say it now.
    pub(crate) fn take(&self) -> Option<Bytes> {
        // Acquire pairs with the Release above; the lock orders the bytes themselves.
        if !self.0.is_waiting.swap(false, Ordering::Acquire) {
            return None;
        }
        let mut bytes = self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        Some(bytes.split().freeze()).filter(|bytes| !bytes.is_empty())
    }

    /// Who is woken when there is something to say.
    pub(crate) fn register(&self, waker: &Waker) {
        self.0.connection.register(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_answer_is_said_once_or_not_at_all() {
        let interim = Interim::default();
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a.css>; rel=preload".parse().unwrap());
        interim.say(StatusCode::EARLY_HINTS, &headers);
        let said = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        assert_eq!(interim.take().unwrap(), said);
        assert_eq!(interim.take(), None);
        interim.say(StatusCode::EARLY_HINTS, &headers);
        interim.close();
        assert_eq!(interim.take(), None);
    }

    #[test]
    fn there_is_an_end_to_interim_answers() {
        let interim = Interim::default();
        for _ in 0..10_000 {
            interim.say(StatusCode::PROCESSING, &HeaderMap::new());
        }
        assert!(interim.take().unwrap().len() <= MOST);
    }
}
