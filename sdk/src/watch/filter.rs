//! Which requests somebody wants to see.

use super::Exchange;
use super::exchange::Outcome;

/// Which requests somebody wants to see: all terms must hold.
///
/// `from=curl to=reviews status>=400 path!=/health is:denied` and words that occur anywhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter(Vec<Term>);

/// Why something is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoFilter {
    #[error("`{0}` is nothing to filter by; there are {known}", known = FIELDS.join(", "))]
    Field(String),
    #[error("`{0}` is no number")]
    Number(String),
    #[error("there is no `is:{0}`; there are is:ok, is:slow, is:denied, is:failed and is:retried")]
    Word(String),
}

/// What can be filtered by.
const FIELDS: [&str; 15] = [
    "method",
    "host",
    "path",
    "status",
    "from",
    "to",
    "id",
    "trace",
    "flags",
    "rule",
    "policy",
    "ms",
    "refused",
    "direction",
    "is",
];

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// Whether it must not hold.
    not: bool,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq)]
enum Asks {
    /// One of the field's texts holds this one.
    Text(&'static str, String),
    /// A number lies in between.
    Number(&'static str, f64, f64),
    Outcome(Outcome),
    Retried,
    Anywhere(String),
}

impl std::str::FromStr for Filter {
    type Err = NoFilter;

    fn from_str(text: &str) -> Result<Self, NoFilter> {
        text.split_whitespace()
            .map(term)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn term(word: &str) -> Result<Term, NoFilter> {
    let (mut not, word) = match word.strip_prefix('-') {
        Some(rest) if !rest.is_empty() => (true, rest),
        _ => (false, word),
    };
    let asks = match word.find(['=', '<', '>', ':', '!']) {
        // A path or a query may hold any of them.
        Some(at) if at > 0 && word[..at].bytes().all(|b| b.is_ascii_alphabetic()) => {
            let rest = &word[at..];
            not ^= rest.starts_with("!=");
            asks(&word[..at], rest.strip_prefix('!').unwrap_or(rest), word)?
        }
        _ => Asks::Anywhere(word.to_lowercase()),
    };
    Ok(Term { not, asks })
}

fn asks(field: &str, rest: &str, word: &str) -> Result<Asks, NoFilter> {
    let unknown = || NoFilter::Field(word.to_owned());
    let field = FIELDS.iter().find(|known| **known == field).ok_or_else(unknown)?;
    let value = rest.trim_start_matches(['=', '<', '>', ':']);
    match *field {
        "is" => match value {
            "ok" => Ok(Asks::Outcome(Outcome::Ok)),
            "slow" => Ok(Asks::Outcome(Outcome::Slow)),
            "denied" => Ok(Asks::Outcome(Outcome::Denied)),
            "failed" => Ok(Asks::Outcome(Outcome::Failed)),
            "retried" => Ok(Asks::Retried),
            other => Err(NoFilter::Word(other.to_owned())),
        },
        "status" | "ms" => {
            let (from, to) = range(rest, value).ok_or_else(|| NoFilter::Number(value.to_owned()))?;
            Ok(Asks::Number(field, from, to))
        }
        _ => Ok(Asks::Text(field, value.to_lowercase())),
    }
}

/// `=404`, `=4xx`, `>=400`, `<500`.
fn range(rest: &str, value: &str) -> Option<(f64, f64)> {
    if let Some(class) = value.strip_suffix("xx") {
        let class: f64 = class.parse().ok().filter(|class| (1.0..=9.0).contains(class))?;
        return Some((class * 100.0, class * 100.0 + 99.0));
    }
    let number: f64 = value.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some(match rest.trim_end_matches(value) {
        ">=" => (number, f64::INFINITY),
        ">" => (number.next_up(), f64::INFINITY),
        "<=" => (f64::NEG_INFINITY, number),
        "<" => (f64::NEG_INFINITY, number.next_down()),
        _ => (number, number),
    })
}

impl Filter {
    /// Whether a request is to be seen.
    pub(crate) fn admits(&self, exchange: &Exchange) -> bool {
        self.0.iter().all(|term| term.asks.hold(exchange) != term.not)
    }
}

impl Asks {
    fn hold(&self, it: &Exchange) -> bool {
        match self {
            Self::Outcome(outcome) => it.outcome == *outcome,
            Self::Retried => it.attempts > 1,
            Self::Number("status", from, to) => (*from..=*to).contains(&f64::from(it.status)),
            Self::Number(_, from, to) => (*from..=*to).contains(&(it.duration_us as f64 / 1e3)),
            Self::Text(field, wanted) => texts(it, field).any(|text| holds(text, wanted)),
            Self::Anywhere(wanted) => FIELDS
                .iter()
                .any(|field| texts(it, field).any(|text| holds(text, wanted))),
        }
    }
}

fn texts<'e>(it: &'e Exchange, field: &str) -> impl Iterator<Item = &'e str> {
    let found: [Option<&str>; 4] = match field {
        "method" => [Some(&it.method), None, None, None],
        "host" => [Some(&it.host), None, None, None],
        "path" => [Some(&it.path), None, None, None],
        "from" => [
            it.source.workload.as_deref(),
            it.source.identity.as_deref(),
            it.source.namespace.as_deref(),
            it.source.address.as_deref(),
        ],
        "to" => [
            it.destination.workload.as_deref(),
            it.destination.service.as_deref(),
            it.destination.namespace.as_deref(),
            it.destination.address.as_deref(),
        ],
        "id" => [it.request_id.as_deref(), None, None, None],
        "trace" => [it.trace_id.as_deref(), None, None, None],
        "flags" => [Some(it.flags), None, None, None],
        "rule" => [it.rule.as_deref(), None, None, None],
        "policy" => [it.policy.as_deref(), None, None, None],
        "refused" => [it.refused, None, None, None],
        "direction" => [Some(it.direction), None, None, None],
        _ => [None; 4],
    };
    found.into_iter().flatten()
}

/// Whether a text holds another one, whatever their case. The other is in lower case.
fn holds(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_said_to_be_none() {
        let read = |text: &str| text.parse::<Filter>();
        assert!(read("").is_ok() && read("from=curl -path=/health status>=400 is:denied /a?b=c").is_ok());
        assert_eq!(read("form=curl"), Err(NoFilter::Field("form=curl".into())));
        assert_eq!(read("status=abc"), Err(NoFilter::Number("abc".into())));
        assert_eq!(read("is:odd"), Err(NoFilter::Word("odd".into())));
    }

    #[test]
    fn numbers_are_compared() {
        let range = |text: &str| match &text.parse::<Filter>().unwrap().0[0].asks {
            Asks::Number(_, from, to) => (*from, *to),
            other => panic!("{other:?}"),
        };
        assert_eq!(range("status=4xx"), (400.0, 499.0));
        assert_eq!(range("status=404"), (404.0, 404.0));
        assert_eq!(range("ms>=1.5"), (1.5, f64::INFINITY));
        assert!(range("status<500").1 < 500.0);
        assert!(range("status>500").0 > 500.0);
        let not = |text: &str| text.parse::<Filter>().unwrap().0[0].not;
        assert!(not("status!=200") && not("-status=200") && !not("-status!=200") && !not("status=200"));
        assert_eq!(range("status!=4xx"), (400.0, 499.0));
    }
}
