//! Label sets: names and values, in the order that they are shown in.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};

/// A text that is shared with whoever said it.
#[derive(Clone, Debug)]
pub(in crate::telemetry) enum Text {
    Fixed(&'static str),
    Shared(Arc<str>),
}

/// A label set. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::telemetry) struct LabelSet(Option<Arc<[(Text, Text)]>>);

impl LabelSet {
    /// Without labels.
    pub(in crate::telemetry) const NONE: Self = Self(None);

    pub(in crate::telemetry) fn new(labels: Vec<(Text, Text)>) -> Self {
        Self(Some(labels.into()))
    }

    /// Of one label.
    pub(in crate::telemetry) fn of(name: &'static str, value: impl Into<Text>) -> Self {
        Self::new(vec![(name.into(), value.into())])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_deref().is_none_or(<[_]>::is_empty)
    }

    pub(in crate::telemetry) fn pairs(&self) -> &[(Text, Text)] {
        self.0.as_deref().unwrap_or_default()
    }

    pub(in crate::telemetry) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(name, value)| (&**name, &**value))
    }
}

impl EncodeLabelSet for LabelSet {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            // OpenTelemetry's have dots.
            let name = match name.contains('.') {
                true => Cow::Owned(name.replace('.', "_")),
                false => Cow::Borrowed(name),
            };
            (&*name, value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Fixed("")
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(Arc::clone(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
