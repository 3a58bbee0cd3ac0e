//! Files of decisions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, Uri};
use serde_json::{Map, Value};

use super::shape::{Decisions, Enforcer, MeshFacts, Request};
use super::{CaseError, Outcome, policies};
use crate::compile::authn;
use crate::compile::authz::{
    Asked, Authorizers, GatewayTarget, MeshSettings, PeerInput, PolicyInput, Registry, Target, attached,
    engine, strict_ports,
};
use crate::config::{Entry, Place, Resource};
use crate::name::{ServiceName, SpiffeId};
use crate::policy::authz::{AuthzEngine, Decision, Layer};
use crate::policy::normalize::{PathNormalization, normalize};
use crate::policy::token::Verdict;
use crate::policy::{Caller, ConnectionHead, RequestHead, forwarded};
use crate::snapshot::{StrictPorts, TokenGuard};
use crate::testing::coverage::Reached;
use crate::testing::{Covered, Issuer, Policies, TokenState};

/// A case, compiled.
#[derive(Debug)]
pub struct World {
    case: Decisions,
    issuer: Issuer,
    engines: [(Layer, AuthzEngine); 3],
    tokens: Option<TokenGuard>,
    strict: StrictPorts,
    /// What the case itself configures.
    own: Vec<Arc<Entry>>,
    reached: Reached,
    /// Where it is noted what was reached of the policies of others.
    others: Option<Arc<Reached>>,
}

/// What comes of a request, as far as cases ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layered {
    /// `allow`, `deny`, `unauthorized` or `bad_request`.
    pub answer: String,
    /// Whether an AUDIT policy matched.
    pub audited: Option<bool>,
    /// The path that was judged, and is sent on.
    pub normalized: Option<String>,
}

impl World {
    /// Compiles what a case configures.
    ///
    /// # Errors
    /// If it holds what is not understood.
    pub fn new(case: Decisions) -> Result<Self, CaseError> {
        Self::among(case, None)
    }

    /// Compiles what a file configures, among these policies.
    pub(super) fn of(file: Value, policies: Option<&Policies>) -> Result<Self, CaseError> {
        let says_mesh = file.get("mesh").is_some();
        let mut case: Decisions = super::shape::read(file)?;
        if let (Some(policies), false) = (policies, says_mesh) {
            case.mesh = MeshFacts::of(policies);
        }
        Self::among(case, policies)
    }

    fn among(case: Decisions, policies: Option<&Policies>) -> Result<Self, CaseError> {
        let issuer = Issuer::new();
        let keys = issuer.jwks();
        let read = |policy| policies::read(&policies::with_keys(policy, &keys));
        let own: Vec<Arc<Entry>> = case
            .policies
            .iter()
            .map(|policy| read(policy).map(|(entry, _)| entry))
            .collect::<Result<_, _>>()?;
        let mut entries = own.clone();
        for entry in policies.iter().flat_map(|policies| policies.security()) {
            let name = entry.reference();
            if own.iter().any(|own| own.reference() == name) {
                return Err(CaseError(format!(
                    "{name} is in the configuration, too, at {}",
                    entry.place
                )));
            }
            entries.push(Arc::clone(entry));
        }
        let domains: Vec<Arc<str>> = std::iter::once(&case.mesh.trust_domain)
            .chain(&case.mesh.trust_domain_aliases)
            .map(|domain| domain.as_str().into())
            .collect();
        let settings = MeshSettings {
            root_namespace: &case.mesh.root_namespace,
            trust_domains: &domains,
            authorizers: &case,
        };
        let name = service_name(&case.target);
        let target = target(&case.target, name.as_ref())?;
        let authz = entries.iter().filter_map(|entry| match &entry.resource {
            Resource::AuthorizationPolicy(policy) => Some(PolicyInput { policy, entry }),
            _ => None,
        });
        let authz = attached(authz, &target, &settings);
        let mut engines =
            [Layer::Http, Layer::Tcp, Layer::L4].map(|layer| (layer, engine(&authz, layer, &settings).0));
        let tokens = entries.iter().filter_map(|entry| match &entry.resource {
            Resource::RequestAuthentication(policy) => Some(PolicyInput { policy, entry }),
            _ => None,
        });
        let tokens = attached(tokens, &target, &settings);
        let tokens = authn::token_guard(tokens.into_iter(), &mut Vec::new()).unwrap_or_else(|why| {
            engines[0].1 = AuthzEngine::deny_all(why);
            None
        });
        let peers = entries.iter().filter_map(|entry| match &entry.resource {
            Resource::PeerAuthentication(policy) => Some(PeerInput { policy, entry }),
            _ => None,
        });
        let strict = match target {
            Target::Workload { namespace, labels } => strict_ports(peers, namespace, labels, &settings).0,
            _ => StrictPorts::default(),
        };
        Ok(Self {
            issuer,
            engines,
            tokens,
            strict,
            case,
            own,
            reached: Reached::default(),
            others: policies.map(|policies| Arc::clone(&policies.reached)),
        })
    }

