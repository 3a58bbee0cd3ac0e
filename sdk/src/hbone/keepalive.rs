//! Asking a quiet peer whether it is still there.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// What became due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// A ping was sent; poll on.
    Sent,
    /// The peer did not answer the last one in time, or the connection is over.
    Dead,
}

/// Pings at an interval and waits for each answer. Polled by the task that drives the connection.
pub(super) struct Keepalive {
    /// `None` if the connection's pings were already taken, which only its first user can.
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    every: Duration,
    timeout: Duration,
}

impl Keepalive {
    pub(super) fn new(pings: Option<PingPong>, every: Duration, timeout: Duration) -> Self {
        Self {
            pings,
            timer: Box::pin(sleep(every)),
            waiting: false,
            every,
            timeout,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Beat> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        if self.waiting
            && let Poll::Ready(answer) = pings.poll_pong(cx)
        {
            if answer.is_err() {
                return Poll::Ready(Beat::Dead);
            }
            self.waiting = false;
            self.timer.as_mut().reset(Instant::now() + self.every);
        }
        ready!(self.timer.as_mut().poll(cx));
        if self.waiting || pings.send_ping(Ping::opaque()).is_err() {
            return Poll::Ready(Beat::Dead);
        }
        self.waiting = true;
        self.timer.as_mut().reset(Instant::now() + self.timeout);
        Poll::Ready(Beat::Sent)
    }
}
