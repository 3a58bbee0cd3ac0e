//! Cells to count in, families of them under labels, and how they are read out.
//!
//! ```text
//! whoever counts ── add ──▶ Counter, Gauge, Histogram ◀── Family (by labels) ◀── Registry ◀── read ── text, OTLP
//! ```
//!
//! Cells, and what writes them as text, are prometheus-client's. A [`Family`] is asked once for the cell of
//! a label set, which is then kept by whoever counts; it holds so many series and no more, and forgets those that nobody
//! keeps. All exporters read the same cells through a [`Sink`].

mod cell;
mod family;
mod labels;
mod read;
mod text;

#[cfg(feature = "otlp")]
pub(super) use cell::Distribution;
pub(super) use cell::{Counter, Gauge, Histogram, Level, Trace};
pub(super) use family::{ByWord, Cell, Family};
pub(super) use labels::{LabelSet, Text};
#[cfg(feature = "otlp")]
pub(super) use read::Kind;
pub(super) use read::{Desc, Reading, Registry, Sink};
pub use text::Exposition;