    /// What was reached of the case's own rules, which stand where `place` says.
    pub(super) fn coverage(&self, place: impl Fn(&str) -> Place) -> Vec<Covered> {
        let own = self.own.iter().enumerate();
        own.flat_map(|(index, entry)| {
            self.reached
                .of_entry(entry, |field| place(&format!("policies[{index}].{field}")))
        })
        .collect()
    }

    fn notes(&self) -> impl Iterator<Item = &Reached> {
        std::iter::once(&self.reached).chain(self.others.as_deref())
    }

    /// The case.
    pub fn case(&self) -> &Decisions {
        &self.case
    }

    /// Its requests, with its defaults.
    pub fn requests(&self) -> impl Iterator<Item = Result<Request, CaseError>> {
        self.case.requests.iter().map(|request| {
            let mut merged = self.case.defaults.clone();
            merged.extend(request.clone());
            let request: Request = serde_json::from_value(Value::Object(merged)).map_err(CaseError::new)?;
            expected_status(&request)?;
            Ok(request)
        })
    }

    /// Judges every request.
    pub fn run(&self) -> Vec<Outcome> {
        let ids = self.case.requests.iter().map(|request: &Map<String, Value>| {
            let id = request.get("id").and_then(Value::as_str).unwrap_or("(no id)");
            format!("{}/{id}", self.case.id)
        });
        ids.zip(self.requests())
            .map(|(name, request)| {
                let judged = request.and_then(|request| Ok((self.judge(&request)?, request)));
                match judged {
                    Ok(((observed, why), request)) => outcome(name, &request, observed, &why),
                    Err(error) => Outcome::failed(name, error),
                }
            })
            .collect()
    }

    /// What comes of a request, and what decided.
    ///
    /// # Errors
    /// If it holds what is not understood.
    pub fn judge(&self, request: &Request) -> Result<(Layered, String), CaseError> {
        let identity = request
            .peer
            .as_deref()
            .map(SpiffeId::parse_any)
            .transpose()
            .map_err(CaseError::new)?;
        let layer = match request.layer.as_deref().unwrap_or(&self.case.layer) {
            "http" => Layer::Http,
            "tcp" => Layer::Tcp,
            "l4" => Layer::L4,
            other => return Err(CaseError(format!("unknown layer {other}"))),
        };
        let of_layer = self.engines.iter().find(|(of, _)| *of == layer);
        let engine = of_layer
            .map(|(_, engine)| engine)
            .ok_or_else(|| CaseError("no engine".into()))?;
        if identity.is_none() && self.strict.is_strict(request.dst_port) {
            return Ok((
                answer("deny"),
                "PeerAuthentication: this port takes mutual TLS only".into(),
            ));
        }
        if layer == Layer::Http {
            return self.judge_request(request, identity.as_ref(), engine);
        }
        let head = ConnectionHead {
            caller: Caller {
                identity: identity.as_ref(),
                addr: request.src_ip.to_canonical(),
                remote: request.src_ip.to_canonical(),
            },
            destination: SocketAddr::new(request.dst_ip, request.dst_port),
            sni: request.sni.as_deref().unwrap_or(""),
        };
        let decision = match engine.consult_connection(&head) {
            Some((by, name)) if !self.allows(name) => {
                self.notes().for_each(|notes| notes.note(by));
                return Ok((answer("deny"), format!("{} asked {name}", by.policy)));
            }
            _ => engine.decide_consulted_connection(&head),
        };
        if let Decision::Allow { by: Some(by) } | Decision::Deny { by: Some(by), .. } = decision {
            self.notes().for_each(|notes| notes.note(by));
        }
        Ok((allowed(decision.is_allowed()), format!("{decision:?}")))
    }

