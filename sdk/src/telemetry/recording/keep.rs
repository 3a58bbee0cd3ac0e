//! Traces that are kept after all: what was not sampled, and turned out to be worth it.
//!
//! Whether a request is slow or fails is known at its end, when others on its way have long decided not to record it. So
//! what can be kept is the local part: the span of the request that came in here, and of the calls made for it. They wait
//! until that request has ended, in a room that is bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::trace::v1::Span;

/// How many requests may be under way whose spans wait; at a dozen spans of a kilobyte each, some fifty megabytes at worst.
const TRACES: usize = 4_096;
/// How many spans one of them may have.
const SPANS: usize = 32;

/// How many local parts there may be at once.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: AtomicUsize,
}

/// The local part of a trace that nobody has decided to record.
#[derive(Debug)]
pub(crate) struct LocalTrace {
    room: Arc<Room>,
    /// `None` once the root has ended: what comes later has missed it.
    waiting: Mutex<Option<Vec<Span>>>,
}

impl LocalTrace {
    /// Begins one; `None` if there is no room.
    pub(crate) fn begin(room: &Arc<Room>) -> Option<Arc<Self>> {
        let taken = room
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < TRACES).then_some(taken + 1)
            });
        taken.ok().map(|_| {
            Arc::new(Self {
                room: Arc::clone(room),
                waiting: Mutex::new(Some(Vec::new())),
            })
        })
    }

    /// Puts a span of a call by; `false` if there is no room for it, or nobody waits any more.
    pub(super) fn put(&self, span: Span) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.as_mut() {
            Some(spans) if spans.len() < SPANS => {
                spans.push(span);
                true
            }
            _ => false,
        }
    }

    /// Ends it: what was put by.
    pub(super) fn end(&self) -> Vec<Span> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take().unwrap_or_default()
    }
}

impl Drop for LocalTrace {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_it_is_given_back() {
        let room = Arc::new(Room::default());
        let all: Vec<_> = (0..TRACES).map(|_| LocalTrace::begin(&room).unwrap()).collect();
        assert!(LocalTrace::begin(&room).is_none());
        drop(all);
        let one = LocalTrace::begin(&room).unwrap();
        for _ in 0..SPANS {
            assert!(one.put(Span::default()));
        }
        assert!(!one.put(Span::default()));
        assert_eq!(one.end().len(), SPANS);
        assert!(!one.put(Span::default()), "whoever comes late has missed it");
        assert!(one.end().is_empty());
    }
}
