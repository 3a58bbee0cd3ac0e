//! Asking a quiet peer whether it is still there, and whether it has heard what was said.

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
    /// The peer has read all that was sent before [`Keepalive::ask`]; poll on.
    Heard,
    /// The peer did not answer the last one in time.
    Dead,
    /// The connection is over.
    Over,
}

/// Pings at an interval and waits for each answer. Polled by the task that drives the connection.
pub(super) struct Keepalive {
    /// `None` if the connection's pings were already taken, which only its first user can.
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    waiting: Waiting,
    /// A ping is wanted that follows what was sent so far.
    asked: bool,
    every: Duration,
    timeout: Duration,
}

/// Which answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// That of a ping at its time.
    Beat,
    /// That of a ping that was asked for.
    Hearing,
}

impl Keepalive {
    pub(super) fn new(pings: Option<PingPong>, every: Duration, timeout: Duration) -> Self {
        Self {
            pings,
            timer: Box::pin(sleep(every)),
            waiting: Waiting::Nothing,
            asked: false,
            every,
            timeout,
        }
    }

    /// Asks the peer whether it has read what was sent so far; [`Beat::Heard`] says so. The connection must be polled after
    /// what shall be heard was said, and before this is, or the ping goes first.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Beat> {
        let Some(pings) = &mut self.pings else {
            return match std::mem::take(&mut self.asked) {
                // Nobody can be asked: waiting for an answer would last for ever.
                true => Poll::Ready(Beat::Heard),
                false => Poll::Pending,
            };
        };
        if self.waiting != Waiting::Nothing
            && let Poll::Ready(answer) = pings.poll_pong(cx)
        {
            if answer.is_err() {
                return Poll::Ready(Beat::Over);
            }
            self.timer.as_mut().reset(Instant::now() + self.every);
            if std::mem::replace(&mut self.waiting, Waiting::Nothing) == Waiting::Hearing {
                return Poll::Ready(Beat::Heard);
            }
        }
        // One ping at a time is all that the codec allows.
        let asked = self.asked && self.waiting == Waiting::Nothing;
        if !asked {
            ready!(self.timer.as_mut().poll(cx));
        }
        if self.waiting != Waiting::Nothing {
            return Poll::Ready(Beat::Dead);
        }
        if pings.send_ping(Ping::opaque()).is_err() {
            return Poll::Ready(Beat::Over);
        }
        self.asked &= !asked;
        self.waiting = if asked { Waiting::Hearing } else { Waiting::Beat };
        self.timer.as_mut().reset(Instant::now() + self.timeout);
        Poll::Ready(Beat::Sent)
    }
}
