//! AuthorizationPolicies as we decide them beside the RBAC filters that Istio makes of them, in a real Envoy: the same
//! bytes to both, decision by decision.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use futures_util::{StreamExt, stream};
use inmesh::Mesh;
use inmesh::testing::Issuer;
use inmesh_tests::envoy::{EnvoyFront, Front, FrontConfig, find_or_skip, rbac};
use inmesh_tests::kit::cluster::Cluster;
use inmesh_tests::kit::echo::Echo;
use inmesh_tests::kit::plain::Plain;
use inmesh_tests::kit::wire::{self, exchange};
use inmesh_tests::pki::PemFiles;
use inmesh_tests::tls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Policies made by chance, beside those written out.
const RANDOM: usize = 40;
/// Requests for each.
const REQUESTS: usize = 50;
/// The port of the first policy's service.
const PORT: u16 = 9400;

const CALLERS: [(&str, &str); 5] = [
    ("default", "curl"),
    ("default", "other"),
    ("foo", "client"),
    ("foo", "cert-manager.io"),
    ("foo", "cert-managerxio"),
];

/// A request that both are sent.
#[derive(Clone, Debug)]
struct Asked {
    caller: usize,
    method: &'static str,
    path: &'static str,
    host: &'static str,
    headers: Vec<(String, String)>,
}

/// Why the two decide differently, where they do so on purpose. In each case but one we are the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// A path that servers read in different ways is refused with 400 before any policy (hardening rows 23 and 24).
    AmbiguousPath,
    /// A fragment is cut off, and what is left is judged and sent on, as Istio has Envoy do it; an Envoy that is not told
    /// so refuses with 400 (row 25).
    Fragment,
    /// An ALLOW rule asks for all repetitions of a header, joined; one of them is not enough (row 28).
    RepeatedHeader,
    /// Under a negation in an ALLOW rule the repetitions of a header are one value, joined, as Istio documents. An Envoy of
    /// today judges each, and so is the stricter here.
    NegatedHeader,
    /// A star in a path is covered by a template where that closes (row 31, CVE-2025-46821).
    StarInTemplate,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_are_those_of_envoy_with_the_rules_that_istio_makes() -> Result<()> {
    let Some(binary) = find_or_skip("AuthorizationPolicies compared with Envoy's RBAC") else {
        return Ok(());
    };
    let issuer = Issuer::new();
    let mut rng = Rng::with_seed(46_821);
    let mut specs = written();
    specs.extend((0..RANDOM).map(|_| vec![chance(&mut rng)]));
    let cluster = Cluster::new()?;
    let pod = cluster.pod("things").label("app", "things");
    cluster.declare(&pod)?;
    let sets: Vec<Vec<Value>> = specs
        .iter()
        .enumerate()
        .map(|(index, specs)| resources(index, specs, &issuer))
        .collect();
    let ip = cluster.address();
    let backend = Plain::http(cluster.address(), 0, Echo::new("things", None)).await?;
    let identity = PemFiles::in_dir(&cluster.credentials("default", "things")?);
    let mut fronts = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        fronts.push(Front {
            name: name(index),
            listen: (ip, PORT + index as u16).into(),
            identity: Some(identity.clone()),
            filters: rbac::filters(set).with_context(|| format!("{set:#?}"))?,
        });
        for (at, resource) in set.iter().enumerate() {
            cluster.apply(&format!("policy-{index}-{at}"), &resource.to_string())?;
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name(index), "namespace": "default"},
            "spec": {
                "selector": {"app": "things"},
                "ports": [{"name": "http", "port": PORT + index as u16, "targetPort": PORT + index as u16}],
            },
        });
        cluster.apply(&format!("service-{index}"), &service.to_string())?;
    }
    let config = FrontConfig {
        fronts,
        backend: backend.addr(),
        asked: Vec::new(),
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyFront::start(&binary, &config)).await??;
    let pod = cluster.run(&pod).await?;
    for index in 0..sets.len() {
        pod.mesh.attach(PORT + index as u16, pod.echo.clone()).await?;
    }
    let callers = callers(&cluster).await?;
    let mut work = Vec::new();
    for index in 0..sets.len() {
        for _ in 0..REQUESTS {
            work.push((index, Asked::chance(&mut rng, &issuer)));
        }
    }
    let (callers, pod_ip) = (&callers, pod.spec.ip);
    let answers: Vec<_> = stream::iter(work)
        .map(|(index, asked)| async move {
            let port = PORT + index as u16;
            let caller = &callers[asked.caller];
            let ours = caller.ask_ours((pod_ip, port).into(), &asked).await;
            let ours = ours.with_context(|| format!("{asked:?}"))?;
            let theirs = caller.ask_envoy((ip, port).into(), &asked).await;
            let theirs = theirs.with_context(|| format!("{asked:?}"))?;
            anyhow::Ok((index, asked, ours, theirs))
        })
        .buffered(8)
        .collect()
        .await;
    let (mut compared, mut allowed, mut explained, mut wrong) =
        (0, 0, BTreeMap::<Reason, usize>::new(), Vec::new());
    for answer in answers {
        let (index, asked, ours, theirs) = answer?;
        compared += 1;
        allowed += usize::from(ours == 200);
        if ours == theirs {
            continue;
        }
        match reason(&sets[index], &asked, ours, theirs) {
            Some(why) => *explained.entry(why).or_default() += 1,
            None => wrong.push(format!(
                "ours {ours}, Envoy's {theirs}: {asked:?} {}",
                serde_json::to_string(&specs[index])?
            )),
        }
    }
    println!(
        "{} sets of policies, {compared} requests compared ({allowed} allowed), {} differ as explained: {explained:?}",
        sets.len(),
        explained.values().sum::<usize>()
    );
    drop(envoy);
    ensure!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(sets.len() >= 40 && compared >= 2000 && allowed > compared / 10);
    Ok(())
}