    fn judge_request(
        &self,
        request: &Request,
        identity: Option<&SpiffeId>,
        engine: &AuthzEngine,
    ) -> Result<(Layered, String), CaseError> {
        let (mut headers, target) = self.sent(request)?;
        let raw = target.split('#').next().unwrap_or_default();
        let (path, query) = raw
            .split_once('?')
            .map_or((raw, None), |(path, query)| (path, Some(query)));
        let path = match normalize(path, self.normalization()?) {
            Ok(path) => path,
            Err(error) => return Ok((answer("bad_request"), error.to_string())),
        };
        let join =
            |query: Option<&str>| query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
        let target = join(query);
        let method = Method::from_bytes(request.method.as_bytes()).map_err(CaseError::new)?;
        let (addr, edge) = (request.src_ip.to_canonical(), self.edge());
        if edge.is_some() {
            forwarded::receive(&mut headers, addr, false, edge);
        }
        let caller = Caller {
            identity,
            addr,
            remote: forwarded::remote_addr(&headers, addr, edge),
        };
        let none = HeaderMap::new();
        let base = RequestHead {
            caller,
            destination: SocketAddr::new(request.dst_ip, request.dst_port),
            sni: request.sni.as_deref().unwrap_or(""),
            claims: request.claims.as_ref(),
            ..RequestHead::unsent(&method, &request.host, &path, query, &none)
        };
        let seen = |answer: Layered, audited| Layered {
            audited,
            normalized: Some(target.clone()),
            ..answer
        };
        let asked = engine.consult(&RequestHead {
            headers: &headers,
            ..base
        });
        if let Some((by, name)) = asked.filter(|(_, name)| !self.allows(name)) {
            self.notes().for_each(|notes| notes.note(by));
            return Ok((seen(answer("deny"), None), format!("{} asked {name}", by.policy)));
        }
        let mut verified = None;
        let mut left = query.map(str::to_owned);
        if let Some(tokens) = &self.tokens {
            tokens.rules.sanitize(&mut headers);
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let head = RequestHead {
                headers: &headers,
                ..base
            };
            match tokens.rules.judge(&head, now, tokens) {
                Verdict::Absent => {}
                Verdict::Wait(_) => return Err(CaseError("keys would have to be fetched".into())),
                Verdict::Refused { why, .. } => {
                    let word = if why.status() == 403 {
                        "deny"
                    } else {
                        "unauthorized"
                    };
                    return Ok((seen(answer(word), None), why.to_string()));
                }
                Verdict::Accepted { rule, token, claims } => {
                    self.notes().for_each(|notes| notes.note(&rule.by));
                    let mut parts = parts(headers, &target)?;
                    rule.edit(&token, &mut parts);
                    left = parts.uri.query().map(str::to_owned);
                    headers = parts.headers;
                    verified = Some(claims);
                }
            }
        }
        let mut head = RequestHead {
            headers: &headers,
            query: left.as_deref(),
            ..base
        };
        if let Some(claims) = &verified {
            head.claims = Some(claims);
        }
        let decision = engine.decide_consulted(&head);
        let audited = Some(engine.audit(&head).is_some());
        let told = engine.explain(&head);
        self.notes()
            .for_each(|notes| notes.note_all(&told, decision.is_allowed()));
        Ok((
            seen(allowed(decision.is_allowed()), audited),
            format!("{decision:?}"),
        ))
    }

