//! What a participant counts, read back from its exposition.

use std::collections::BTreeMap;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty if it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The samples of one metric, by its full name (`…_total`, `…_count`, …).
///
/// # Panics
/// If a line is no line of an exposition.
pub fn samples(exposition: &str, name: &str) -> Vec<Sample> {
    let of_metric = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    exposition.lines().filter(of_metric).map(sample).collect()
}

/// The value of a metric that has one series with these labels; 0 if it has none.
///
/// # Panics
/// If it has several.
pub fn value(exposition: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut found = samples(exposition, name);
    found.retain(|sample| labels.iter().all(|(name, value)| sample.label(name) == *value));
    assert!(found.len() <= 1, "{name} {labels:?} is ambiguous: {found:?}");
    found.first().map_or(0.0, |sample| sample.value)
}

fn sample(line: &str) -> Sample {
    // What is behind it is an exemplar.
    let line = line.split(" # ").next().unwrap_or(line);
    let (head, value) = line.rsplit_once(' ').expect("a sample has a value");
    let labels = head
        .split_once('{')
        .map_or("", |(_, labels)| labels.trim_end_matches('}'));
    // No label of ours holds a comma before a quote.
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (name, value) = pair.split_once("=\"").expect("a label has a value");
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Sample {
        labels: labels.collect(),
        value: value.parse().expect("a value is a number"),
    }
}
