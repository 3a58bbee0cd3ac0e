//! What of a case can be sent, and how.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use inmesh::SpiffeId;
use inmesh::testing::cases::{Decisions, Request, TokenSent, World};
use serde_json::{Map, Value, json};

/// How a check is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A request, judged by the workload itself.
    InProcess,
    /// A request, judged by a waypoint.
    Waypoint,
    /// A connection to a service of the workload, judged by the workload.
    Connection,
    /// A connection to a service, judged by its waypoint.
    WaypointConnection,
    /// A connection to the workload itself, as ztunnel would judge it.
    Direct,
    /// A request of somebody outside, judged by a Gateway.
    Edge,
}

impl Form {
    pub(super) const ALL: [Self; 6] = [
        Self::InProcess,
        Self::Waypoint,
        Self::Connection,
        Self::WaypointConnection,
        Self::Direct,
        Self::Edge,
    ];

    /// Whether a waypoint judges.
    pub(super) fn is_through(self) -> bool {
        matches!(self, Self::Waypoint | Self::WaypointConnection)
    }

    /// Whether bytes are sent that are no request.
    pub(super) fn is_bytes(self) -> bool {
        matches!(self, Self::Connection | Self::WaypointConnection | Self::Direct)
    }
}

/// A request that is sent.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) request: Request,
    pub(super) forms: Vec<Form>,
    /// Why it is sent in one shape only.
    pub(super) lone: Option<&'static str>,
    /// Why it is answered with 400, whatever the case says.
    pub(super) argued: Option<&'static str>,
    /// Who sends it through a waypoint, where nobody is named and nobody is asked for.
    stand_in: Option<String>,
}

impl Check {
    /// Who sends it.
    pub(super) fn caller(&self, form: Form) -> Option<&str> {
        let stand_in = self.stand_in.as_deref().filter(|_| form.is_through());
        self.request.peer.as_deref().or(stand_in)
    }
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) checks: Vec<Check>,
    /// What is not sent, and why.
    pub(super) unsent: Vec<(String, String)>,
}

pub(super) fn of(world: &World) -> Result<Plan> {
    let case = world.case();
    let mut plan = Plan::default();
    for (raw, request) in case.requests.iter().zip(world.requests()) {
        let mut request = request?;
        let name = format!("{}/{}", case.id, request.id);
        if let Some(why) = unsendable(case, raw, &request) {
            plan.unsent.push((name, why));
            continue;
        }
        if let Some(claims) = request.claims.take() {
            request.tokens = Some(vec![TokenSent {
                at: "header:authorization".into(),
                prefix: "Bearer ".into(),
                state: "valid".into(),
                claims: Value::Object(claims),
            }]);
        }
        let (forms, lone) = forms(case, &request);
        let argued = argued(&request);
        let stand_in =
            is_anybodys(case).then(|| format!("spiffe://{}/ns/default/sa/anybody", case.mesh.trust_domain));
        plan.checks.push(Check {
            name,
            request,
            forms,
            lone,
            argued,
            stand_in,
        });
    }
    Ok(plan)
}

fn layer<'r>(case: &'r Decisions, request: &'r Request) -> &'r str {
    request.layer.as_deref().unwrap_or(&case.layer)
}

/// Whether proxies say where a request comes from, and nothing else of its address is asked.
fn comes_through_proxies(case: &Decisions, request: &Request) -> bool {
    let text = Value::Array(case.policies.clone()).to_string();
    let asks = ["\"ipBlocks\"", "\"notIpBlocks\"", "\"source.ip\""]
        .iter()
        .any(|it| text.contains(it));
    let hops = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let hops: usize = hops.map(|(_, list)| list.split(',').count()).sum();
    let trusted = case.mesh.num_trusted_proxies as usize;
    !asks && case.target.use_remote_address && trusted > 0 && hops >= trusted
}

/// Whether no policy of the case asks who calls.
fn is_anybodys(case: &Decisions) -> bool {
    let text = Value::Array(case.policies.clone()).to_string();
    let asks = [
        "PeerAuthentication",
        "rincipals\"",
        "amespaces\"",
        "erviceAccounts\"",
        "rustDomains\"",
        "\"source.",
    ];
    // Those of tokens end like those of callers, and come from a token all the same.
    let text = text
        .replace("\"requestPrincipals\"", "")
        .replace("\"notRequestPrincipals\"", "");
    !asks.iter().any(|it| text.contains(it))
}

/// Whether all that the case asks is whether plaintext is taken.
fn is_about_plaintext(case: &Decisions) -> bool {
    case.policies
        .iter()
        .all(|policy| policy["kind"] == "PeerAuthentication")
}

