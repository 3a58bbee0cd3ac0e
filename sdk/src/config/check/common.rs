//! What several kinds of Istio have in common.

use std::collections::BTreeSet;

use super::Faults;
use super::lexical::{is_label, is_label_key, is_label_value};
use crate::config::Labels;
use crate::config::istio::GoDuration;

/// Labels as Kubernetes lets them be.
pub(super) fn labels(labels: &Labels, at: &str, faults: &mut Faults) {
    for (key, value) in labels {
        if !is_label_key(key) || !is_label_value(value) {
            faults.error(
                format!("{at}.{key}"),
                format!("`{key}: {value}` is not a label"),
                "use letters, digits, dashes, underscores and dots",
            );
        }
    }
}

/// The namespaces that see a resource.
pub(super) fn export_to(list: &[String], namespace: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, text) in list.iter().enumerate() {
        let at = || format!("spec.exportTo[{index}]");
        let meant = if text == "." { namespace } else { text };
        if text != "." && text != "*" && !is_label(text) {
            faults.error(
                at(),
                format!("`{text}` is not a namespace"),
                "write `*`, `.` or a namespace",
            );
        } else if !seen.insert(meant) {
            faults.error(
                at(),
                format!("`{meant}` is listed twice"),
                "list every namespace once",
            );
        }
    }
    if list.len() > 1 && list.iter().any(|it| it == "*") {
        faults.error(
            "spec.exportTo",
            "`*` leaves no room for others",
            "write `*` alone",
        );
    }
}

/// How fine durations of Istio are.
pub(super) fn at_least_a_millisecond(
    duration: Option<GoDuration>,
    field: impl Fn() -> String,
    faults: &mut Faults,
) {
    if duration.is_some_and(|it| it.0.as_millis() == 0 || it.0.subsec_nanos() % 1_000_000 != 0) {
        faults.error(
            field(),
            "counts whole milliseconds, at least one",
            "write 1ms or more",
        );
    }
}