    /// The request's headers and `:path`, with the tokens that it is to carry.
    ///
    /// # Errors
    /// If they are none.
    pub fn sent(&self, request: &Request) -> Result<(HeaderMap, String), CaseError> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(CaseError::new)?;
            headers.append(name, HeaderValue::from_str(value).map_err(CaseError::new)?);
            Ok(())
        };
        for (name, value) in &request.headers {
            add(name, value)?;
        }
        let mut path = request.path.clone();
        for token in request.tokens.iter().flatten() {
            let state = match token.state.as_str() {
                "valid" => TokenState::Valid,
                "expired" => TokenState::Expired,
                "not_yet_valid" => TokenState::NotYetValid,
                "bad_signature" => TokenState::BadSignature,
                "unknown_kid" => TokenState::UnknownKid,
                "malformed" => TokenState::Malformed,
                other => return Err(CaseError(format!("unknown state of a token `{other}`"))),
            };
            let text = format!(
                "{}{}",
                token.prefix,
                self.issuer.token_that_is(state, &token.claims)
            );
            match token.at.split_once(':') {
                Some(("header", name)) => add(name, &text)?,
                Some(("cookie", name)) => add("cookie", &format!("{name}={text}"))?,
                Some(("query", name)) => {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str(&format!("{name}={text}"));
                }
                _ => return Err(CaseError(format!("unknown place of a token `{}`", token.at))),
            }
        }
        Ok((headers, path))
    }

    /// The case's policies, with the keys of its tokens.
    pub fn policies(&self) -> impl Iterator<Item = Value> {
        let keys = self.issuer.jwks();
        self.case
            .policies
            .iter()
            .map(move |policy| policies::with_keys(policy, &keys))
    }

    fn allows(&self, provider: &str) -> bool {
        self.case
            .providers
            .get(provider)
            .is_some_and(|provider| provider.decision == "allow")
    }

    /// At an edge, how many proxies in front of it are believed.
    fn edge(&self) -> Option<u32> {
        let target = &self.case.target;
        (target.kind == "gateway" && target.use_remote_address).then_some(self.case.mesh.num_trusted_proxies)
    }

    fn normalization(&self) -> Result<PathNormalization, CaseError> {
        Ok(match self.case.mesh.path_normalization.as_str() {
            "NONE" => PathNormalization::None,
            "BASE" | "DEFAULT" => PathNormalization::Base,
            "MERGE_SLASHES" => PathNormalization::MergeSlashes,
            "DECODE_AND_MERGE_SLASHES" => PathNormalization::DecodeAndMergeSlashes,
            other => return Err(CaseError(format!("unknown normalization {other}"))),
        })
    }
}

impl MeshFacts {
    /// What a configuration says.
    fn of(policies: &Policies) -> Self {
        let node = policies.node("default", Default::default());
        let facts = policies.seen_by(&node).snapshot.mesh;
        let mut mesh = Self {
            root_namespace: node.root_namespace.to_string(),
            ..Self::default()
        };
        let Some(facts) = facts else { return mesh };
        if let Some(root) = &facts.root_namespace {
            mesh.root_namespace = root.to_string();
        }
        if let Some(domain) = &facts.trust_domain {
            mesh.trust_domain = domain.to_string();
        }
        mesh.trust_domain_aliases = facts
            .trust_domain_aliases
            .iter()
            .map(ToString::to_string)
            .collect();
        mesh.num_trusted_proxies = facts.trusted_proxies;
        if let Some(paths) = facts.paths {
            mesh.path_normalization = match paths {
                PathNormalization::None => "NONE",
                PathNormalization::Default => "DEFAULT",
                PathNormalization::Base => "BASE",
                PathNormalization::MergeSlashes => "MERGE_SLASHES",
                PathNormalization::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
            }
            .to_owned();
        }
        mesh
    }
}