fn name(index: usize) -> String {
    format!("p{index}")
}

/// A policy set of a service: the policies, and whose tokens are believed where a policy asks.
fn resources(index: usize, specs: &[Value], issuer: &Issuer) -> Vec<Value> {
    let target = json!([{"group": "", "kind": "Service", "name": name(index)}]);
    let resource = |kind: &str, at: usize, spec: &Value| {
        let mut spec = spec.clone();
        spec["targetRefs"] = target.clone();
        json!({
            "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": {"name": format!("{}-{at}", name(index)), "namespace": "default"}, "spec": spec,
        })
    };
    let mut all: Vec<Value> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| resource("AuthorizationPolicy", at, spec))
        .collect();
    let tokens =
        json!({"jwtRules": [{"issuer": "https://idp", "jwks": issuer.jwks(), "forwardOriginalToken": true}]});
    all.push(resource("RequestAuthentication", all.len(), &tokens));
    all
}

/// Somebody who calls, by either way.
struct Caller {
    mesh: Mesh,
    tls: Arc<ClientConfig>,
}

async fn callers(cluster: &Cluster) -> Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for (namespace, account) in CALLERS {
        let mesh = cluster.participant(namespace, account)?.start().await?;
        let files = PemFiles::in_dir(&cluster.credentials(namespace, account)?);
        let mut tls = ClientConfig::clone(&*tls::client(&files)?);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        callers.push(Caller {
            mesh,
            tls: Arc::new(tls),
        });
    }
    Ok(callers)
}

impl Caller {
    async fn ask_ours(&self, to: SocketAddr, asked: &Asked) -> Result<u16> {
        let stream = self.mesh.client().connect(&to.to_string()).await;
        let stream = stream.map_err(|error| anyhow!("{error}"))?;
        Ok(exchange(stream, &asked.bytes()).await?.status)
    }

    async fn ask_envoy(&self, to: SocketAddr, asked: &Asked) -> Result<u16> {
        let name = ServerName::IpAddress(to.ip().into());
        let tcp = TcpStream::connect(to).await?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?;
        Ok(exchange(stream, &asked.bytes()).await?.status)
    }
}

