//! `waypoint explain`: the engines' own answers, for a request that is not sent.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde_json::{Value, json};

use super::{FINE, Output, WRONG, read, runtime};
use crate::compile::{Handover, compile};
use crate::config::ResourceStore;
use crate::mesh::{Error, ErrorKind, node_for_check};
use crate::name::{Host, SpiffeId};
use crate::policy::authz::Decision;
use crate::policy::normalize::{PathNormalization, normalize};
use crate::policy::route::{Action, Target};
use crate::policy::{Caller, RequestHead};
use crate::snapshot::{Cluster, Node, Place, Role, ServicePortView, Snapshot, Via};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The request's method.
    method: String,

    /// Its URL as the caller writes it, for instance http://reviews:9080/reviews/0
    url: String,

    /// Directories or files with YAML.
    #[arg(value_name = "[NAMESPACE=]PATH", required = true)]
    paths: Vec<String>,

    /// Who calls: a SPIFFE id. Without it the call is plaintext.
    #[arg(long, value_name = "SPIFFE-ID")]
    from: Option<SpiffeId>,

    /// The caller's address.
    #[arg(long, default_value = "10.0.0.5", value_name = "IP")]
    from_ip: IpAddr,

    /// A header; may be given several times.
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,

    /// Istio's root namespace.
    #[arg(long, default_value = "istio-system", value_name = "NAMESPACE")]
    root_namespace: String,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("`{name}` is not a header name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| format!("`{value}` is not a header value"))?;
    Ok((name, value))
}

/// The request, in the parts that a head borrows.
struct Asked {
    method: Method,
    authority: String,
    host: Host,
    port: u16,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    from: Option<SpiffeId>,
    from_ip: IpAddr,
}

impl Asked {
    fn head<'a>(&'a self, caller: Option<&'a SpiffeId>, to: SocketAddr) -> RequestHead<'a> {
        let mut head = RequestHead::unsent(
            &self.method,
            &self.authority,
            &self.path,
            self.query.as_deref(),
            &self.headers,
        );
        head.caller = Caller {
            identity: caller,
            addr: self.from_ip,
            remote: self.from_ip,
        };
        head.destination = to;
        head
    }
}

impl Explain {
    pub(super) fn main(self) -> Result<u8, Error> {
        let (store, problems) = runtime(1)?.block_on(read(&self.paths))?;
        let asked = self.asked()?;
        let namespace = asked
            .from
            .as_ref()
            .map_or("default", SpiffeId::namespace)
            .to_owned();
        let mut node = node_for_check(&namespace, &self.root_namespace);
        if let Some(from) = &asked.from {
            node.trust_domains = vec![from.trust_domain().into()];
        }
        let story = tell(&store, &node, &asked);
        let allowed = story["allowed"].as_bool().unwrap_or(false);
        match self.output {
            Output::Json | Output::Yaml => self.output.print(&story)?,
            Output::Text => {
                print!("{}", text(&story));
                for problem in problems {
                    println!("note      {problem}");
                }
            }
        }
        Ok(if allowed { FINE } else { WRONG })
    }

    fn asked(&self) -> Result<Asked, Error> {
        let bad = |what: String| Error::new(ErrorKind::Settings, what);
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| bad(format!("`{}` is not a URL: {error}", self.url)))?;
        let authority = uri
            .authority()
            .ok_or_else(|| bad(format!("`{}` names no host", self.url)))?
            .to_string();
        let (host, port) = Host::parse_authority(&authority).map_err(|error| bad(error.to_string()))?;
        let path = normalize(uri.path(), PathNormalization::Base)
            .map_err(|error| bad(format!("the request would be answered with 400: {error}")))?;
        Ok(Asked {
            method: self
                .method
                .parse()
                .map_err(|_| bad(format!("`{}` is not a method", self.method)))?,
            path: path.into_owned(),
            query: uri.query().map(str::to_owned),
            host,
            port: port.unwrap_or(80),
            authority,
            headers: self.header.iter().cloned().collect(),
            from: self.from.clone(),
            from_ip: self.from_ip,
        })
    }
}

