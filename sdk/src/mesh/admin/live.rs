//! `/live/…`: the process while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::{Inner, Mesh};
use super::show::{self, problem};
use super::{document, text};
use crate::config::Severity;
use crate::control::{Change, Generation};
use crate::identity::CertificateFacts;
use crate::layer::{BoxError, MeshBody};
use crate::watch::{Filter, Onlooker, Told};

/// How many requests are listed unless told otherwise, and at most.
const LISTED: (usize, usize) = (100, 700);
/// How long a rate's window may be.
const LONGEST_WINDOW: f64 = 30.0;
/// How long whoever lists requests may have them collected for the next time.
const LONGEST_LEASE: f64 = 300.0;
/// How many may have requests told of as they end.
const STREAMS: usize = 16;
/// How often a stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What is asked for with a path.
struct Query(BTreeMap<String, String>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        )
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn seconds(&self, name: &str, most: f64) -> Duration {
        let seconds = self.text(name).and_then(|text| text.parse::<f64>().ok());
        let seconds = seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0);
        Duration::from_secs_f64(seconds.clamp(0.0, most))
    }

    fn filter(&self) -> Result<Filter, Box<Response<MeshBody>>> {
        self.text("filter")
            .unwrap_or_default()
            .parse()
            .map_err(|error: crate::watch::NoFilter| {
                Box::new(text(StatusCode::BAD_REQUEST, format!("no filter: {error}\n")))
            })
    }
}

/// As forms are encoded: `+` is a space, `%XX` a byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| high * 16 + low)
            }
            _ => None,
        };
        (rest, _) = match hex.and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => (&after[2..], bytes.push(byte)),
            None if *first == b'+' => (after, bytes.push(b' ')),
            None => (after, bytes.push(*first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers what is asked of `/live/…`; `None` if there is nothing of that name.
pub(super) async fn answer(mesh: &Mesh, uri: &Uri) -> Option<Response<MeshBody>> {
    let watch = mesh.inner.watch.get()?;
    let query = Query::of(uri);
    let path = uri.path().strip_prefix("/live/")?;
    Some(match path {
        "graph" => {
            let window = query.seconds("window", LONGEST_WINDOW);
            let mut graph = json!(watch.graph(window).await);
            graph["generation"] = json!(mesh.snapshot().generation);
            document(&graph)
        }
        "requests" => match query.filter() {
            Err(answer) => *answer,
            Ok(filter) => {
                let lease = query.seconds("watch", LONGEST_LEASE);
                if !lease.is_zero() {
                    watch.lease(lease);
                }
                let limit = query.text("limit").and_then(|text| text.parse().ok());
                let found = watch.exchanges(&filter, limit.unwrap_or(LISTED.0).min(LISTED.1));
                document(&json!({ "requests": found.iter().map(|it| json!(**it)).collect::<Vec<_>>() }))
            }
        },
        "stream" => match query.filter() {
            Err(answer) => *answer,
            Ok(filter) => match Seat::take(&mesh.inner.streams) {
                Some(seat) => streamed(Arc::downgrade(&mesh.inner), watch.look(), filter, seat),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "too many look on already\n"),
            },
        },
        "summary" => document(&summary(mesh)),
        "config" => document(&config(mesh)),
        "generations" => {
            let status = mesh.status().borrow().clone();
            let told: Vec<Value> = status.history.iter().map(|it| generation(it, false)).collect();
            document(&json!({ "current": status.generation, "generations": told }))
        }
        "certificates" => document(&certificates(mesh)),
        path => {
            let (kind, id) = path.split_once('/')?;
            let id: u64 = id.parse().ok()?;
            match kind {
                "requests" => match watch.exchange(id) {
                    Some(exchange) => document(&exchange.document()),
                    None => text(StatusCode::NOT_FOUND, "that request is not remembered\n"),
                },
                "generations" => {
                    let status = mesh.status().borrow().clone();
                    match status.history.iter().find(|it| it.number == id) {
                        Some(found) => document(&generation(found, true)),
                        None => text(StatusCode::NOT_FOUND, "that generation is not remembered\n"),
                    }
                }
                _ => return None,
            }
        }
    })
}

// ===== requests as they end =====

/// One of the places for those who look on.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let next = |taken: usize| (taken < STREAMS).then_some(taken + 1);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Stream {
    /// Whose requests are told of; not kept alive by those who look on.
    mesh: Weak<Inner>,
    onlooker: Onlooker,
    filter: Filter,
    heartbeat: Interval,
    begun: bool,
    _seat: Seat,
}

