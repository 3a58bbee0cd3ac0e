//! Connections that are not HTTP: what is counted of them, and while they last.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::TcpFlow;
use super::labels::{Reporter, RequestLabels};
use super::metric::{Counter, Family, LabelSet};
use super::plan::{Metric, MetricPlan, Tags};
use super::sets;

/// The families that connections are counted in.
#[derive(Clone, Debug)]
pub(super) struct TcpFamilies {
    pub(super) opened: Family<Counter>,
    pub(super) closed: Family<Counter>,
    pub(super) failed: Family<Counter>,
    pub(super) sent: Family<Counter>,
    pub(super) received: Family<Counter>,
}

/// Counts the connections of one label set. Equal labels share one.
#[derive(Debug)]
pub struct TcpSeries {
    labels: Arc<RequestLabels>,
    plan: Arc<MetricPlan>,
    tags: Tags,
    families: TcpFamilies,
    plain: Cells,
    sent: Option<Counter>,
    received: Option<Counter>,
    /// By the flags that connections ended with; those are few.
    flagged: Mutex<Vec<(&'static str, Cells)>>,
}

/// Where the beginnings and ends of connections are counted.
#[derive(Clone, Debug)]
struct Cells {
    opened: Option<Counter>,
    closed: Option<Counter>,
    failed: Option<Counter>,
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

impl TcpFamilies {
    pub(super) fn new(limit: usize) -> Self {
        let family = || Family::new(limit, Counter::default);
        Self {
            opened: family(),
            closed: family(),
            failed: family(),
            sent: family(),
            received: family(),
        }
    }

    pub(super) fn sweep(&self) {
        let all = [
            &self.opened,
            &self.closed,
            &self.failed,
            &self.sent,
            &self.received,
        ];
        all.into_iter().for_each(Family::sweep);
    }
}

impl TcpSeries {
    pub(super) fn new(
        labels: Arc<RequestLabels>,
        plan: Arc<MetricPlan>,
        tags: Tags,
        families: TcpFamilies,
    ) -> Self {
        let mut series = Self {
            labels,
            plan,
            tags,
            plain: Cells {
                opened: None,
                closed: None,
                failed: None,
            },
            sent: None,
            received: None,
            flagged: Mutex::default(),
            families,
        };
        let families = &series.families;
        let sent = series.cell(Metric::TcpSentBytes, &families.sent, "-");
        let received = series.cell(Metric::TcpReceivedBytes, &families.received, "-");
        let plain = series.cells("-");
        (series.sent, series.received, series.plain) = (sent, received, plain);
        series
    }

    /// The labels of this series.
    pub fn labels(&self) -> &RequestLabels {
        &self.labels
    }

    /// What has been counted in it so far.
    pub(super) fn flow(&self) -> TcpFlow {
        let get = |counter: &Option<Counter>| counter.as_ref().map_or(0, Counter::get);
        TcpFlow {
            labels: Arc::clone(&self.labels),
            opened: get(&self.plain.opened),
            closed: get(&self.plain.closed),
            sent: get(&self.sent),
            received: get(&self.received),
        }
    }

    /// A connection that stands.
    pub fn open(self: Arc<Self>) -> TcpAccount {
        inc(&self.plain.opened);
        TcpAccount {
            series: self,
            flags: "-",
        }
    }

    /// A connection that never stood, and why: Envoy's short flags at a waypoint, ztunnel's at the ends.
    pub fn failed(&self, flags: &'static str) {
        let cells = self.flagged(flags);
        inc(if self.is_waypoint() {
            &cells.opened
        } else {
            &self.plain.opened
        });
        self.close(&cells);
    }

    fn closed(&self, flags: &'static str) {
        // Envoy freezes a connection's labels when it reports it open.
        if flags == "-" || self.is_waypoint() {
            inc(&self.plain.closed);
        } else {
            self.close(&self.flagged(flags));
        }
    }

    fn close(&self, cells: &Cells) {
        inc(&cells.closed);
        inc(&cells.failed);
    }

    fn is_waypoint(&self) -> bool {
        self.labels.reporter == Reporter::Waypoint
    }

    fn flagged(&self, flags: &'static str) -> Cells {
        if flags == "-" {
            return self.plain.clone();
        }
        let mut flagged = self.flagged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cells)) = flagged.iter().find(|(it, _)| *it == flags) {
            return cells.clone();
        }
        let cells = self.cells(flags);
        flagged.push((flags, cells.clone()));
        cells
    }

    fn cells(&self, flags: &'static str) -> Cells {
        let families = &self.families;
        // Opened with flags is only what never stood, and that only at a waypoint; failed is what ztunnel alone counts.
        let (opens, fails) = (
            flags == "-" || self.is_waypoint(),
            flags != "-" && !self.is_waypoint(),
        );
        let opened = || self.cell(Metric::TcpOpenedConnections, &families.opened, flags);
        let failed = || self.cell(Metric::TcpClosedConnections, &families.failed, flags);
        Cells {
            opened: opens.then(opened).flatten(),
            closed: self.cell(Metric::TcpClosedConnections, &families.closed, flags),
            failed: fails.then(failed).flatten(),
        }
    }

    fn cell(&self, metric: Metric, family: &Family<Counter>, flags: &'static str) -> Option<Counter> {
        let standard = |labels: &RequestLabels| LabelSet::new(sets::connection(labels, flags));
        let labels = self.plan.labels(metric, &standard(&self.labels), &self.tags)?;
        family.get(&labels).or_else(|| {
            let labels = standard(&self.labels.overflow());
            Some(family.overflow(&self.plan.labels(metric, &labels, &Tags::default())?))
        })
    }
}

fn inc(counter: &Option<Counter>) {
    if let Some(counter) = counter {
        counter.inc();
    }
}

impl TcpAccount {
    /// Bytes that went to the caller.
    pub fn sent(&self, bytes: u64) {
        if let Some(sent) = &self.series.sent {
            sent.inc_by(bytes);
        }
    }

    /// Bytes that came from the caller.
    pub fn received(&self, bytes: u64) {
        if let Some(received) = &self.series.received {
            received.inc_by(bytes);
        }
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