/// What would become of the request, as data: one evaluation per policy point on its way.
fn tell(store: &ResourceStore, caller: &Node, asked: &Asked) -> Value {
    let at_caller = compiled(store, caller);
    let from = asked.from.as_ref().map_or("nobody (plaintext)", SpiffeId::as_str);
    let nowhere = |why: String| json!({ "from": from, "allowed": false, "error": why });
    let Some(service) = at_caller
        .service_by_host(&asked.host)
        .and_then(|id| at_caller.service(id))
    else {
        return nowhere(format!(
            "{} is no service that {} can see",
            asked.host, caller.namespace
        ));
    };
    let Some(port) = service.port(asked.port) else {
        return nowhere(format!("service {} has no port {}", service.name, asked.port));
    };
    let Some(cluster) = at_caller.cluster(port.cluster) else {
        return nowhere(format!("service {} has no cluster", service.name));
    };
    let mut story = json!({
        "from": from,
        "request": format!("{} {}", asked.method, asked.path),
        "service": service.name.to_string(),
        "host": format!("{}:{}", service.host, port.number),
    });
    let place = Place::Service {
        host: service.host.clone(),
        port: port.number,
    };
    match &cluster.via {
        Via::Direct => {
            story["via"] = json!("straight to the workloads; routes apply in the caller");
            outcome(
                &mut story,
                store,
                caller,
                asked,
                &at_caller,
                port,
                asked.from.as_ref(),
            );
        }
        Via::Waypoint { namespace, name } => {
            story["via"] = json!(format!("waypoint {namespace}/{name}; routes apply there"));
            let mut node = caller.clone();
            node.namespace = namespace.clone();
            node.role = Role::Gateway {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let at_waypoint = compiled(store, &node);
            let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port.number);
            let decision = at_waypoint.authorize(&place, &asked.head(asked.from.as_ref(), to));
            story["waypoint"] = json!({ "allowed": decision.is_allowed(), "why": why(&decision) });
            if !decision.is_allowed() {
                story["allowed"] = json!(false);
                return story;
            }
            let waypoint = cluster
                .endpoints
                .endpoints()
                .first()
                .and_then(|it| it.identities.first())
                .cloned();
            let there = at_waypoint
                .service_by_host(&service.host)
                .and_then(|id| at_waypoint.service(id));
            if let Some(port) = there.and_then(|service| service.port(port.number)) {
                outcome(
                    &mut story,
                    store,
                    caller,
                    asked,
                    &at_waypoint,
                    port,
                    waypoint.as_ref(),
                );
            }
        }
    }
    story
}

/// The rule that wins, where it sends the request, and what the workloads there say.
fn outcome(
    story: &mut Value,
    store: &ResourceStore,
    caller: &Node,
    asked: &Asked,
    view: &Snapshot,
    port: &ServicePortView,
    direct: Option<&SpiffeId>,
) {
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port.number);
    let head = asked.head(direct, to);
    let candidates: Vec<Value> = port
        .routes
        .explain(&head)
        .iter()
        .map(|candidate| {
            let rule = port
                .routes
                .rule(candidate.rule)
                .map(|rule| rule.origin.label.to_string());
            json!({ "rule": rule, "match": candidate.match_index, "verdict": candidate.verdict.to_string() })
        })
        .collect();
    story["candidates"] = json!(candidates);
    let mut clusters: Vec<(u32, Option<&Cluster>, Option<String>)> = Vec::new();
    if port.routes.is_empty() {
        story["rule"] = json!("none: the service has no routes");
        clusters.push((1, view.cluster(port.cluster).map(|it| &**it), None));
    } else {
        let rule = port
            .routes
            .find(&head)
            .and_then(|found| port.routes.rule(found.rule));
        let Some(rule) = rule else {
            story["rule"] = json!("none matches: 404");
            story["allowed"] = json!(false);
            return;
        };
        story["rule"] = json!(&*rule.origin.label);
        match &rule.action {
            Action::Forward(backends) => {
                clusters.extend(backends.iter().map(|backend| match &backend.cluster {
                    Target::Cluster(id) => (backend.weight, view.cluster(*id).map(|it| &**it), None),
                    Target::Redirect(redirect) => {
                        let why = format!("redirects with {}", redirect.status);
                        (backend.weight, None, Some(why))
                    }
                    Target::Invalid(why) => (backend.weight, None, Some(why.to_string())),
                }))
            }
            Action::Redirect(redirect) => {
                let matched = port.routes.find(&head).map_or(0, |found| found.matched);
                let (status, location) = redirect.location(&head, matched);
                story["redirect"] = json!(format!("{status} {}", location.to_str().unwrap_or_default()));
                story["allowed"] = json!(true);
                return;
            }
            Action::Respond { status, body } => {
                story["answer"] = json!(format!("{status}, {} bytes", body.len()));
                story["allowed"] = json!(true);
                return;
            }
            Action::Fail { why } => {
                story["error"] = json!(format!("{}: {why}", rule.failure()));
                story["allowed"] = json!(false);
                return;
            }
        }
    }
    let mut allowed = true;
    let backends: Vec<Value> = clusters
        .iter()
        .map(|(weight, cluster, invalid)| {
            let Some(cluster) = cluster else {
                allowed &= *weight == 0;
                return json!({ "weight": weight, "error": invalid });
            };
            let workloads = workloads(store, caller, asked, cluster, direct);
            allowed &= workloads.iter().all(|it| it["allowed"] == json!(true)) && !workloads.is_empty();
            json!({
                "service": format!("{}:{}", cluster.service, cluster.port),
                "weight": weight,
                "workloads": workloads,
            })
        })
        .collect();
    story["backends"] = json!(backends);
    story["allowed"] = json!(allowed);
}

