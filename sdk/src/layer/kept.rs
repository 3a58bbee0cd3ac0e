//! Kept: what is held of a request for those who look on, until it is over.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};

use super::call::Served;
use super::notes::Notes;
use super::record::{Counted, Record};
use super::{MeshBody, Refusal};
use crate::policy::balance::Endpoint;
use crate::snapshot::tap::{Judgement, Refused, SLOW, Taken, Trail, Wanted};
use crate::snapshot::{Cluster, Live};
use crate::telemetry::{RequestSeries, Sample, context_of};

/// What is held of a request.
#[derive(Debug)]
pub(super) struct Kept {
    live: Arc<Live>,
    wanted: Wanted,
    method: Method,
    uri: Uri,
    /// The host that it names, where its URI does not say. Shared with the request, as the URI is.
    host: Option<HeaderValue>,
    dialled: Option<Authority>,
    headers: Option<HeaderMap>,
    /// The id of the trace that it belongs to, whoever records that.
    pub(super) trace: Option<[u8; 16]>,
    answered: Option<Instant>,
    refused: Option<Refused>,
    endpoint: Option<Arc<Endpoint>>,
    cluster: Option<Arc<Cluster>>,
    rule: Option<Arc<str>>,
    attempts: u32,
}

impl Kept {
    /// Of a request that begins: in short, unless all of it is wanted.
    pub(super) fn of(request: &Request<MeshBody>, live: &Arc<Live>, wanted: Wanted) -> Self {
        let uri = request.uri().clone();
        Self {
            live: Arc::clone(live),
            wanted,
            method: request.method().clone(),
            host: match uri.authority() {
                Some(_) => None,
                None => request.headers().get(HOST).cloned(),
            },
            headers: (wanted == Wanted::All).then(|| request.headers().clone()),
            uri,
            dialled: None,
            trace: None,
            answered: None,
            refused: None,
            endpoint: None,
            cluster: None,
            rule: None,
            attempts: 0,
        }
    }

    /// Notes what is dialled, where that is not the host that the request names.
    pub(super) fn dialled(&mut self, dialled: Option<&Authority>) {
        self.dialled = dialled.cloned();
    }

    /// Notes why there is no answer of an upstream.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.refused = Some(Refused {
            reason: refusal.reason.as_str(),
            why: super::chain(refusal).to_string(),
            policy: refusal.policy.clone(),
            rule: refusal.rule,
        });
    }

    /// Notes whose answer it is.
    pub(super) fn answered(&mut self, response: &Response<MeshBody>) {
        self.answered = (self.wanted == Wanted::All).then(Instant::now);
        if let Some(served) = response.extensions().get::<Served>() {
            self.endpoint = Some(Arc::clone(&served.endpoint));
            self.cluster = served.cluster.clone();
            self.rule = served.rule.clone();
            self.attempts = served.attempts;
        }
    }

    /// Leaves the request for those who look on, if its end is one that they want to hear of.
    pub(super) fn give(&self, record: &Record, series: &Arc<RequestSeries>, sample: &Sample) {
        let tap = self.live.tap();
        let wanted = match self.wanted {
            Wanted::All => true,
            _ => self.is_remarkable(sample) && tap.has_room(),
        };
        if !wanted {
            return;
        }
        let origin = match &record.counted {
            Counted::Origin(origin) => Some(origin),
            Counted::Client(_) => None,
        };
        tap.give(Box::new(Taken {
            view: Arc::clone(&record.view),
            method: self.method.clone(),
            uri: self.uri.clone(),
            authority: self
                .host
                .as_ref()
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default()
                .into(),
            dialled: self.dialled.clone(),
            headers: self.headers.clone(),
            trace: context_of(&record.span)
                .trace_id()
                .or_else(|| Some(format!("{:032x}", u128::from_be_bytes(self.trace?)))),
            place: origin.map(|origin| Arc::clone(&origin.place)),
            peer: origin.map(|origin| Arc::clone(&origin.peer)),
            series: Arc::clone(series),
            began: SystemTime::now()
                .checked_sub(sample.duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            start: record.started,
            duration: sample.duration,
            status: sample.response_code,
            grpc_status: sample.grpc_status,
            flags: sample.flags,
            received: sample.request_bytes,
            sent: sample.response_bytes,
            answered: self.answered,
            endpoint: self.endpoint.clone(),
            cluster: self.cluster.clone(),
            rule: self.rule.clone(),
            attempts: self.attempts,
            refused: self.refused.clone(),
            judged: record.notes.as_deref().and_then(judgement),
            trail: record
                .notes
                .as_ref()
                .map_or_else(Trail::default, |notes| notes.trail()),
            wanted: self.wanted,
        }));
    }

    /// Whether the request was refused, failed, or was slow.
    fn is_remarkable(&self, sample: &Sample) -> bool {
        self.refused.is_some()
            || sample.response_code >= 500
            || sample.response_code == 0
            || sample.flags != "-"
            || matches!(sample.grpc_status, Some(2 | 4 | 7 | 8 | 13..=16))
            || sample.duration >= SLOW
    }
}

fn judgement(notes: &Notes) -> Option<Judgement> {
    let decided = notes.decision()?;
    Some(Judgement {
        allowed: decided.allowed,
        policy: decided.by.as_ref().map(|by| by.policy.to_string()),
        rule: decided.by.as_ref().map(|by| by.rule),
        clause: decided.clause.clone(),
        inputs: decided.inputs.clone(),
        cost: decided.cost,
        claims: notes.claims.get().cloned(),
    })
}