const METHODS: &[&str] = &["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];
const PATHS: &[&str] = &[
    "/",
    "/admin",
    "/admin/",
    "/admin/x",
    "/ADMIN",
    "/public/../admin",
    "/public/./admin/x",
    "/admin%2fx",
    "/%61dmin",
    "//admin",
    "/admin//x",
    "/a/b/c",
    "/a/b*d/c",
    "/a//c",
    "/a",
    "/a/",
    "/a/b/c/d/e",
    "/x/secret",
    "/x/secret?y=1",
    "/admin?x=/secret",
    "/public?z#f",
    "/admin;v=1",
    "/admin/..;/x",
    "/a/%2e%2e/admin",
    "/data%20x",
    "/data/~x",
    "/store/1/cart",
    "/store//cart",
    "/v1/a.b-c_d",
    "/public",
    "/public/x?a=b&c=d",
];
const HOSTS: &[&str] = &[
    "things.example",
    "Things.Example",
    "things.example:8080",
    "other.example",
    "things.example.",
];
const ROLES: &[&str] = &["", "admin", "Admin", "user", "user-1", "user,admin", "a*"];
const HOPS: &[&str] = &[
    "10.1.2.3",
    "10.2.0.1, 10.1.0.9",
    "192.0.2.1",
    "2001:db8::1",
    "10.1.2.3, 198.51.100.7",
];

impl Asked {
    fn chance(rng: &mut Rng, issuer: &Issuer) -> Self {
        let mut headers = Vec::new();
        for _ in 0..rng.usize(0..4).saturating_sub(1) {
            headers.push(("x-role".to_owned(), one(rng, ROLES).to_owned()));
        }
        if rng.u8(0..3) == 0 {
            headers.push(("x-forwarded-for".to_owned(), one(rng, HOPS).to_owned()));
        }
        if rng.u8(0..4) == 0 {
            let claims = [
                json!({"iss": "https://idp", "sub": "jason", "groups": ["a", "admin"], "scope": "read write"}),
                json!({"iss": "https://idp", "sub": "eve", "aud": ["shop", "bank"], "deep": {"er": "x"}}),
                json!({"iss": "https://idp", "groups": "admin", "aud": "shop", "azp": "app"}),
                json!({"iss": "https://idp", "sub": "", "groups": 5}),
            ];
            let token = issuer.token(&claims[rng.usize(..claims.len())]);
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        Self {
            caller: rng.usize(..CALLERS.len()),
            method: one(rng, METHODS),
            path: one(rng, PATHS),
            host: one(rng, HOSTS),
            headers,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut headers = self.headers.clone();
        if matches!(self.method, "POST" | "PUT" | "PATCH") {
            headers.push(("content-length".to_owned(), "0".to_owned()));
        }
        wire::head(self.method, self.path, self.host, &headers).into_bytes()
    }
}

fn one<'t>(rng: &mut Rng, list: &[&'t str]) -> &'t str {
    list[rng.usize(..list.len())]
}

