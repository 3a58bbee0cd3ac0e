//! Judging one request at one place: the questions of the inbound layers, in their order.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::coverage::Reached;
use super::{Answer, Request};
use crate::explain;
use crate::name::{ResourceRef, SpiffeId};
use crate::policy::authz::{Action, Decision};
use crate::policy::forwarded::{receive, remote_addr};
use crate::policy::normalize::normalize;
use crate::policy::token::{Token, TokenRule, Verdict as TokenVerdict};
use crate::policy::{Caller, RequestHead};
use crate::snapshot::{Claims, Findings, Passages, Place, Snapshot};

/// The place that judges, and what is known besides.
pub(super) struct Court<'a> {
    pub(super) view: &'a Snapshot,
    pub(super) place: &'a Place,
    pub(super) authority: &'a str,
    /// What external authorizers answer.
    pub(super) authorizers: &'a BTreeMap<String, bool>,
    pub(super) reached: &'a Reached,
}

/// What came of a request.
pub(super) struct Ruling {
    pub(super) answer: Answer,
    pub(super) by: Option<(ResourceRef, u32)>,
    pub(super) why: String,
}

impl Ruling {
    fn because(answer: Answer, why: impl Into<String>) -> Self {
        Self {
            answer,
            by: None,
            why: why.into(),
        }
    }
}

/// A request as it is sent.
struct Sent {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    identity: Option<SpiffeId>,
    ip: IpAddr,
    claims: Option<Claims>,
}