/// What each workload behind a cluster would say; one of those with the same owner and identity speaks for all.
fn workloads(
    store: &ResourceStore,
    caller: &Node,
    asked: &Asked,
    cluster: &Cluster,
    direct: Option<&SpiffeId>,
) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut told = Vec::new();
    for endpoint in cluster.endpoints.endpoints() {
        let workload = &endpoint.workload;
        if !seen.insert((workload.owner.clone(), endpoint.identities.clone())) {
            continue;
        }
        let mut node = caller.clone();
        node.namespace = workload.namespace.clone();
        node.pod = Some(workload.name.clone());
        node.addr = Some(endpoint.addr.ip());
        node.role = Role::Workload;
        let view = compiled(store, &node);
        let place = Place::Workload {
            port: endpoint.addr.port(),
        };
        let plaintext = direct.is_none() || !endpoint.is_tunnelled();
        let (allowed, why) = if plaintext && view.is_strict(endpoint.addr.port()) {
            (
                false,
                "PeerAuthentication STRICT: plaintext is refused".to_owned(),
            )
        } else {
            let decision = view.authorize(&place, &asked.head(direct, endpoint.addr));
            (decision.is_allowed(), why(&decision))
        };
        told.push(json!({
            "workload": format!("{}/{}", workload.namespace, workload.owner),
            "address": endpoint.addr.to_string(),
            "identity": endpoint.identities.first().map(SpiffeId::as_str),
            "allowed": allowed,
            "why": why,
        }));
    }
    told
}

fn compiled(store: &ResourceStore, node: &Node) -> Snapshot {
    compile(store, node, &Handover::default(), None).snapshot
}

fn why(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Allow { by: Some(rule) } => format!("{} rule {}", rule.policy, rule.rule),
        Decision::Allow { by: None } => "no ALLOW policy applies and no DENY rule matches".to_owned(),
        Decision::Deny { by: Some(rule), why } => format!("{} rule {}: {why}", rule.policy, rule.rule),
        Decision::Deny { by: None, why } => (*why).to_owned(),
    }
}

/// The story for people.
fn text(story: &Value) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| out.push_str(&format!("{key:<10}{value}\n"));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |value: &Value| {
        let answer = if value["allowed"] == json!(true) {
            "allowed"
        } else {
            "denied"
        };
        format!("{answer}: {}", word(&value["why"]))
    };
    line("from", word(&story["from"]));
    if story["service"].is_string() {
        line("request", word(&story["request"]));
        line(
            "service",
            format!("{} ({})", word(&story["service"]), word(&story["host"])),
        );
        line("via", word(&story["via"]));
    }
    if story["waypoint"].is_object() {
        line("waypoint", verdict(&story["waypoint"]));
    }
    if story["rule"].is_string() {
        line("rule", word(&story["rule"]));
    }
    for candidate in story["candidates"].as_array().into_iter().flatten() {
        line(
            "",
            format!(
                "{} match {}: {}",
                word(&candidate["rule"]),
                candidate["match"],
                word(&candidate["verdict"])
            ),
        );
    }
    if story["redirect"].is_string() {
        line("redirect", word(&story["redirect"]));
    }
    for backend in story["backends"].as_array().into_iter().flatten() {
        match &backend["error"] {
            Value::String(error) => line("backend", format!("weight {}: 500: {error}", backend["weight"])),
            _ => line(
                "backend",
                format!("{} weight {}", word(&backend["service"]), backend["weight"]),
            ),
        }
        for workload in backend["workloads"].as_array().into_iter().flatten() {
            line(
                "",
                format!(
                    "{} at {}: {}",
                    word(&workload["workload"]),
                    word(&workload["address"]),
                    verdict(workload)
                ),
            );
        }
    }
    if story["error"].is_string() {
        line("error", word(&story["error"]));
    }
    line(
        "answer",
        if story["allowed"] == json!(true) {
            "allowed"
        } else {
            "refused"
        }
        .to_owned(),
    );
    out
}
