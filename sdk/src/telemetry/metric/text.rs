//! Prometheus' text formats: the classic one, and OpenMetrics.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::cell::{Distribution, Exemplar};
use super::read::{Desc, Kind, Reading, Sink};
use super::{LabelSet, Registry};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' own, version 0.0.4: what is understood by all, and has no exemplars.
    #[default]
    Classic,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

impl Exposition {
    /// The one that an `Accept` header prefers; the classic one if it does not care.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let weight = |wanted: &str| {
            let ranges = accept.unwrap_or_default().split(',');
            let weights = ranges.filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let kind = parts.next()?;
                let q = parts.find_map(|part| part.strip_prefix("q="));
                let q = q.map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
                kind.eq_ignore_ascii_case(wanted).then_some(q)
            });
            weights.fold(0.0, f32::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a registry has.
    pub(in crate::telemetry) fn write(self, registry: &Registry) -> String {
        let mut page = Page {
            format: self,
            text: String::new(),
            name: "",
            kind: Kind::Gauge,
            labels: String::new(),
        };
        registry.read(&mut page);
        if self == Self::OpenMetrics {
            page.text.push_str("# EOF\n");
        }
        page.text
    }
}

struct Page {
    format: Exposition,
    text: String,
    name: &'static str,
    kind: Kind,
    /// Of the series under way; kept for its room.
    labels: String,
}

// Writing to a `String` cannot fail.
impl Sink for Page {
    fn metric(&mut self, desc: &Desc) {
        (self.name, self.kind) = (desc.name, desc.kind);
        let kind = match desc.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics names the family, the classic format the samples.
        let total = match (self.format, desc.kind) {
            (Exposition::Classic, Kind::Counter) => "_total",
            _ => "",
        };
        let (name, help) = (desc.name, desc.help);
        let _ = write!(
            self.text,
            "# HELP {name}{total} {help}\n# TYPE {name}{total} {kind}\n"
        );
    }

    fn sample(&mut self, labels: &LabelSet, reading: Reading) {
        self.labels.clear();
        for (name, value) in labels.iter() {
            let comma = if self.labels.is_empty() { "" } else { "," };
            self.labels.push_str(comma);
            // OpenTelemetry's have dots.
            self.labels
                .extend(name.chars().map(|c| if c == '.' { '_' } else { c }));
            self.labels.push_str("=\"");
            escape(&mut self.labels, value);
            self.labels.push('"');
        }
        match reading {
            Reading::Count(count) => {
                self.begin("_total");
                let _ = writeln!(self.text, " {count}");
            }
            Reading::Level(level) => {
                self.begin("");
                let _ = writeln!(self.text, " {level}");
            }
            Reading::Distribution(distribution) => self.histogram(&distribution),
        }
    }
}

impl Page {
    fn begin(&mut self, suffix: &str) {
        let (name, labels) = (self.name, &self.labels);
        let _ = write!(self.text, "{name}{suffix}");
        if !labels.is_empty() {
            let _ = write!(self.text, "{{{labels}}}");
        }
    }

    fn histogram(&mut self, read: &Distribution) {
        let mut seen = 0;
        for (at, count) in read.counts.iter().enumerate() {
            seen += count;
            let (name, labels) = (self.name, &self.labels);
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = write!(self.text, "{name}_bucket{{{labels}{comma}le=\"");
            match (read.bounds.get(at), self.format) {
                (None, _) => self.text.push_str("+Inf"),
                (Some(bound), Exposition::Classic) => drop(write!(self.text, "{bound}")),
                // As OpenMetrics wants them, so that equal bounds are equal texts.
                (Some(bound), Exposition::OpenMetrics) => drop(write!(self.text, "{bound:?}")),
            }
            let _ = write!(self.text, "\"}} {seen}");
            if self.format == Exposition::OpenMetrics
                && let Some(Some(exemplar)) = read.exemplars.get(at)
            {
                self.exemplar(exemplar);
            }
            self.text.push('\n');
        }
        self.begin("_sum");
        let _ = writeln!(self.text, " {}", read.sum);
        self.begin("_count");
        let _ = writeln!(self.text, " {seen}");
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.text.push_str(" # {trace_id=\"");
        for byte in exemplar.trace {
            let _ = write!(self.text, "{byte:02x}");
        }
        let since = exemplar.at.duration_since(SystemTime::UNIX_EPOCH);
        let at = since.unwrap_or_default().as_millis();
        let _ = write!(
            self.text,
            "\"}} {} {}.{:03}",
            exemplar.value,
            at / 1_000,
            at % 1_000
        );
    }
}

/// A label's value, with what would end it written as both formats do.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_preferred() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (None, Exposition::Classic),
            (Some("*/*"), Exposition::Classic),
            (Some("text/html, text/plain;q=0.9"), Exposition::Classic),
            (Some(prometheus), Exposition::OpenMetrics),
            (
                Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"),
                Exposition::Classic,
            ),
            (Some("application/openmetrics-text; q=0"), Exposition::Classic),
            (Some("application/openmetrics-text; q=what"), Exposition::Classic),
            (
                Some("Application/OpenMetrics-Text; q=0.2"),
                Exposition::OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::negotiate(accept), format, "{accept:?}");
        }
    }
}
