//! `waypoint explain`: the engines' own answers, for a request that is not sent.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::{FINE, Output, WRONG, read, runtime};
use crate::compile::{Handover, compile};
use crate::config::ResourceStore;
use crate::explain::{Explanation, Hop, Outcome, Question, clusters, hop};
use crate::mesh::{Error, ErrorKind, node_for_check};
use crate::name::SpiffeId;
use crate::snapshot::{Cluster, Node, Place, Role, Snapshot, Via, Way};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The request's method.
    method: String,

    /// Its URL as the caller writes it, for instance http://reviews:9080/reviews/0. A connection that is not HTTP is
    /// CONNECT tcp://redis:6379, or CONNECT tls://db:5432 if it opens with TLS of its own.
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

    /// A header; may be given several times. `host` says what the request names, where its URL says what is dialled.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// The server name that a connection with TLS asks for: the URL's host unless given, none if empty.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,

    /// Also show the values of headers and claims that policies judge; what is likely a secret stays hidden.
    #[arg(long)]
    values: bool,

    /// Istio's root namespace.
    #[arg(long, default_value = "istio-system", value_name = "NAMESPACE")]
    root_namespace: String,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Explain {
    pub(super) fn main(self) -> Result<u8, Error> {
        let (store, problems) = runtime(1)?.block_on(read(&self.paths))?;
        let question = self.question()?;
        let namespace = self.from.as_ref().map_or("default", SpiffeId::namespace);
        let mut node = node_for_check(namespace, &self.root_namespace);
        if let Some(from) = &self.from {
            node.trust_domains = vec![from.trust_domain().into()];
        }
        let town = Town {
            store: &store,
            caller: node,
            question: &question,
        };
        let told = town.explain();
        if self.output == Output::Text {
            print!("{told}");
            for problem in problems {
                println!("note      {problem}");
            }
        } else {
            let document = serde_json::to_value(&told).map_err(|error| {
                Error::new(ErrorKind::Settings, "the explanation could not be written").caused_by(error)
            })?;
            self.output.print(&document)?;
        }
        Ok(if told.outcome.is_allowed() { FINE } else { WRONG })
    }

    fn question(&self) -> Result<Question, Error> {
        let bad = |error: crate::explain::Malformed| Error::new(ErrorKind::Settings, error.to_string());
        let mut question = Question::new(&self.method, &self.url)
            .map_err(bad)?
            .from_addr(self.from_ip);
        for header in &self.header {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                Error::new(
                    ErrorKind::Settings,
                    format!("`{header}` is not a header; write NAME: VALUE"),
                )
            })?;
            question = question.header(name.trim(), value.trim()).map_err(bad)?;
        }
        if let Some(name) = &self.sni {
            question = question.server_name(name).map_err(bad)?;
        }
        if self.values {
            question = question.with_values();
        }
        Ok(match &self.from {
            Some(from) => question.from(from.clone()),
            None => question,
        })
    }
}

/// Everybody who might have a say: each sees what is configured with other eyes.
struct Town<'a> {
    store: &'a ResourceStore,
    caller: Node,
    question: &'a Question,
}

