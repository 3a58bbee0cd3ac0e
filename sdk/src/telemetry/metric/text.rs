//! Prometheus' text formats: OpenMetrics as prometheus-client writes it, and the classic one made of that.

use std::collections::HashSet;

use prometheus_client::encoding::text;

use super::read::{Kind, Registry};

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
        let mut open = String::new();
        // Writing to a `String` fails only if one of our label sets does, and none of them can.
        if let Err(error) = text::encode(&mut open, &registry.written) {
            tracing::error!(%error, "metrics could not be written");
        }
        match self {
            Self::OpenMetrics => open,
            Self::Classic => classic(&open, registry),
        }
    }
}

/// The same in the classic format, which names counters as their samples are named, and knows neither exemplars nor an end.
fn classic(open: &str, registry: &Registry) -> String {
    let counters = registry.descs().filter(|desc| desc.kind == Kind::Counter);
    let counters: HashSet<&str> = counters.map(|desc| desc.name).collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        if line == "# EOF" {
            continue;
        }
        if let Some(said) = line.strip_prefix("# ")
            && let Some((word, rest)) = said.split_once(' ')
            && let Some((name, rest)) = rest.split_once(' ')
        {
            let total = if counters.contains(name) { "_total" } else { "" };
            text.extend(["# ", word, " ", name, total, " ", rest, "\n"]);
            continue;
        }
        // A label's value would have its quote escaped.
        let end = line.rfind(" # {trace_id=\"").unwrap_or(line.len());
        text.extend([&line[..end], "\n"]);
    }
    text
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
