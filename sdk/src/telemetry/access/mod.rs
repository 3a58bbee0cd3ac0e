//! Access logs: a line per request, in Envoy's command operators.
//!
//! ```text
//! "%REQ(:METHOD)% %RESPONSE_CODE%" ──Format::text──▶ Format ──write(&Entry)──▶ line ──▶ LineWriter ──▶ file, stdout
//! ```
//!
//! What a format asks for is settled when it is read: an operator that is not known is an error there, and what nobody asks
//! for is not kept of a request. Writing never waits: a [`LineWriter`] is a bounded queue in front of a thread of its own, and
//! what does not fit is counted. A line is written into a page of the thread that tells of the request, and goes to the other
//! thread as a part of it: nothing is allocated for one line.

mod entry;
mod fields;
mod filter;
mod format;
mod operator;
#[cfg(feature = "otlp")]
mod record;
mod time;
mod writer;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Name};
pub use fields::Fields;
pub use filter::{Filter, FilterError};
pub use format::{Format, FormatError, Wanted};
pub use writer::{LineWriter, LogCounts};

pub(super) use fields::{joined, lossy};
pub(super) use writer::LogBook;

use std::sync::{Arc, OnceLock};

/// One access log: what is written, and where to.
#[derive(Debug)]
pub struct AccessLog {
    /// What a line looks like.
    pub format: Format,
    /// The file; `/dev/stdout` and `/dev/stderr` are this process's own. Of a collector, its address.
    pub path: Arc<str>,
    /// The collector, if lines are records that go to one.
    #[cfg(feature = "otlp")]
    records: Option<record::Records>,
    /// The queue in front of the file, once somebody has written.
    writer: OnceLock<LineWriter>,
}

/// The logs of one place, and which of its requests go into each.
#[derive(Debug, Default, PartialEq)]
pub struct AccessLogs {
    logs: Vec<(Arc<AccessLog>, Option<Arc<Filter>>)>,
    wanted: Wanted,
}

impl AccessLogs {
    /// These logs; of each the requests that its filter admits, or all.
    pub fn new(logs: Vec<(Arc<AccessLog>, Option<Arc<Filter>>)>) -> Self {
        let wanted = logs.iter().fold(Wanted::default(), |wanted, (log, filter)| {
            let filter = filter.as_ref().map(|filter| filter.wanted());
            wanted.and(log.wanted()).and(filter.unwrap_or_default())
        });
        Self { logs, wanted }
    }

    /// Each log, and which requests go into it.
    pub fn iter(&self) -> impl Iterator<Item = (&AccessLog, Option<&Filter>)> {
        self.logs.iter().map(|(log, filter)| (&**log, filter.as_deref()))
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// The header fields that must be kept of a request until its line is written.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Writes the lines of a request.
    pub fn write(&self, entry: &Entry<'_>, meter: &super::Meter) {
        for (log, filter) in &self.logs {
            if filter.as_ref().is_none_or(|filter| filter.admits(entry)) {
                log.write(entry, meter);
            }
        }
    }
}

impl AccessLog {
    /// A log of this format, into this file.
    pub fn new(format: Format, path: impl Into<Arc<str>>) -> Self {
        Self {
            format,
            path: path.into(),
            #[cfg(feature = "otlp")]
            records: None,
            writer: OnceLock::new(),
        }
    }

    /// A log whose lines are the bodies of records that go to a collector; `labels`, a format of JSON, gives them
    /// attributes.
    #[cfg(feature = "otlp")]
    pub fn collected(format: Format, labels: Option<Format>, target: super::recording::SpanTarget) -> Self {
        Self {
            path: format!("{}:{}", target.host, target.port).into(),
            records: Some(record::Records::new(target, labels)),
            ..Self::new(format, "")
        }
    }

    /// What must be kept of a request for its line.
    fn wanted(&self) -> Wanted {
        let wanted = self.format.wanted();
        #[cfg(feature = "otlp")]
        if let Some(records) = &self.records {
            let labels = records.labels.as_ref().map(Format::wanted);
            let traced = Wanted {
                // A record says so itself.
                trace: true,
                ..labels.unwrap_or_default()
            };
            return wanted.and(traced);
        }
        wanted
    }

    /// Writes the line of a request, by a writer that `meter` keeps open.
    pub fn write(&self, entry: &Entry<'_>, meter: &super::Meter) {
        #[cfg(feature = "otlp")]
        if let Some(records) = &self.records {
            return records.write(self.format.render(entry), entry, meter);
        }
        let writer = self.writer.get_or_init(|| meter.log_to(&self.path));
        writer.write_with(|line| self.format.write(entry, line));
    }
}

/// Two logs are the same if they write the same to the same file.
impl PartialEq for AccessLog {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(feature = "otlp")]
        let same = self.records == other.records;
        #[cfg(not(feature = "otlp"))]
        let same = true;
        same && self.format == other.format && self.path == other.path
    }
}
