//! Which of Istio's metrics are told, and with which labels: what the overrides of Telemetries come to.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::access::{Entry, Wanted};
use super::cel::Expression;
use super::labels::{OVERFLOW, UNKNOWN};
use super::metric::{LabelSet, Text};
use super::sets;

/// How long a label's value may be that an expression comes to. What is longer is cut off.
const LONGEST: usize = 256;

/// One of Istio's metrics, by its name in Telemetries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are Istio's")]
pub enum Metric {
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    TcpOpenedConnections,
    TcpClosedConnections,
    TcpSentBytes,
    TcpReceivedBytes,
    GrpcRequestMessages,
    GrpcResponseMessages,
}

/// Which of Istio's metrics are told, and with which labels. The default is all, with the standard ones.
///
/// Two that say the same are equal, and count in the same series.
#[derive(Clone, Debug, Default)]
pub struct MetricPlan {
    told: BTreeMap<Metric, Told>,
    expressions: Vec<Arc<Expression>>,
    wanted: Wanted,
    /// What is compared: the above, written out.
    key: Box<str>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    disabled: bool,
    tags: BTreeMap<Arc<str>, Tag>,
}

#[derive(Clone, Debug)]
enum Tag {
    Removed,
    /// The index of an expression.
    Set(usize),
}

/// What the expressions of a plan came to for one request. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tags(Option<Arc<[Text]>>);

// ===== impl Metric =====

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::TcpOpenedConnections,
        Self::TcpClosedConnections,
        Self::TcpSentBytes,
        Self::TcpReceivedBytes,
        Self::GrpcRequestMessages,
        Self::GrpcResponseMessages,
    ];

    /// The name in Telemetries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestCount => "REQUEST_COUNT",
            Self::RequestDuration => "REQUEST_DURATION",
            Self::RequestSize => "REQUEST_SIZE",
            Self::ResponseSize => "RESPONSE_SIZE",
            Self::TcpOpenedConnections => "TCP_OPENED_CONNECTIONS",
            Self::TcpClosedConnections => "TCP_CLOSED_CONNECTIONS",
            Self::TcpSentBytes => "TCP_SENT_BYTES",
            Self::TcpReceivedBytes => "TCP_RECEIVED_BYTES",
            Self::GrpcRequestMessages => "GRPC_REQUEST_MESSAGES",
            Self::GrpcResponseMessages => "GRPC_RESPONSE_MESSAGES",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// Whether a label is one of Istio's standard ones.
pub fn is_standard_label(name: &str) -> bool {
    sets::STANDARD.contains(&name)
}

// ===== impl MetricPlan =====

impl MetricPlan {
    /// Tells a metric, or no longer.
    pub fn disable(&mut self, metric: Metric, disabled: bool) {
        self.told.entry(metric).or_default().disabled = disabled;
        self.settle();
    }

    /// Leaves a label out.
    pub fn remove(&mut self, metric: Metric, label: &str) {
        self.tag(metric, label, Tag::Removed);
    }

    /// Adds a label, or gives it another value.
    pub fn set(&mut self, metric: Metric, label: &str, value: Expression) {
        let known = self.expressions.iter().position(|it| **it == value);
        let index = known.unwrap_or_else(|| {
            self.expressions.push(Arc::new(value));
            self.expressions.len() - 1
        });
        self.tag(metric, label, Tag::Set(index));
    }

    fn tag(&mut self, metric: Metric, label: &str, tag: Tag) {
        let told = self.told.entry(metric).or_default();
        told.tags.insert(label.into(), tag);
        self.settle();
    }

    /// Forgets what nobody asks for any more, which must not tell requests apart, and writes down what is left.
    fn settle(&mut self) {
        use std::fmt::Write as _;

        let mut used: Vec<Arc<Expression>> = Vec::new();
        let mut key = String::new();
        for (metric, told) in &mut self.told {
            if told.disabled {
                // Writing to a `String` cannot fail.
                let _ = write!(key, "{} off;", metric.as_str());
            }
            for (label, tag) in &mut told.tags {
                match tag {
                    Tag::Set(_) if told.disabled => {}
                    Tag::Set(index) => {
                        let expression = &self.expressions[*index];
                        let at = used.iter().position(|it| it == expression).unwrap_or_else(|| {
                            used.push(Arc::clone(expression));
                            used.len() - 1
                        });
                        *index = at;
                        let _ = write!(key, "{} {label}={:?};", metric.as_str(), expression.as_str());
                    }
                    Tag::Removed => drop(write!(key, "{} -{label};", metric.as_str())),
                }
            }
        }
        for told in self.told.values_mut().filter(|it| it.disabled) {
            told.tags.retain(|_, tag| matches!(tag, Tag::Removed));
        }
        self.wanted = used.iter().fold(Wanted::default(), |wanted, expression| {
            wanted.and(expression.wanted())
        });
        self.expressions = used;
        self.key = key.into();
    }

    /// Whether a metric is told.
    pub fn tells(&self, metric: Metric) -> bool {
        self.told.get(&metric).is_none_or(|told| !told.disabled)
    }

    /// Whether nothing at all is told of requests.
    pub(crate) fn is_silent(&self) -> bool {
        let told = [
            Metric::RequestCount,
            Metric::RequestDuration,
            Metric::RequestSize,
            Metric::ResponseSize,
        ];
        !self.told.is_empty() && told.into_iter().all(|metric| !self.tells(metric))
    }

    /// Whether anything must be asked about a request.
    pub fn asks(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// The header fields that it asks for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What its expressions come to; `unknown` where that cannot be said.
    pub fn tags(&self, entry: &Entry<'_>) -> Tags {
        if !self.asks() {
            return Tags::default();
        }
        let values = self.expressions.iter().map(|it| match it.text(entry) {
            Some(text) => Text::from(cut(&text).to_owned()),
            None => UNKNOWN.into(),
        });
        Tags(Some(values.collect()))
    }

    /// A metric's labels, if it is told: what is added comes behind, by name. Metrics that have the standard ones share them.
    pub(super) fn labels(&self, metric: Metric, standard: &LabelSet, tags: &Tags) -> Option<LabelSet> {
        let Some(told) = self.told.get(&metric) else {
            return Some(standard.clone());
        };
        if told.disabled {
            return None;
        }
        if told.tags.is_empty() {
            return Some(standard.clone());
        }
        let value = |index: usize| {
            let value = tags.0.as_deref().and_then(|tags| tags.get(index)).cloned();
            value.unwrap_or(Text::Fixed(OVERFLOW))
        };
        let standard = standard.pairs();
        let mut labels: Vec<(Text, Text)> = Vec::with_capacity(standard.len() + told.tags.len());
        for (name, old) in standard {
            match told.tags.get(&**name) {
                None => labels.push((name.clone(), old.clone())),
                Some(Tag::Set(index)) => labels.push((name.clone(), value(*index))),
                Some(Tag::Removed) => {}
            }
        }
        let before = labels.len();
        for (name, tag) in &told.tags {
            if let Tag::Set(index) = tag
                && !labels[..before].iter().any(|(it, _)| **it == **name)
            {
                labels.push((Text::from(name), value(*index)));
            }
        }
        Some(LabelSet::new(labels))
    }
}

/// What differs from the default.
impl fmt::Display for MetricPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl PartialEq for MetricPlan {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for MetricPlan {}

impl Hash for MetricPlan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// As much of a value as is shown.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Tags {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