impl Court<'_> {
    /// Judges.
    ///
    /// # Errors
    /// What of the request is none.
    pub(super) fn judge(&self, request: &Request) -> Result<Ruling, String> {
        let mut sent = match self.read(request)? {
            Ok(sent) => sent,
            Err(refused) => return Ok(refused),
        };
        if let Place::Workload { port } = *self.place
            && sent.identity.is_none()
            && self.view.is_strict(port)
        {
            let why = "PeerAuthentication STRICT: plaintext is refused";
            return Ok(Ruling::because(Answer::Denied, why));
        }
        let passages = match self.view.passages(self.place, sent.identity.as_ref()) {
            Ok(passages) => passages,
            Err(why) => return Ok(Ruling::because(Answer::Denied, why)),
        };
        let mut found = Findings::default();
        if let Some(denied) = self.consult(&passages, &sent) {
            return Ok(denied);
        }
        found.consulted();
        if sent.claims.is_none()
            && let Some(refused) = self.authenticate(&passages, &mut sent, &mut found)?
        {
            return Ok(refused);
        }
        Ok(self.authorize(&sent, &found))
    }

    fn read(&self, request: &Request) -> Result<Result<Sent, Ruling>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let bad = |_| format!("`{name}: {value}` is not a header");
            let value = HeaderValue::from_str(value).map_err(|_| bad(()))?;
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?,
                value,
            );
        }
        let id = |text: &str| match text.contains("://") {
            true => SpiffeId::parse_any(text),
            false => SpiffeId::parse_any(&format!("spiffe://{text}")),
        };
        let identity = request.from.as_deref().map(id).transpose();
        let raw = request.path.split('#').next().unwrap_or_default();
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (raw, None),
        };
        let path = match normalize(path, self.view.paths) {
            Ok(path) => path.into_owned(),
            Err(error) => return Ok(Err(Ruling::because(Answer::BadRequest, error.to_string()))),
        };
        let ip = request.from_ip.to_canonical();
        if !matches!(self.place, Place::Workload { .. }) {
            let secure = match self.place {
                Place::Listener { name } => self
                    .view
                    .gateway
                    .listener(name)
                    .is_some_and(|it| it.tls.is_some()),
                _ => false,
            };
            receive(&mut headers, ip, secure, self.view.edge(self.place));
        }
        Ok(Ok(Sent {
            method: Method::from_bytes(request.method.as_bytes()).map_err(|error| error.to_string())?,
            path,
            query,
            headers,
            identity: identity.map_err(|error| error.to_string())?,
            ip,
            claims: match &request.claims {
                None => None,
                Some(claims) => Some(claims.as_object().cloned().ok_or("claims are an object")?),
            },
        }))
    }

    fn head<'s>(&'s self, sent: &'s Sent) -> RequestHead<'s> {
        let port = match self.place {
            Place::Workload { port }
            | Place::Service { port, .. }
            | Place::Pod { port, .. }
            | Place::Port { port, .. } => *port,
            Place::Listener { name } => self.view.gateway.listener(name).map_or(0, |it| it.port),
        };
        RequestHead {
            caller: Caller {
                identity: sent.identity.as_ref(),
                addr: sent.ip,
                remote: remote_addr(&sent.headers, sent.ip, self.view.edge(self.place)),
            },
            destination: SocketAddr::new(self.view.my_addr(), port),
            claims: sent.claims.as_ref(),
            ..RequestHead::unsent(
                &sent.method,
                self.authority,
                &sent.path,
                sent.query.as_deref(),
                &sent.headers,
            )
        }
    }

    /// What external authorizers say, where one has to be asked.
    fn consult(&self, passages: &Passages<'_>, sent: &Sent) -> Option<Ruling> {
        let head = self.head(sent);
        for passage in passages {
            let asked = passage.gate.authorizer.is_some();
            let head = passage.head(&head);
            let Some((by, name)) = passage.gate.authz.consult(&head).filter(|_| asked) else {
                continue;
            };
            let why = match self.authorizers.get(&**name) {
                Some(true) => continue,
                Some(false) => format!("the external authorizer `{name}` denies it"),
                None => format!(
                    "the external authorizer `{name}` has to be asked; say with Policies::authorizer what it answers"
                ),
            };
            let customs = passage.gate.authz.explain(&head);
            let customs = customs
                .iter()
                .filter(|rule| rule.action == Action::Custom && rule.applies());
            customs.for_each(|rule| self.reached.note(rule.by));
            return Some(Ruling {
                answer: Answer::Denied,
                by: Some((by.policy.clone(), by.rule)),
                why,
            });
        }
        None
    }

    /// Whether the request's tokens are believed; headers and claims are then as policy sees them.
    fn authenticate(
        &self,
        passages: &Passages<'_>,
        sent: &mut Sent,
        found: &mut Findings,
    ) -> Result<Option<Ruling>, String> {
        let guards = || passages.iter().filter_map(|passage| passage.gate.tokens.as_ref());
        for tokens in guards() {
            tokens.rules.sanitize(&mut sent.headers);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let head = self.head(sent);
        let mut accepted: Vec<(&TokenRule, Arc<Token>)> = Vec::new();
        for passage in passages {
            let Some(tokens) = &passage.gate.tokens else {
                found.push(None);
                continue;
            };
            match tokens.rules.judge(&head, now, tokens) {
                TokenVerdict::Absent => found.push(None),
                TokenVerdict::Accepted { rule, token, claims } => {
                    self.reached.note(&rule.by);
                    found.push(Some(claims));
                    accepted.push((rule, token));
                }
                TokenVerdict::Refused { why, .. } => {
                    let answer = match why.status().as_u16() {
                        403 => Answer::Denied,
                        _ => Answer::Unauthorized,
                    };
                    return Ok(Some(Ruling::because(answer, why.to_string())));
                }
                TokenVerdict::Wait(_) => {
                    let why = "keys would have to be fetched: write them as `jwks`, or say what was verified with `claims`";
                    return Err(why.to_owned());
                }
            }
        }
        for (rule, token) in accepted {
            let mut parts = parts(sent)?;
            rule.edit(&token, &mut parts);
            sent.query = parts.uri.query().map(str::to_owned);
            sent.headers = parts.headers;
        }
        Ok(None)
    }

    fn authorize(&self, sent: &Sent, found: &Findings) -> Ruling {
        let head = self.head(sent);
        let decision = self.view.authorize_found(self.place, &head, found);
        let told = self.view.rules_told(self.place, &head, found);
        self.reached.note_all(&told, decision.is_allowed());
        let (Decision::Allow { by } | Decision::Deny { by, .. }) = decision;
        let answer = match decision.is_allowed() {
            true => Answer::Allowed,
            false => Answer::Denied,
        };
        Ruling {
            answer,
            by: by.map(|by| (by.policy.clone(), by.rule)),
            // Whoever writes the test has the values.
            why: explain::decision(self.view, self.place, &head, found, true).to_string(),
        }
    }
}

/// The request as far as a token's rule may change it.
fn parts(sent: &mut Sent) -> Result<Parts, String> {
    let mut request = http::Request::new(());
    let target = match &sent.query {
        Some(query) => format!("{}?{query}", sent.path),
        None => sent.path.clone(),
    };
    *request.uri_mut() = target.parse::<Uri>().map_err(|error| error.to_string())?;
    *request.headers_mut() = std::mem::take(&mut sent.headers);
    Ok(request.into_parts().0)
}
