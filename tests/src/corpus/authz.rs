//! Files of decisions.

use std::net::SocketAddr;
use std::path::Path;
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
use serde_json::Value;

use super::case::{Decisions, Request};
use super::validation::{self, entry};
use super::{Outcome, Verdict};

/// Runs every `.yaml` file of a folder, in the order of their names.
///
/// # Errors
/// If the folder or a file cannot be read, or a file is no case.
pub fn run_folder(folder: &Path) -> Result<Vec<Outcome>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|file| file.map(|file| file.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut outcomes = Vec::new();
    for file in files {
        outcomes.extend(run_file(&file).with_context(|| file.display().to_string())?);
    }
    Ok(outcomes)
}

/// Runs one file.
///
/// # Errors
/// If it cannot be read or is no case.
pub fn run_file(file: &Path) -> Result<Vec<Outcome>> {
    let value: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    if value.get("type").and_then(Value::as_str) == Some("validation") {
        return validation::run(value);
    }
    World::new(serde_json::from_value(value)?)?.run()
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

    fn run(&self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for request in &self.case.requests {
            let mut merged = self.case.defaults.clone();
            merged.extend(request.clone());
            let request: Request = serde_json::from_value(Value::Object(merged))?;
            let check = format!("{}/{}", self.case.id, request.id);
            let verdict = match &self.skip {
                Some(why) => Verdict::Skipped(why.clone()),
                None => self.judge(&request).with_context(|| check.clone())?,
            };
            outcomes.push(Outcome { check, verdict });
        }
        Ok(outcomes)
    }

    fn judge(&self, request: &Request) -> Result<Verdict> {
        if request.tokens.as_ref().is_some_and(|tokens| !tokens.is_empty()) {
            return Ok(Verdict::Skipped("tokens are not verified yet".into()));
        }
        let identity = match request.peer.as_deref().map(SpiffeId::parse).transpose() {
            Ok(identity) => identity,
            Err(error) => return Ok(Verdict::Skipped(format!("refused in the TLS handshake: {error}"))),
        };
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
            let allowed = decision.is_allowed() && !refused;
            return Ok(compare(
                &request.expect,
                if allowed { "allow" } else { "deny" },
                &format!("{decision:?}"),
            ));
        }
        let raw = request.path.split('#').next().unwrap_or_default();
        let (path, query) = raw
            .split_once('?')
            .map_or((raw, None), |(path, query)| (path, Some(query)));
        let path = match normalize(path, self.normalization()?) {
            Ok(path) => path,
            Err(error) => return Ok(compare(&request.expect, "bad_request", &error.to_string())),
        };
        let forwarded = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
        if request
            .normalized
            .as_ref()
            .is_some_and(|expected| *expected != forwarded)
        {
            return Ok(Verdict::Failed(format!(
                "normalized to {forwarded}, expected {:?}",
                request.normalized
            )));
        }
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
        let audited = engine.audit(&head);
        if request
            .audit
            .is_some_and(|expected| expected != audited.is_some())
        {
            return Ok(Verdict::Failed(format!(
                "audited by {audited:?}, expected {:?}",
                request.audit
            )));
        }
        let decision = engine.decide(&head);
        let allowed = decision.is_allowed() && !refused;
        Ok(compare(
            &request.expect,
            if allowed { "allow" } else { "deny" },
            &format!("{decision:?}"),
        ))
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

fn compare(expected: &str, got: &str, why: &str) -> Verdict {
    if expected == got {
        Verdict::Passed
    } else {
        Verdict::Failed(format!("{got}, expected {expected}: {why}"))
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