/// Policies for what matters most, each set on a service of its own.
fn written() -> Vec<Vec<Value>> {
    let allow = |rules: Value| json!({"action": "ALLOW", "rules": rules});
    let deny = |rules: Value| json!({"action": "DENY", "rules": rules});
    let paths = |list: &[&str]| json!([{"to": [{"operation": {"paths": list}}]}]);
    let when = |key: &str, values: &[&str]| json!([{"when": [{"key": key, "values": values}]}]);
    let unless = |key: &str, values: &[&str]| json!([{"when": [{"key": key, "notValues": values}]}]);
    let from = |source: Value| json!([{"from": [{"source": source}]}]);
    let to = |operations: Value| json!([{"to": operations}]);
    vec![
        vec![json!({})],
        vec![allow(json!([{}]))],
        vec![deny(json!([{}]))],
        vec![
            allow(paths(&["/admin", "/a/{*}/c", "*/secret"])),
            deny(paths(&["/admin/*"])),
        ],
        vec![deny(paths(&["/store/{**}/cart", "/a/{**}"]))],
        vec![allow(to(json!([{"operation": {"notPaths": ["/admin*"]}}])))],
        vec![deny(to(
            json!([{"operation": {"notPaths": ["/a/{*}/c", "/public*"]}}]),
        ))],
        vec![deny(when("request.headers[x-role]", &["admin"]))],
        vec![allow(when("request.headers[X-Role]", &["user*"]))],
        vec![allow(unless("request.headers[x-role]", &["admin", "user"]))],
        vec![deny(unless("request.headers[x-role]", &["*"]))],
        vec![allow(from(
            json!({"serviceAccounts": ["foo/cert-manager.io", "curl"]}),
        ))],
        vec![deny(from(
            json!({"principals": ["cluster.local/ns/foo/*"], "notNamespaces": ["def*"]}),
        ))],
        vec![allow(from(json!({"notPrincipals": ["*/sa/other"]})))],
        vec![allow(from(json!({"remoteIpBlocks": ["10.1.0.0/16"]})))],
        vec![deny(from(
            json!({"notRemoteIpBlocks": ["10.1.0.0/16", "127.0.0.0/8"], "ipBlocks": ["127.0.0.1"]}),
        ))],
        vec![allow(from(json!({"requestPrincipals": ["https://idp/jason"]})))],
        vec![allow(from(json!({"requestPrincipals": ["*"]})))],
        vec![deny(from(json!({"notRequestPrincipals": ["https://idp/*"]})))],
        vec![allow(when("request.auth.claims[groups]", &["admin"]))],
        vec![
            allow(when("request.auth.claims[scope]", &["write"])),
            deny(when("request.auth.audiences", &["bank"])),
        ],
        vec![allow(when("request.auth.claims[deep][er]", &["*"]))],
        vec![allow(to(
            json!([{"operation": {"hosts": ["things.example", "*:8080"], "methods": ["GET", "P*"]}}]),
        ))],
        vec![deny(to(
            json!([{"operation": {"notHosts": ["THINGS.*"]}}, {"operation": {"methods": ["DELETE"]}}]),
        ))],
        vec![
            deny(to(json!([{"operation": {"ports": ["1"]}}]))),
            allow(to(
                json!([{"operation": {"notPorts": ["1"], "notMethods": ["*T"]}}]),
            )),
        ],
    ]
}

/// A policy by chance.
fn chance(rng: &mut Rng) -> Value {
    let rules: Vec<Value> = (0..rng.usize(1..4)).map(|_| chance_rule(rng)).collect();
    json!({"action": if rng.bool() { "ALLOW" } else { "DENY" }, "rules": rules})
}

fn chance_rule(rng: &mut Rng) -> Value {
    let mut rule = json!({});
    if rng.u8(0..3) > 0 {
        let count = rng.usize(1..3);
        let from: Vec<_> = (0..count)
            .map(|_| json!({"source": fields(rng, SOURCES)}))
            .collect();
        rule["from"] = from.into();
    }
    if rng.u8(0..3) > 0 {
        let count = rng.usize(1..3);
        let to: Vec<_> = (0..count)
            .map(|_| json!({"operation": fields(rng, OPERATIONS)}))
            .collect();
        rule["to"] = to.into();
    }
    if rng.bool() {
        let (key, values) = CONDITIONS[rng.usize(..CONDITIONS.len())];
        let not = if rng.bool() { "values" } else { "notValues" };
        rule["when"] = json!([{"key": key, not: some(rng, values)}]);
    }
    rule
}

type Field = (&'static str, &'static str, &'static [&'static str]);

