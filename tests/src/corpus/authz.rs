//! Files of decisions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use inmesh::compile::authz::{
    GatewayTarget, MeshSettings, PeerInput, PolicyInput, Registry, Target, attached, engine, strict_ports,
};
use inmesh::config::{Entry, Resource};
use inmesh::name::{ServiceName, SpiffeId};
use inmesh::policy::authz::{AuthzEngine, Layer, remote_addr};
use inmesh::policy::normalize::{PathNormalization, normalize};
use inmesh::policy::{Caller, ConnectionHead, RequestHead};
use inmesh::snapshot::StrictPorts;
use serde_json::{Map, Value};

use super::Outcome;
use super::case::{Decisions, Request};
use super::validation::entry;

/// Judges every request of a case.
pub(super) fn run(value: Value) -> Result<Vec<Outcome>> {
    Ok(World::new(serde_json::from_value(value)?)?.run())
}

/// A case, compiled.
struct World {
    case: Decisions,
    engines: [(Layer, AuthzEngine); 3],
    strict: StrictPorts,
    /// Why the case cannot be tried at all.
    skip: Option<String>,
}

impl World {
    fn new(case: Decisions) -> Result<Self> {
        let entries: Vec<_> = case
            .policies
            .iter()
            .filter_map(|policy| read(policy).transpose())
            .collect::<Result<_>>()?;
        let domains: Vec<Arc<str>> = std::iter::once(&case.mesh.trust_domain)
            .chain(&case.mesh.trust_domain_aliases)
            .map(|domain| domain.as_str().into())
            .collect();
        let settings = MeshSettings {
            root_namespace: &case.mesh.root_namespace,
            trust_domains: &domains,
            authorizers: &(),
        };
        let service = case.target.services.first();
        let name = service.map(|service| ServiceName::new(service.namespace.as_str(), service.name.as_str()));
        let class = if case.target.kind == "waypoint" {
            "istio-waypoint"
        } else {
            "istio"
        };
        let gateway = GatewayTarget {
            namespace: &case.target.namespace,
            name: &case.target.gateway,
            class,
        };
        let target = match (case.target.kind.as_str(), &name, service) {
            ("workload", ..) => Target::Workload {
                namespace: &case.target.namespace,
                labels: &case.target.labels,
            },
            ("waypoint", Some(name), Some(service)) => Target::Service {
                service: name,
                registry: if service.registry == "External" {
                    Registry::External
                } else {
                    Registry::Kubernetes
                },
                waypoint: Some(gateway),
            },
            ("waypoint" | "gateway", ..) => Target::Gateway {
                gateway,
                labels: &case.target.labels,
            },
            (other, ..) => bail!("unknown target kind {other}"),
        };
        let policies = entries.iter().filter_map(|entry| match &entry.resource {
            Resource::AuthorizationPolicy(policy) => Some(PolicyInput { policy, entry }),
            _ => None,
        });
        let policies = attached(policies, &target, &settings);
        let engines =
            [Layer::Http, Layer::Tcp, Layer::L4].map(|layer| (layer, engine(&policies, layer, &settings).0));
        let peers = entries.iter().filter_map(|entry| match &entry.resource {
            Resource::PeerAuthentication(policy) => Some(PeerInput { policy, entry }),
            _ => None,
        });
        let strict = match target {
            Target::Workload { namespace, labels } => strict_ports(peers, namespace, labels, &settings).0,
            _ => StrictPorts::default(),
        };
        let skip = unsupported(&case);
        Ok(Self {
            engines,
            strict,
            skip,
            case,
        })
    }