/// Why a request cannot be sent, if so.
fn unsendable(case: &Decisions, raw: &Map<String, Value>, request: &Request) -> Option<String> {
    let given = |key: &str| {
        raw.get(key)
            .or_else(|| case.defaults.get(key))
            .is_some_and(|value| !value.is_null())
    };
    let is_told = |key: &str| key == "src_ip" && comes_through_proxies(case, request);
    if let Some(key) = ["src_ip", "dst_ip"]
        .into_iter()
        .find(|key| given(key) && !is_told(key))
    {
        return Some(format!("`{key}`: addresses cannot be chosen on loopback"));
    }
    if given("sni") {
        return Some("a tunnel carries no server name".into());
    }
    if request.dst_port < 1024 && TcpListener::bind((Ipv4Addr::LOCALHOST, request.dst_port)).is_err() {
        return Some("a port below 1024 needs a privilege".into());
    }
    if let Some(peer) = &request.peer {
        let Ok(id) = SpiffeId::parse(peer) else {
            return Some("no handshake accepts an identity of this form".into());
        };
        let mesh = &case.mesh;
        let domain = id.trust_domain();
        if domain != mesh.trust_domain && !mesh.trust_domain_aliases.iter().any(|alias| alias == domain) {
            return Some(
                "no handshake accepts a trust domain that is neither the mesh's nor an alias".into(),
            );
        }
    }
    if let Some(claims) = &request.claims {
        if claims
            .get("iss")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            return Some("a token that names no issuer is believed by nobody".into());
        }
        if claims.get("sub").is_some_and(|sub| !sub.is_string()) || about_tokens(case) {
            return Some("these claims are in no token that would be believed".into());
        }
    }
    if layer(case, request) != "http" && request.peer.is_none() && !is_about_plaintext(case) {
        return Some("a relayed port has no plaintext listener of ours".into());
    }
    let spaced = |value: &str| value.trim() != value;
    if request.headers.iter().any(|(_, value)| spaced(value)) {
        return Some("HTTP/1.1 removes spaces around a value".into());
    }
    None
}

/// In which forms a request is sent, and why in one shape only, if so.
fn forms(case: &Decisions, request: &Request) -> (Vec<Form>, Option<&'static str>) {
    const PLAINTEXT: &str = "a waypoint takes no plaintext";
    let target = &case.target;
    match (layer(case, request), &*target.kind) {
        (_, "gateway") => (vec![Form::Edge], Some("an edge is there once")),
        ("l4", _) if is_about_plaintext(case) => (vec![Form::InProcess], Some(PLAINTEXT)),
        ("l4", _) => (vec![Form::Direct], Some("a waypoint has no ztunnel's view")),
        ("tcp", _) => (vec![Form::Connection, Form::WaypointConnection], None),
        _ if target
            .services
            .iter()
            .any(|service| service.registry != "Kubernetes") =>
        {
            (
                vec![Form::Waypoint],
                Some("what is outside the mesh enforces nothing"),
            )
        }
        _ if request.peer.is_none() && !is_anybodys(case) => (vec![Form::InProcess], Some(PLAINTEXT)),
        _ => (vec![Form::InProcess, Form::Waypoint], None),
    }
}

/// Why a request is answered with 400, whatever the case says.
fn argued(request: &Request) -> Option<&'static str> {
    let is_rooted = request.path.starts_with('/');
    (!is_rooted).then_some(
        "a path that does not begin with a slash is refused with 400 before any policy (CVE-2026-33186)",
    )
}

/// The policy that verifies claims which a case takes for verified.
const BELIEVE: &str = "believe-what-the-case-says";

fn about_tokens(case: &Decisions) -> bool {
    let own =
        |policy: &Value| policy["kind"] == "RequestAuthentication" && policy["metadata"]["name"] != BELIEVE;
    case.policies.iter().any(own)
}

/// Adds what verifies the claims that a case takes for verified: a RequestAuthentication that believes their issuers.
pub(super) fn verify_claims(case: &mut Decisions) -> Result<()> {
    let claims = |request: &Map<String, Value>| {
        request
            .get("claims")
            .or_else(|| case.defaults.get("claims"))
            .cloned()
    };
    let issuers: BTreeSet<String> = case
        .requests
        .iter()
        .filter_map(|request| claims(request)?.get("iss")?.as_str().map(str::to_owned))
        .filter(|issuer| !issuer.is_empty())
        .collect();
    if issuers.is_empty() || about_tokens(case) {
        return Ok(());
    }
    let rules: Vec<Value> = issuers
        .iter()
        .map(|issuer| json!({"issuer": issuer, "jwks": "{TEST_JWKS}"}))
        .collect();
    let mut spec = json!({"jwtRules": rules});
    let mut namespace = case.target.namespace.clone();
    if let Some(service) = case.target.services.first() {
        namespace.clone_from(&service.namespace);
        spec["targetRefs"] = json!([{"group": "", "kind": "Service", "name": service.name}]);
    }
    case.policies.push(json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": BELIEVE, "namespace": namespace}, "spec": spec,
    }));
    Ok(())
}
