//! Routes: which requests one is for, and what it does to them.
//!
//! A row is the part of a route that it is about, in Istio's words; `gateway_api` has the same said by an HTTPRoute. The
//! request goes through the layers of a proxy, and what arrives, and what comes back, is compared.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use inmesh::layer::MeshBody;
use inmesh::policy::RequestHead;
use inmesh::policy::route::{Action, RouteTable};
use inmesh::snapshot::Snapshot;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::exchange::{self, Exchange, authority};
use super::world::{Town, headers};
use super::{Row, Seen, read};

/// The service whose routes these are.
const SERVICE: &str = "svc";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    method: Option<String>,
    scheme: Option<String>,
    #[serde(alias = "authority")]
    host: Option<String>,
    path: Option<String>,
    headers: Vec<(String, String)>,
    port: Option<u16>,
    /// Whether a waypoint is asked, rather than the caller's own proxy.
    waypoint: bool,
    /// What the caller is labelled with.
    #[serde(alias = "sourceLabels", alias = "labels")]
    source_labels: BTreeMap<String, String>,
}

impl Asked {
    fn port(&self) -> u16 {
        self.port.unwrap_or(80)
    }

    fn target(&self) -> (&str, Option<&str>) {
        let target = self.path.as_deref().unwrap_or("/");
        match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        }
    }

    fn method(&self) -> Result<Method> {
        Ok(self.method.as_deref().unwrap_or("GET").parse()?)
    }
}

/// The parts of a route that a row may be about.
const PARTS: [&str; 10] = [
    "match",
    "headers",
    "redirect",
    "rewrite",
    "directResponse",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "corsPolicy",
    "cors",
];

/// A route with these parts, in a town with everybody that it names.
struct Written {
    parts: Map<String, Value>,
    gateway_api: bool,
}

impl Written {
    /// Takes the route's parts out of a row.
    fn take(row: &mut Row) -> Result<Self> {
        let mut parts = Map::new();
        for part in PARTS {
            if let Some(value) = row.remove(part) {
                let name = if part == "cors" { "corsPolicy" } else { part };
                parts.insert(name.to_owned(), value);
            }
        }
        let mut gateway_api = row.remove("gateway_api");
        if let Some(inner) = parts.get_mut("match").and_then(Value::as_object_mut) {
            gateway_api = inner.remove("gateway_api").or(gateway_api);
        }
        let gateway_api = gateway_api.is_some_and(|it| it == Value::Bool(true));
        Ok(Self { parts, gateway_api })
    }

    fn part(&self, name: &str) -> Option<&Value> {
        self.parts.get(name)
    }

    /// The snapshot of whoever sends the request.
    fn compile(&self, asked: &Asked) -> Result<Snapshot> {
        let of_match = self
            .part("match")
            .and_then(|it| it.get("port"))
            .and_then(Value::as_u64);
        let mut ports = vec![80, asked.port()];
        ports.extend(of_match.map(u16::try_from).transpose()?);
        ports.sort_unstable();
        ports.dedup();
        let route = match self.gateway_api {
            true => http_route(&self.parts)?,
            false => self.virtual_service(),
        };
        let others = self.others();
        let town = Town {
            ports: &ports,
            others: &others,
            waypoint: asked.waypoint,
            labels: asked.source_labels.clone(),
        };
        Ok(town.compile(&[route])?.snapshot)
    }

    fn virtual_service(&self) -> Value {
        let mut route = self.parts.clone();
        if let Some(one) = route.remove("match") {
            route.insert("match".into(), json!([one]));
        }
        let answers = ["redirect", "directResponse"]
            .iter()
            .any(|it| route.contains_key(*it));
        if !answers {
            route.insert("route".into(), json!([{"destination": {"host": SERVICE}}]));
        }
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "route", "namespace": "default"},
            "spec": {"hosts": [SERVICE], "http": [route]},
        })
    }

    /// Who gets copies.
    fn others(&self) -> Vec<String> {
        let one = self.part("mirror").into_iter();
        let many = self
            .part("mirrors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        one.chain(many.filter_map(|it| it.get("destination")))
            .filter_map(|it| it.get("host")?.as_str().map(str::to_owned))
            .filter(|it| it != SERVICE)
            .collect()
    }
}