impl Town<'_> {
    /// One hop per policy point on the request's way.
    fn explain(&self) -> Explanation {
        let (question, sender) = (self.question, self.question.sender());
        let caller = self.seen_by(&self.caller);
        let mut hops = vec![hop(
            &caller,
            None,
            question,
            None,
            format!("caller in namespace {}", self.caller.namespace),
        )];
        let mut ends = Vec::new();
        if hops[0].outcome.is_allowed() || hops[0].outcome == Outcome::Mixed {
            match caller.way(None, question.dialled(), None) {
                Ok(Way::Pod(addr)) => ends.extend(self.at_pod(&caller, addr, &mut hops)),
                _ => {
                    for cluster in clusters(&caller, None, question, None) {
                        ends.extend(self.beyond(&cluster, sender, &mut hops));
                    }
                }
            }
        }
        let outcome = combined(&hops[0].outcome, &ends);
        Explanation::new(question.shown(caller.paths), hops, outcome)
    }

    /// What a cluster's workloads say, or its waypoint before them.
    fn beyond(&self, cluster: &Cluster, sender: Option<&SpiffeId>, hops: &mut Vec<Hop>) -> Vec<Outcome> {
        let Via::Waypoint { namespace, name } = &cluster.via else {
            return self.at_workloads(cluster, sender, hops);
        };
        let place = Place::Service {
            host: cluster.host.clone(),
            port: cluster.port,
        };
        let view = self.seen_by(&self.gateway(namespace, name));
        let at = format!("waypoint {namespace}/{name}");
        let passed = hop(&view, Some(&place), self.question, sender, at);
        let outcome = passed.outcome.clone();
        hops.push(passed);
        if !outcome.is_allowed() && outcome != Outcome::Mixed {
            return vec![outcome];
        }
        let waypoint = cluster
            .endpoints
            .endpoints()
            .first()
            .and_then(|it| it.identities.first());
        let further = clusters(&view, Some(&place), self.question, sender);
        let ends: Vec<Outcome> = further
            .iter()
            .flat_map(|cluster| self.at_workloads(cluster, waypoint, hops))
            .collect();
        vec![combined(&outcome, &ends)]
    }

    /// What each workload behind a cluster says; one of those with the same owner and identity speaks for all.
    fn at_workloads(&self, cluster: &Cluster, peer: Option<&SpiffeId>, hops: &mut Vec<Hop>) -> Vec<Outcome> {
        let mut seen = BTreeSet::new();
        let mut ends = Vec::new();
        for endpoint in cluster.endpoints.endpoints() {
            let workload = &endpoint.workload;
            if seen.insert((workload.owner.clone(), endpoint.identities.clone())) {
                let peer = peer.filter(|_| endpoint.is_tunnelled());
                let end = self.at_workload(
                    &workload.namespace,
                    &workload.name,
                    &workload.owner,
                    endpoint.addr,
                    peer,
                );
                ends.push(end.outcome.clone());
                hops.push(end);
            }
        }
        ends
    }

    fn at_workload(
        &self,
        namespace: &str,
        pod: &str,
        owner: &str,
        addr: SocketAddr,
        peer: Option<&SpiffeId>,
    ) -> Hop {
        let mut node = self.caller.clone();
        node.namespace = namespace.into();
        node.pod = Some(pod.into());
        node.addr = Some(addr.ip());
        node.role = Role::Workload;
        let place = Place::Workload { port: addr.port() };
        let at = format!("workload {namespace}/{owner} at {addr}");
        hop(&self.seen_by(&node), Some(&place), self.question, peer, at)
    }

    /// A workload that is addressed itself, and its own waypoint before it.
    fn at_pod(&self, caller: &Snapshot, addr: SocketAddr, hops: &mut Vec<Hop>) -> Vec<Outcome> {
        let Some(pod) = caller.pods.get(&addr.ip()) else {
            return vec![Outcome::Refused {
                status: 404,
                why: format!("{addr} is no address of the mesh"),
            }];
        };
        let workload = &pod.workload;
        let mut peer = self.question.sender().filter(|_| pod.hbone);
        if let Some(first) = pod.waypoint.as_deref().and_then(<[_]>::first) {
            let (namespace, name) = (first.identity.namespace(), first.identity.service_account());
            let place = Place::Pod {
                ip: addr.ip(),
                port: addr.port(),
            };
            let view = self.seen_by(&self.gateway(namespace, name));
            let at = format!("waypoint {namespace}/{name}");
            let passed = hop(&view, Some(&place), self.question, peer, at);
            let outcome = passed.outcome.clone();
            hops.push(passed);
            if !outcome.is_allowed() {
                return vec![outcome];
            }
            peer = Some(&first.identity);
        }
        let end = self.at_workload(&workload.namespace, &workload.name, &workload.owner, addr, peer);
        let outcome = end.outcome.clone();
        hops.push(end);
        vec![outcome]
    }

    fn gateway(&self, namespace: &str, name: &str) -> Node {
        let mut node = self.caller.clone();
        node.namespace = namespace.into();
        node.role = Role::Gateway {
            namespace: namespace.into(),
            name: name.into(),
        };
        node
    }

    fn seen_by(&self, node: &Node) -> Snapshot {
        compile(self.store, node, &Handover::default(), None).snapshot
    }
}

/// What becomes of a request that several may get.
fn combined(before: &Outcome, ends: &[Outcome]) -> Outcome {
    let refused = ends.iter().find(|it| !it.is_allowed());
    match (before, refused) {
        (Outcome::Allowed, None) => Outcome::Allowed,
        (Outcome::Allowed, Some(refused)) if ends.iter().all(|it| !it.is_allowed()) => refused.clone(),
        (Outcome::Allowed, Some(_)) => Outcome::Mixed,
        (before, _) => before.clone(),
    }
}
