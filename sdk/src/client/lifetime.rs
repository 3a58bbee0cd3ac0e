//! How long a byte stream may last, and how long nothing may move on it.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::policy::traffic::ConnectionPolicy;

/// The times of one byte stream (`maxConnectionDuration` and `idleTimeout` of `connectionPool.tcp`).
#[derive(Debug)]
pub(super) struct Lifetime {
    end: Option<(Duration, Pin<Box<Sleep>>)>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Lifetime {
    /// What a policy says; `None` if it says nothing. Zero is no limit.
    pub(super) fn of(policy: &ConnectionPolicy) -> Option<Self> {
        let timer = |time: Option<Duration>| {
            let time = time.filter(|time| !time.is_zero())?;
            Some((time, Box::pin(sleep(time))))
        };
        let (end, idle) = (timer(policy.max_age), timer(policy.idle_timeout));
        (end.is_some() || idle.is_some()).then_some(Self { end, idle })
    }

    /// Whether the time is not over; wakes the caller when it is.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for (what, timer) in [
            ("has lasted", &mut self.end),
            ("has been idle for", &mut self.idle),
        ] {
            if let Some((time, timer)) = timer
                && timer.as_mut().poll(cx).is_ready()
            {
                let text = format!("the connection {what} {time:?}, as long as its connectionPool allows");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        Ok(())
    }

    /// Something moved.
    pub(super) fn moved(&mut self) {
        if let Some((time, timer)) = &mut self.idle {
            timer.as_mut().reset(Instant::now() + *time);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn over(lifetime: &mut Lifetime) {
        poll_fn(|cx| match lifetime.check(cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_it_is_old_or_nothing_moves() {
        let policy = |age: u64, idle: u64| ConnectionPolicy {
            max_age: Some(Duration::from_secs(age)),
            idle_timeout: Some(Duration::from_secs(idle)),
            ..ConnectionPolicy::default()
        };
        assert!(Lifetime::of(&policy(0, 0)).is_none());
        let began = Instant::now();
        let mut lifetime = Lifetime::of(&policy(60, 10)).unwrap();
        tokio::time::advance(Duration::from_secs(8)).await;
        lifetime.moved();
        over(&mut lifetime).await;
        assert_eq!(began.elapsed().as_secs(), 18);
        let began = Instant::now();
        let mut lifetime = Lifetime::of(&policy(60, 0)).unwrap();
        over(&mut lifetime).await;
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
