//! Connections that are not HTTP: what is counted of them, and while they last.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::TcpFlow;
use super::labels::{Reporter, RequestLabels, TcpSet};

/// The families that connections are counted in.
#[derive(Clone, Debug, Default)]
pub(super) struct TcpFamilies {
    pub(super) opened: Family<TcpSet, Counter>,
    pub(super) closed: Family<TcpSet, Counter>,
    pub(super) failed: Family<TcpSet, Counter>,
    pub(super) sent: Family<TcpSet, Counter>,
    pub(super) received: Family<TcpSet, Counter>,
}

/// Counts the connections of one label set. Equal labels share one.
#[derive(Debug)]
pub struct TcpSeries {
    labels: Arc<RequestLabels>,
    families: TcpFamilies,
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

/// One connection while it lasts: counted as opened from the beginning, and as closed when this is dropped.
///
/// Whoever reports, *sent* is what went to the caller (the response direction), and *received* what came from it.
#[derive(Debug)]
pub struct TcpAccount {
    series: Arc<TcpSeries>,
    flags: &'static str,
}

/// The stream that faces the caller of a connection, its bytes counted as they pass.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    account: TcpAccount,
}

impl TcpSeries {
    pub(super) fn new(labels: Arc<RequestLabels>, families: TcpFamilies) -> Self {
        let plain = TcpSet {
            labels: Arc::clone(&labels),
            flags: "-",
        };
        Self {
            opened: families.opened.get_or_create_owned(&plain),
            closed: families.closed.get_or_create_owned(&plain),
            sent: families.sent.get_or_create_owned(&plain),
            received: families.received.get_or_create_owned(&plain),
            labels,
            families,
        }
    }

    /// What has been counted so far.
    pub(super) fn flow(&self) -> TcpFlow {
        TcpFlow {
            labels: Arc::clone(&self.labels),
            opened: self.opened.get(),
            closed: self.closed.get(),
            sent: self.sent.get(),
            received: self.received.get(),
        }
    }

    /// The labels of this series.
    pub fn labels(&self) -> &RequestLabels {
        &self.labels
    }

    /// A connection that stands.
    pub fn open(self: Arc<Self>) -> TcpAccount {
        self.opened.inc();
        TcpAccount {
            series: self,
            flags: "-",
        }
    }

    /// A connection that never stood, and why: Envoy's short flags at a waypoint, ztunnel's at the ends.
    pub fn failed(&self, flags: &'static str) {
        let opened = if self.is_waypoint() { flags } else { "-" };
        self.families.opened.get_or_create(&self.set(opened)).inc();
        self.close(flags);
    }

    fn closed(&self, flags: &'static str) {
        // Envoy freezes a connection's labels when it reports it open.
        if flags == "-" || self.is_waypoint() {
            self.closed.inc();
        } else {
            self.close(flags);
        }
    }

    fn close(&self, flags: &'static str) {
        let set = self.set(flags);
        self.families.closed.get_or_create(&set).inc();
        // A series of ztunnel's that Envoy does not have.
        if flags != "-" && !self.is_waypoint() {
            self.families.failed.get_or_create(&set).inc();
        }
    }

    fn is_waypoint(&self) -> bool {
        self.labels.reporter == Reporter::Waypoint
    }

    fn set(&self, flags: &'static str) -> TcpSet {
        TcpSet {
            labels: Arc::clone(&self.labels),
            flags,
        }
    }
}

impl TcpAccount {
    /// Bytes that went to the caller.
    pub fn sent(&self, bytes: u64) {
        self.series.sent.inc_by(bytes);
    }

    /// Bytes that came from the caller.
    pub fn received(&self, bytes: u64) {
        self.series.received.inc_by(bytes);
    }

    /// Notes that the connection does not end well. At a waypoint, whose labels are settled when a connection is
    /// opened, that cannot be seen.
    pub fn ends_with(&mut self, flags: &'static str) {
        self.flags = flags;
    }
}

impl Drop for TcpAccount {
    fn drop(&mut self) {
        self.series.closed(self.flags);
    }
}

impl<S> Counted<S> {
    /// Counts what is read from the stream as received, and what is written to it as sent.
    pub fn new(stream: S, account: TcpAccount) -> Self {
        Self { stream, account }
    }

    /// The account that it is counted in.
    pub fn account(&mut self) -> &mut TcpAccount {
        &mut self.account
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.account.received((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.account.sent(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