impl Authorizers for Decisions {
    fn find(&self, name: &str) -> Result<Asked, String> {
        match self.providers.get(name).map(|provider| provider.kind.as_str()) {
            Some("grpc") => Ok(Asked::Grpc),
            Some("http") => Ok(Asked::Http),
            Some(other) => Err(format!("{other} is no protocol")),
            None => Err("the mesh configuration names no such extension provider".into()),
        }
    }
}

fn service_name(target: &Enforcer) -> Option<ServiceName> {
    let service = target.services.first()?;
    Some(ServiceName::new(
        service.namespace.as_str(),
        service.name.as_str(),
    ))
}

fn target<'t>(target: &'t Enforcer, name: Option<&'t ServiceName>) -> Result<Target<'t>, CaseError> {
    let class = match target.kind.as_str() {
        "waypoint" => "istio-waypoint",
        _ => "istio",
    };
    let gateway = GatewayTarget {
        namespace: &target.namespace,
        name: &target.gateway,
        class,
    };
    Ok(match (target.kind.as_str(), name, target.services.first()) {
        ("workload", ..) => Target::Workload {
            namespace: &target.namespace,
            labels: &target.labels,
        },
        ("waypoint", Some(service), Some(served)) => Target::Service {
            service,
            registry: match served.registry.as_str() {
                "Kubernetes" => Registry::Kubernetes,
                "External" => Registry::External,
                other => return Err(CaseError(format!("unknown registry {other}"))),
            },
            waypoint: Some(gateway),
        },
        ("waypoint" | "gateway", ..) => Target::Gateway {
            gateway,
            labels: &target.labels,
        },
        (other, ..) => return Err(CaseError(format!("unknown target kind {other}"))),
    })
}

fn outcome(name: String, request: &Request, observed: Layered, why: &str) -> Outcome {
    let expected = Layered {
        answer: request.expect.clone(),
        audited: request.audit,
        normalized: request.normalized.clone(),
    };
    // What the case does not ask about is not compared.
    let observed = Layered {
        audited: observed.audited.filter(|_| expected.audited.is_some()),
        normalized: observed.normalized.filter(|_| expected.normalized.is_some()),
        ..observed
    };
    Outcome::of(name, expected.to_string(), observed.to_string())
        .because(format!("{}; decided by {why}", request.why))
}

fn expected_status(request: &Request) -> Result<(), CaseError> {
    let status = match request.expect.as_str() {
        "allow" => None,
        "deny" => Some(403),
        "unauthorized" => Some(401),
        "bad_request" => Some(400),
        other => return Err(CaseError(format!("unknown expectation `{other}`"))),
    };
    match request.status {
        Some(wanted) if Some(wanted) != status => Err(CaseError(format!(
            "the status {wanted} is not that of `{}`",
            request.expect
        ))),
        _ => Ok(()),
    }
}

fn parts(headers: HeaderMap, path: &str) -> Result<Parts, CaseError> {
    let mut request = HttpRequest::new(());
    *request.uri_mut() = path.parse::<Uri>().map_err(CaseError::new)?;
    *request.headers_mut() = headers;
    Ok(request.into_parts().0)
}

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        match self.audited {
            Some(true) => f.write_str(", audited")?,
            Some(false) => f.write_str(", not audited")?,
            None => {}
        }
        match &self.normalized {
            Some(path) => write!(f, ", forwarded as {path}"),
            None => Ok(()),
        }
    }
}

fn answer(word: &str) -> Layered {
    Layered {
        answer: word.into(),
        ..Layered::default()
    }
}

fn allowed(allowed: bool) -> Layered {
    answer(if allowed { "allow" } else { "deny" })
}
