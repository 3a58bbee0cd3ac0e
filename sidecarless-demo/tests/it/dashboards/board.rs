//! A dashboard as Grafana stores it, as far as its questions go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

/// What Grafana fills in by itself, for a person who looks at a quarter of an hour.
const BUILT_IN: [(&str, &str); 3] = [
    ("__rate_interval", "20s"),
    ("__interval", "10s"),
    ("__range", "15m"),
];

/// One dashboard.
pub(super) struct Board(Value);

/// One variable of a dashboard.
pub(super) struct Variable<'a>(&'a Value);

impl Board {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self(value))
    }

    pub(super) fn name(&self) -> &str {
        self.0["title"].as_str().unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.0["uid"].as_str().unwrap_or_default()
    }

    /// The panels that show something.
    pub(super) fn panels(&self) -> impl Iterator<Item = &Value> {
        let all = self.0["panels"].as_array().into_iter().flatten();
        all.filter(|panel| panel["type"] != "row")
    }

    /// The variables, but for the choice of a Prometheus.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable<'_>> {
        let all = self.0["templating"]["list"].as_array().into_iter().flatten();
        all.filter(|variable| variable["type"] != "datasource")
            .map(Variable)
    }

    /// The questions behind marks on the time axis, to which "nothing" is an answer.
    pub(super) fn annotations(&self) -> impl Iterator<Item = &str> {
        let all = self.0["annotations"]["list"].as_array().into_iter().flatten();
        all.filter_map(|annotation| annotation["expr"].as_str())
    }

    /// Whether it has what Grafana needs, every panel says what it shows in which unit, and none lies on another.
    pub(super) fn is_whole(&self) -> anyhow::Result<()> {
        ensure!(self.0["schemaVersion"].as_u64() >= Some(39), "an old schema");
        ensure!(!self.name().is_empty() && !self.id().is_empty(), "no name");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in self.0["panels"].as_array().context("no panels")? {
            let title = title(panel);
            ensure!(!title.is_empty(), "a panel without a title");
            ensure!(ids.insert(panel["id"].as_u64()), "{title}: its id is another's");
            let place = |key: &str| {
                panel["gridPos"][key]
                    .as_u64()
                    .with_context(|| format!("{title}: {key}"))
            };
            let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(x + w <= 24, "{title} is too wide");
            for (x, y) in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                ensure!(taken.insert((x, y)), "{title} lies on another");
            }
            if panel["type"] != "row" {
                ensure!(
                    panel["fieldConfig"]["defaults"]["unit"].is_string(),
                    "{title} has no unit"
                );
                ensure!(
                    panel["datasource"]["uid"] == "${datasource}",
                    "{title} is bound to one Prometheus"
                );
                ensure!(queries(panel).count() > 0, "{title} asks nothing");
            }
        }
        Ok(())
    }
}

impl<'a> Variable<'a> {
    pub(super) fn name(&self) -> &'a str {
        self.0["name"].as_str().unwrap_or_default()
    }

    /// The values, where they are listed.
    pub(super) fn list(&self) -> Option<Vec<String>> {
        let values = (self.0["type"] == "custom").then(|| self.0["query"].as_str())??;
        Some(values.split(',').map(|value| value.trim().to_owned()).collect())
    }

    /// The question for its values, where they are not.
    pub(super) fn query(&self) -> anyhow::Result<&'a str> {
        let query = self.0["query"]["query"].as_str();
        query.with_context(|| format!("${} has no query", self.name()))
    }

    /// Whether "all" may be chosen.
    pub(super) fn includes_all(&self) -> bool {
        self.0["includeAll"] == true
    }
}

pub(super) fn title(panel: &Value) -> String {
    panel["title"].as_str().unwrap_or_default().to_owned()
}

/// The questions of a panel.
pub(super) fn queries(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets.filter_map(|target| target["expr"].as_str())
}

/// A question with its variables filled in.
pub(super) fn filled(query: &str, values: &BTreeMap<String, String>) -> String {
    let own = values.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let filled = BUILT_IN
        .into_iter()
        .chain(own)
        .fold(query.to_owned(), |query, (name, value)| {
            query.replace(&format!("${name}"), value)
        });
    assert!(!filled.contains('$'), "a variable is not known: {filled}");
    filled
}

/// The selector and the label of `label_values(selector, label)`.
pub(super) fn label_values(query: &str) -> anyhow::Result<(String, String)> {
    let inner = query
        .strip_prefix("label_values(")
        .and_then(|rest| rest.strip_suffix(')'));
    let parts = inner.and_then(|inner| inner.rsplit_once(','));
    let (selector, label) = parts.with_context(|| format!("not label_values: {query}"))?;
    Ok((selector.trim().to_owned(), label.trim().to_owned()))
}