/// The same in Gateway API's words.
fn http_route(parts: &Map<String, Value>) -> Result<Value> {
    let mut rule = Map::new();
    if let Some(written) = parts.get("match") {
        rule.insert("matches".into(), json!([gateway_match(written)?]));
    }
    let mut filters = Vec::new();
    for (part, value) in parts {
        match part.as_str() {
            "match" => {}
            "headers" => {
                for (message, kind) in [("request", "Request"), ("response", "Response")] {
                    if let Some(edits) = value.get(message) {
                        let modifier = modifier(edits);
                        let name = format!("{message}HeaderModifier");
                        filters.push(json!({"type": format!("{kind}HeaderModifier"), name: modifier}));
                    }
                }
            }
            "rewrite" => {
                filters.push(json!({"type": "URLRewrite", "urlRewrite": moved(value, "ReplacePrefixMatch")}))
            }
            "redirect" => {
                let mut redirect = moved(value, "ReplaceFullPath");
                for (theirs, ours) in [
                    ("redirectCode", "statusCode"),
                    ("scheme", "scheme"),
                    ("port", "port"),
                ] {
                    if let Some(it) = value.get(theirs) {
                        redirect.insert(ours.into(), it.clone());
                    }
                }
                filters.push(json!({"type": "RequestRedirect", "requestRedirect": redirect}));
            }
            other => bail!("Gateway API has no `{other}` of this form"),
        }
    }
    let redirects = filters.iter().any(|it| it["type"] == "RequestRedirect");
    rule.insert("filters".into(), Value::Array(filters));
    if !redirects {
        rule.insert("backendRefs".into(), json!([{"name": SERVICE, "port": 80}]));
    }
    Ok(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "route", "namespace": "default"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": SERVICE}], "rules": [rule]},
    }))
}

fn gateway_match(written: &Value) -> Result<Value> {
    let mut made = Map::new();
    let field = |name: &str| written.get(name);
    // How a value is compared, and with what.
    let compared = |it: &Value, exact: &str, prefix: &str| -> Result<(String, Value)> {
        for (theirs, ours) in [
            ("exact", exact),
            ("prefix", prefix),
            ("regex", "RegularExpression"),
        ] {
            if let Some(value) = it.get(theirs) {
                return Ok((ours.to_owned(), value.clone()));
            }
        }
        bail!("Gateway API compares no value like {it}")
    };
    if let Some(uri) = field("uri") {
        let (kind, value) = compared(uri, "Exact", "PathPrefix")?;
        made.insert("path".into(), json!({"type": kind, "value": value}));
    }
    if let Some(method) = field("method") {
        made.insert(
            "method".into(),
            method.get("exact").cloned().context("a method is exact")?,
        );
    }
    for (theirs, ours) in [("headers", "headers"), ("queryParams", "queryParams")] {
        let Some(all) = field(theirs).and_then(Value::as_object) else {
            continue;
        };
        let one = |(name, it): (&String, &Value)| {
            let (kind, value) = compared(it, "Exact", "Prefix")?;
            Ok(json!({"name": name, "type": kind, "value": value}))
        };
        let all: Result<Vec<Value>> = all.iter().map(one).collect();
        made.insert(ours.into(), all?.into());
    }
    Ok(made.into())
}

fn modifier(edits: &Value) -> Value {
    let list = |of: Option<&Value>| -> Vec<Value> {
        let all = of.and_then(Value::as_object).into_iter().flatten();
        all.map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    };
    json!({
        "set": list(edits.get("set")), "add": list(edits.get("add")),
        "remove": edits.get("remove").cloned().unwrap_or_else(|| json!([])),
    })
}

/// Host and path of a rewrite or redirect.
fn moved(written: &Value, how: &str) -> Map<String, Value> {
    let mut made = Map::new();
    if let Some(host) = written.get("authority") {
        made.insert("hostname".into(), host.clone());
    }
    if let Some(uri) = written.get("uri") {
        let value = match how {
            "ReplacePrefixMatch" => json!({"type": how, "replacePrefixMatch": uri}),
            _ => json!({"type": how, "replaceFullPath": uri}),
        };
        made.insert("path".into(), value);
    }
    made
}

fn table(snapshot: &Snapshot, port: u16) -> Result<&RouteTable> {
    let services = &snapshot.services;
    let service = services.iter().find(|it| &*it.name.name == SERVICE);
    let port = service.and_then(|it| it.port(port)).context("the port is gone")?;
    Ok(&port.routes)
}