const SOURCES: &[Field] = &[
    (
        "principals",
        "notPrincipals",
        &[
            "cluster.local/ns/default/sa/curl",
            "cluster.local/ns/foo/*",
            "*/sa/other",
            "*",
        ],
    ),
    (
        "namespaces",
        "notNamespaces",
        &["default", "foo", "f*", "*o", "d*t"],
    ),
    ("ipBlocks", "notIpBlocks", &["127.0.0.0/8", "10.0.0.0/8", "::1"]),
    (
        "remoteIpBlocks",
        "notRemoteIpBlocks",
        &["10.1.0.0/16", "127.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
    ),
    (
        "requestPrincipals",
        "notRequestPrincipals",
        &["https://idp/jason", "https://idp/*", "*/eve", "*"],
    ),
];
const OPERATIONS: &[Field] = &[
    (
        "hosts",
        "notHosts",
        &[
            "things.example",
            "*.example",
            "things.example:*",
            "THINGS.EXAMPLE",
            "*",
        ],
    ),
    ("methods", "notMethods", &["GET", "POST", "P*", "*T", "*"]),
    (
        "paths",
        "notPaths",
        &[
            "/admin",
            "/admin/*",
            "*/secret",
            "/a/{*}/c",
            "/a/{**}",
            "/public*",
            "/store/{**}/cart",
            "*",
        ],
    ),
];
const CONDITIONS: &[(&str, &[&str])] = &[
    ("request.headers[x-role]", &["admin", "user*", "*min", "*"]),
    ("request.headers[:authority]", &["things.example", "*.example"]),
    ("source.principal", &["cluster.local/ns/default/*", "*curl"]),
    ("source.namespace", &["foo", "default"]),
    ("remote.ip", &["10.1.0.0/16", "127.0.0.1"]),
    ("request.auth.claims[groups]", &["a", "adm*", "*"]),
    ("request.auth.claims[scope]", &["read", "write"]),
    ("request.auth.audiences", &["shop", "b*"]),
    ("request.auth.principal", &["https://idp/jason", "*"]),
];

fn fields(rng: &mut Rng, of: &[Field]) -> Value {
    let mut made = json!({});
    for _ in 0..rng.usize(1..3) {
        let (field, not, values) = of[rng.usize(..of.len())];
        let field = if rng.u8(0..4) == 0 { not } else { field };
        made[field] = some(rng, values);
    }
    made
}

fn some(rng: &mut Rng, values: &[&str]) -> Value {
    let count = rng.usize(1..3);
    (0..count).map(|_| Value::from(one(rng, values))).collect()
}

/// Why a difference is meant, if it is.
fn reason(set: &[Value], asked: &Asked, ours: u16, theirs: u16) -> Option<Reason> {
    let path = asked.path.split('?').next().unwrap_or_default();
    let is_repeated = asked.headers.iter().filter(|(name, _)| name == "x-role").count() > 1;
    match (ours, theirs) {
        (200 | 403, 400) if asked.path.contains('#') => Some(Reason::Fragment),
        (400, 200 | 403) if path.contains(';') || path.contains("%2f") => Some(Reason::AmbiguousPath),
        (403, 200) if is_repeated => Some(Reason::RepeatedHeader),
        (200, 403) if is_repeated && excludes_roles(set) => Some(Reason::NegatedHeader),
        (403, 200) if path.contains('*') => Some(Reason::StarInTemplate),
        _ => None,
    }
}

/// Whether an ALLOW rule asks that a header is not of certain values.
fn excludes_roles(set: &[Value]) -> bool {
    let allows = set.iter().filter(|policy| policy["spec"]["action"] != "DENY");
    let rules = allows.flat_map(|policy| policy["spec"]["rules"].as_array().cloned().unwrap_or_default());
    let whens = rules.flat_map(|rule| rule["when"].as_array().cloned().unwrap_or_default());
    let is_negated = |when: &Value| {
        when["key"]
            .as_str()
            .is_some_and(|it| it.contains("-role") || it.contains("-Role"))
            && !when["notValues"].is_null()
    };
    whens.into_iter().any(|when| is_negated(&when))
}