/// Server-sent events: `request` with one in short, `lost` with how many are not told of.
fn streamed(mesh: Weak<Inner>, onlooker: Onlooker, filter: Filter, seat: Seat) -> Response<MeshBody> {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let first = Stream {
        mesh,
        onlooker,
        filter,
        heartbeat,
        begun: false,
        _seat: seat,
    };
    let events = stream::unfold(first, |mut stream| async move {
        let event = stream.event().await?;
        Some((Ok::<_, BoxError>(Frame::data(Bytes::from(event))), stream))
    });
    let mut response = Response::new(MeshBody::new(StreamBody::new(events)));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl Stream {
    async fn event(&mut self) -> Option<String> {
        if !self.begun {
            self.begun = true;
            // So that whoever asked knows at once that it is heard.
            return Some("retry: 2000\n: watching\n\n".to_owned());
        }
        loop {
            let told = tokio::select! {
                told = self.onlooker.next() => told?,
                _ = self.heartbeat.tick() => {
                    let gone = self.mesh.strong_count() == 0;
                    return (!gone).then(|| ": still here\n\n".to_owned());
                }
            };
            match told {
                Told::Exchange(exchange) if self.filter.admits(&exchange) => {
                    return Some(format!("event: request\ndata: {}\n\n", json!(*exchange)));
                }
                Told::Exchange(_) => {}
                Told::Lost(count) => {
                    return Some(format!("event: lost\ndata: {}\n\n", json!({ "count": count })));
                }
            }
        }
    }
}

// ===== configuration =====

/// How it is, in a few figures: for those who ask every few seconds, however much is configured.
fn summary(mesh: &Mesh) -> Value {
    let status = mesh.status().borrow().clone();
    let unserved = mesh.unserved().borrow().len();
    let count = |severity| {
        status
            .problems
            .iter()
            .filter(|it| it.severity == severity)
            .count()
    };
    json!({
        "generation": status.generation,
        "publishedMs": status.published.map(millis),
        "resources": status.resources,
        "ready": mesh.is_ready(),
        "identity": mesh.identity().as_str(),
        "failed": status.failed.as_ref().map(|failed| json!({ "strict": failed.strict, "text": failed.text })),
        "problems": {
            "errors": count(Severity::Error) + unserved,
            "warnings": count(Severity::Warning),
            "ignored": count(Severity::Ignored),
        },
    })
}

fn config(mesh: &Mesh) -> Value {
    let status = mesh.status().borrow().clone();
    let unserved = mesh.unserved().borrow().clone();
    let unserved = unserved
        .iter()
        .map(|(listener, why)| json!({ "listener": &**listener, "text": why.to_string() }));
    let mut told = summary(mesh);
    told["problems"] = status.problems.iter().map(problem).collect();
    told["unserved"] = unserved.collect();
    told["conditions"] = json!(mesh.statuses());
    told["dump"] = show::dump(&mesh.snapshot());
    told
}

fn generation(it: &Generation, whole: bool) -> Value {
    let mut told = json!({
        "generation": it.number,
        "publishedMs": millis(it.published),
        "compileMs": it.compile.as_secs_f64() * 1e3,
        "resources": it.resources,
        "problems": it.problems,
        "changeCount": it.change_count,
        "appeared": it.appeared.len(),
        "resolved": it.resolved.len(),
        "summary": it.changes.iter().take(3).map(|it| format!("{} {}", it.kind.as_str(), it.resource))
            .collect::<Vec<_>>(),
    });
    if whole {
        told["changes"] = it.changes.iter().map(change).collect();
        told["appeared"] = it.appeared.iter().map(problem).collect();
        told["resolved"] = it.resolved.iter().map(problem).collect();
    }
    told
}

fn change(it: &Change) -> Value {
    let fields = it.fields.iter();
    json!({
        "resource": it.resource.to_string(),
        "place": it.place.to_string(),
        "kind": it.kind.as_str(),
        "fields": fields.map(|it| json!({ "field": it.field, "before": it.before, "after": it.after }))
            .collect::<Vec<_>>(),
    })
}

// ===== certificates =====

fn certificates(mesh: &Mesh) -> Value {
    let now = SystemTime::now();
    let shown = |der: &[u8], role: &str, of: String| {
        let facts = CertificateFacts::read(der)?;
        Some(certificate(&facts, role, of, now))
    };
    let credential = mesh.inner.credential.borrow().clone();
    let id = credential.id().to_string();
    let chain = credential.chain().enumerate().filter_map(|(index, der)| {
        let role = if index == 0 { "own" } else { "intermediate" };
        shown(der, role, id.clone())
    });
    let roots = credential
        .anchors()
        .filter_map(|der| shown(der, "root", id.clone()));
    let view = mesh.snapshot();
    let listeners = view.gateway.listeners().flat_map(|listener| {
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        certificates.filter_map(|certificate| {
            let of = format!("listener {}: {}", listener.name, certificate.source);
            shown(certificate.chain.first()?, "listener", of)
        })
    });
    let all: Vec<Value> = chain.chain(roots).chain(listeners).collect();
    json!({ "identity": id, "nowMs": millis(now), "certificates": all })
}

fn certificate(facts: &CertificateFacts, role: &str, of: String, now: SystemTime) -> Value {
    let left = facts.not_after.duration_since(now).ok();
    json!({
        "role": role,
        "of": of,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "names": facts.names,
        "notBeforeMs": millis(facts.not_before),
        "notAfterMs": millis(facts.not_after),
        "secondsLeft": left.map_or(0, |left| left.as_secs()),
        "expired": left.is_none(),
        "ca": facts.is_ca,
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_as_forms_are() {
        for (text, expected) in [
            ("a+b", "a b"),
            ("%3Cscript%3e", "<script>"),
            ("100%", "100%"),
            ("%zz%f", "%zz%f"),
            ("%C3%B6", "ö"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decoded(text), expected);
        }
        let query = Query::of(
            &"/live/requests?filter=status%3E%3D400&window=1e9&limit=3"
                .parse()
                .unwrap(),
        );
        assert_eq!(query.text("filter"), Some("status>=400"));
        assert_eq!(query.seconds("window", 30.0), Duration::from_secs(30));
        assert_eq!(query.seconds("none", 30.0), Duration::ZERO);
    }
}