/// `match` and a request, to whether the route is for it.
pub(super) fn matched(mut row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        request: Asked,
        matched: bool,
    }
    let written = Written::take(&mut row)?;
    let case: Case = read(row)?;
    let asked = &case.request;
    let snapshot = written.compile(asked)?;
    let headers = headers(&asked.headers)?;
    let method = asked.method()?;
    let (path, query) = asked.target();
    let host = asked.host.as_deref().unwrap_or(SERVICE);
    let mut head = RequestHead::unsent(&method, host, path, query, &headers);
    head.scheme = asked.scheme.as_deref().unwrap_or("http");
    let found = table(&snapshot, asked.port())?.find(&head);
    Ok(Seen::new(case.matched, found.is_some()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    request: Asked,
    /// Headers before and after.
    #[serde(rename = "in")]
    before: Option<Vec<(String, String)>>,
    out: Option<Vec<(String, String)>>,
    #[serde(alias = "host_in")]
    authority_in: Option<String>,
    #[serde(alias = "host_out")]
    authority_out: Option<String>,
    path_in: Option<String>,
    path_out: Option<String>,
    status: Option<u16>,
    location: Option<String>,
    body: Option<String>,
    response_headers: Option<Vec<(String, String)>>,
    route_dropped: Option<bool>,
    /// Whether the request goes on to its service.
    forwarded: Option<bool>,
    /// Whether a copy is sent, and which host it names.
    mirrored: Option<bool>,
    #[serde(alias = "shadow_host")]
    mirror_host: Option<String>,
}

/// What a route says and a request, to what becomes of it.
pub(super) fn effect(mut row: Row) -> Result<Seen> {
    let written = Written::take(&mut row)?;
    let case: Case = read(row)?;
    let mut asked = case.request.clone();
    asked.host = asked.host.or_else(|| case.authority_in.clone());
    asked.path = asked.path.or_else(|| case.path_in.clone());
    // Edits of a response are seen in the response.
    let of_response = written
        .part("headers")
        .is_some_and(|it| it.get("request").is_none());
    let before = case.before.clone().unwrap_or_default();
    let answer = if of_response {
        headers(&before)?
    } else {
        HeaderMap::new()
    };
    if !of_response {
        asked.headers.extend(before.iter().cloned());
    }
    let snapshot = written.compile(&asked)?;
    if let Some(expected) = case.route_dropped {
        let none = table(&snapshot, asked.port())?.is_empty();
        return Ok(Seen::new(
            format!("dropped: {expected}"),
            format!("dropped: {none}"),
        ));
    }
    if asked.scheme.as_deref() == Some("https") {
        return over_tls(&snapshot, &asked, &case);
    }
    let sent = exchange::send(snapshot, request(&asked)?, &answer)?;
    let mut pairs: Vec<(&str, String, String)> = Vec::new();
    let mut compare = |what, expected: Option<String>, observed: String| {
        if let Some(expected) = expected {
            pairs.push((what, expected, observed));
        }
    };
    let main = sent.by(SERVICE);
    let status = sent.response.status().as_u16().to_string();
    compare("status", case.status.map(|it| it.to_string()), status);
    let location = header(sent.response.headers(), "location");
    compare("location", case.location.clone(), location);
    let arrived = if of_response {
        Some(sent.response.headers())
    } else {
        main.map(|it| &it.headers)
    };
    let arrived = arrived.map_or_else(|| "nothing arrived".to_owned(), |it| listed(it, &before, &case));
    compare("headers", case.out.as_ref().map(|it| shown(it)), arrived);
    let named = main.map(|it| authority(&it.uri, &it.headers)).transpose()?;
    // Whatever a row is about: unless it says so, the authority stays what it was.
    let kept = || {
        main.and_then(|_| asked.host.clone())
            .filter(|_| !written.names_host())
    };
    compare(
        "authority",
        case.authority_out.clone().or_else(kept),
        named.unwrap_or_default(),
    );
    let target = main
        .and_then(|it| it.uri.path_and_query())
        .map(ToString::to_string);
    compare("path", case.path_out.clone(), target.unwrap_or_default());
    compare(
        "forwarded",
        case.forwarded.map(|it| it.to_string()),
        main.is_some().to_string(),
    );
    let copy = sent.taken.iter().find(|it| it.service != SERVICE);
    compare(
        "mirrored",
        case.mirrored.map(|it| it.to_string()),
        copy.is_some().to_string(),
    );
    let of_copy = copy.map(|it| authority(&it.uri, &it.headers)).transpose()?;
    compare(
        "mirror's host",
        case.mirror_host.clone(),
        of_copy.unwrap_or_default(),
    );
    for (name, value) in case.response_headers.iter().flatten() {
        let observed = header(sent.response.headers(), name);
        compare(
            "response header",
            Some(format!("{name}: {value}")),
            format!("{name}: {observed}"),
        );
    }
    let Exchange { response, .. } = sent;
    let body = exchange::text(response.into_body())?;
    if let Some(expected) = case.body {
        pairs.push(("body", expected, body));
    }
    ensure!(!pairs.is_empty(), "the row expects nothing");
    let text =
        |pick: fn(&(&str, String, String)) -> String| pairs.iter().map(pick).collect::<Vec<_>>().join("; ");
    Ok(Seen::new(
        text(|(what, expected, _)| format!("{what} {expected}")),
        text(|(what, _, observed)| format!("{what} {observed}")),
    ))
}

impl Written {
    /// Whether the route says something of the authority.
    fn names_host(&self) -> bool {
        let of_rewrite = self
            .part("rewrite")
            .is_some_and(|it| it.get("authority").is_some());
        let edits = self.part("headers").and_then(|it| it.get("request"));
        let lists = edits
            .into_iter()
            .flat_map(|it| ["set", "add"].map(|list| it.get(list)));
        let names = lists.flatten().filter_map(Value::as_object).flat_map(Map::keys);
        of_rewrite
            || names
                .into_iter()
                .any(|it| it == ":authority" || it.eq_ignore_ascii_case("host"))
    }
}

/// A redirect of a request that came over TLS, which is for a Gateway to see: asked of the rule itself.
fn over_tls(snapshot: &Snapshot, asked: &Asked, case: &Case) -> Result<Seen> {
    let (headers, method) = (headers(&asked.headers)?, asked.method()?);
    let (path, query) = asked.target();
    let host = asked.host.as_deref().unwrap_or(SERVICE);
    let mut head = RequestHead::unsent(&method, host, path, query, &headers);
    head.scheme = "https";
    let table = table(snapshot, asked.port())?;
    let found = table.find(&head).context("no route")?;
    let Some(Action::Redirect(redirect)) = table.rule(found.rule).map(|it| &it.action) else {
        bail!("only redirects are tried over TLS");
    };
    let (status, location) = redirect.location(&head, found.matched);
    let expected = case.status.unwrap_or(StatusCode::MOVED_PERMANENTLY.as_u16());
    Ok(Seen::new(
        format!("{expected} {}", case.location.as_deref().unwrap_or_default()),
        format!("{} {}", status.as_u16(), location.to_str()?),
    ))
}

fn request(asked: &Asked) -> Result<Request<MeshBody>> {
    let (path, query) = asked.target();
    let query = query.map(|it| format!("?{it}")).unwrap_or_default();
    let uri = format!("http://{SERVICE}:{}{path}{query}", asked.port());
    let mut request = Request::builder()
        .method(asked.method()?)
        .uri(uri)
        .body(MeshBody::empty())?;
    *request.headers_mut() = headers(&asked.headers)?;
    if let Some(host) = &asked.host {
        let host = HeaderValue::from_str(host)?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    Ok(request)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let all: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .collect();
    all.join(",")
}

/// The headers that a row speaks of, and none that it does not: what carries the message is left out.
fn listed(arrived: &HeaderMap, before: &[(String, String)], case: &Case) -> String {
    let spoken = |name: &HeaderName| {
        let lists = [Some(before), case.out.as_deref()];
        lists
            .into_iter()
            .flatten()
            .flatten()
            .any(|(it, _)| it.eq_ignore_ascii_case(name.as_str()))
    };
    const CARRIES: [&str; 4] = ["host", "traceparent", "content-length", "x-envoy-original-path"];
    let all: Vec<(String, String)> = arrived
        .iter()
        .filter(|(name, _)| spoken(name) || !CARRIES.contains(&name.as_str()))
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    shown(&all)
}

fn shown(pairs: &[(String, String)]) -> String {
    let mut all: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .collect();
    // Values of one header keep their order; headers have none among each other.
    all.sort_by(|one, other| one.split(':').next().cmp(&other.split(':').next()));
    format!("[{}]", all.join(", "))
}