    fn run(&self) -> Vec<Outcome> {
        let judged = self.case.requests.iter().map(|request| {
            let id = request.get("id").and_then(Value::as_str).unwrap_or("(no id)");
            let name = format!("{}/{id}", self.case.id);
            self.judged(&name, request)
                .unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}")))
        });
        judged.collect()
    }

    fn judged(&self, name: &str, request: &Map<String, Value>) -> Result<Outcome> {
        let mut merged = self.case.defaults.clone();
        merged.extend(request.clone());
        let request: Request = serde_json::from_value(Value::Object(merged))?;
        if let Some(why) = &self.skip {
            bail!("not done yet: {why}");
        }
        let (observed, why) = self.judge(&request)?;
        let status = match request.expect.as_str() {
            "allow" => None,
            "deny" => Some(403),
            "unauthorized" => Some(401),
            "bad_request" => Some(400),
            other => bail!("unknown expectation `{other}`"),
        };
        if request.status.is_some_and(|wanted| Some(wanted) != status) {
            bail!(
                "the status {:?} is not that of `{}`",
                request.status,
                request.expect
            );
        }
        let expected = Observed {
            answer: request.expect.clone(),
            audited: request.audit,
            normalized: request.normalized.clone(),
        };
        // What the case does not ask about is not compared.
        let observed = Observed {
            audited: observed.audited.filter(|_| expected.audited.is_some()),
            normalized: observed.normalized.filter(|_| expected.normalized.is_some()),
            ..observed
        };
        Ok(Outcome::of(name, expected.to_string(), observed.to_string())
            .because(format!("{}; decided by {why}", request.why)))
    }

    /// What comes of a request, and what decided.
    fn judge(&self, request: &Request) -> Result<(Observed, String)> {
        if request.tokens.as_ref().is_some_and(|tokens| !tokens.is_empty()) {
            bail!("not done yet: tokens are not verified");
        }
        let identity = request.peer.as_deref().map(SpiffeId::parse).transpose();
        let identity = identity.map_err(|error| anyhow::anyhow!("not done yet: {error}"))?;
        let layer = match request.layer.as_deref().unwrap_or(&self.case.layer) {
            "http" => Layer::Http,
            "tcp" => Layer::Tcp,
            "l4" => Layer::L4,
            other => bail!("unknown layer {other}"),
        };
        let engine = self
            .engines
            .iter()
            .find(|(of, _)| *of == layer)
            .map(|(_, engine)| engine);
        let engine = engine.context("every layer has an engine")?;
        let refused = identity.is_none() && self.strict.is_strict(request.dst_port);
        let headers = headers(request)?;
        let caller = Caller {
            identity: identity.as_ref(),
            addr: request.src_ip,
            remote: self.remote(request, &headers),
        };
        let destination = SocketAddr::new(request.dst_ip, request.dst_port);
        let sni = request.sni.as_deref().unwrap_or("");
        if layer != Layer::Http {
            let decision = engine.decide_connection(&ConnectionHead {
                caller,
                destination,
                sni,
            });
            let answer = answer(decision.is_allowed() && !refused);
            return Ok((answer, format!("{decision:?}")));
        }
        let raw = request.path.split('#').next().unwrap_or_default();
        let (path, query) = raw
            .split_once('?')
            .map_or((raw, None), |(path, query)| (path, Some(query)));
        let path = match normalize(path, self.normalization()?) {
            Ok(path) => path,
            Err(error) => {
                let answer = Observed {
                    answer: "bad_request".into(),
                    ..Observed::default()
                };
                return Ok((answer, error.to_string()));
            }
        };
        let forwarded = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
        let head = RequestHead {
            method: &Method::from_bytes(request.method.as_bytes())?,
            scheme: "http",
            authority: &request.host,
            path: &path,
            query,
            headers: &headers,
            caller,
            destination,
            sni,
            claims: request.claims.as_ref(),
        };
        let decision = engine.decide(&head);
        let observed = Observed {
            audited: Some(engine.audit(&head).is_some()),
            normalized: Some(forwarded),
            ..answer(decision.is_allowed() && !refused)
        };
        Ok((observed, format!("{decision:?}")))
    }

    fn remote(&self, request: &Request, headers: &HeaderMap) -> std::net::IpAddr {
        let edge = self.case.target.kind == "gateway" && self.case.target.use_remote_address;
        let hops = edge.then_some(self.case.mesh.num_trusted_proxies);
        remote_addr(headers, request.src_ip, hops, edge)
    }

    fn normalization(&self) -> Result<PathNormalization> {
        Ok(match self.case.mesh.path_normalization.as_str() {
            "NONE" => PathNormalization::None,
            "BASE" | "DEFAULT" => PathNormalization::Base,
            "MERGE_SLASHES" => PathNormalization::MergeSlashes,
            "DECODE_AND_MERGE_SLASHES" => PathNormalization::DecodeAndMergeSlashes,
            other => bail!("unknown normalization {other}"),
        })
    }
}

/// What comes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Observed {
    answer: String,
    audited: Option<bool>,
    normalized: Option<String>,
}

impl fmt::Display for Observed {
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

fn answer(allowed: bool) -> Observed {
    Observed {
        answer: if allowed { "allow" } else { "deny" }.into(),
        ..Observed::default()
    }
}

fn headers(request: &Request) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value)?,
        );
    }
    Ok(headers)
}

fn read(policy: &Value) -> Result<Option<Arc<Entry>>> {
    let kind = policy.get("kind").and_then(Value::as_str).unwrap_or_default();
    Ok(match kind {
        "AuthorizationPolicy" => Some(entry(Resource::AuthorizationPolicy(serde_json::from_value(
            policy.clone(),
        )?))),
        "PeerAuthentication" => Some(entry(Resource::PeerAuthentication(serde_json::from_value(
            policy.clone(),
        )?))),
        _ => None,
    })
}

/// What the case needs that does not exist yet.
fn unsupported(case: &Decisions) -> Option<String> {
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    for policy in &case.policies {
        match text(policy, "/kind").as_deref() {
            Some("AuthorizationPolicy" | "PeerAuthentication") => {}
            other => {
                return Some(format!(
                    "{} is not read yet",
                    other.unwrap_or("an object without kind")
                ));
            }
        }
        let provider = text(policy, "/spec/provider/name").and_then(|name| case.providers.get(&name));
        // An external authorizer that denies is what inmesh does without any.
        if provider.is_some_and(|provider| provider.decision != "deny" || provider.kind != "grpc") {
            return Some("external authorizers are not asked yet".into());
        }
    }
    None
}
