//! Answers that no upstream gave.

use anyhow::{Context, Result};
use http::StatusCode;
use http_body_util::BodyExt;
use inmesh::layer::{Reason, Refusal, grpc_status};
use inmesh::policy::token::Reject;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Row, Seen, read};

/// An HTTP status, to the gRPC status.
pub(super) fn grpc(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        http: u16,
        grpc: u16,
    }
    let case: Case = read(row)?;
    Ok(Seen::new(
        case.grpc,
        grpc_status(StatusCode::from_u16(case.http)?),
    ))
}

/// What a caller is shown of a refusal: status, body, gRPC status and message, headers.
pub(super) fn answer(refusal: Refusal, is_grpc: bool) -> Result<Map<String, Value>> {
    let response = refusal.into_response(is_grpc);
    let mut fields = Map::new();
    fields.insert("status".into(), response.status().as_u16().into());
    for (name, value) in response.headers() {
        let value = value.to_str()?;
        let value = match name.as_str() {
            "grpc-status" => value.parse::<u16>()?.into(),
            _ => Value::from(value),
        };
        fields.insert(name.as_str().replace('-', "_"), value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let body = runtime.block_on(response.into_body().collect());
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    fields.insert("body".into(), String::from_utf8(body.to_vec())?.into());
    Ok(fields)
}

/// Why a request is not answered by its upstream, to what the caller is shown.
pub(super) fn local(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        cause: String,
        status: Value,
        body: Option<String>,
        body_prefix: Option<String>,
        body_contains: Option<String>,
        details_prefix: Option<String>,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        headers_prefix: Vec<(String, String)>,
        flag: String,
    }
    let case: Case = read(row)?;
    let refusal = refusal(&case.cause)?;
    let (flag, details) = (refusal.flags(), refusal.response_code_details());
    let observed = answer(refusal, false)?;
    let text = |key: &str| observed.get(key).and_then(Value::as_str).unwrap_or_default();
    let body = text("body").to_owned();
    let mut wrong = Vec::new();
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    if case.status.is_number() {
        expect(
            &format!("status {}", case.status),
            observed.get("status") == Some(&case.status),
        );
    }
    match case.body.as_deref() {
        // Another program decides.
        None | Some("from provider or empty") => {}
        Some(expected) => expect(&format!("body `{expected}`"), body == expected),
    }
    if let Some(prefix) = &case.body_prefix {
        expect(
            &format!("body beginning `{prefix}`"),
            body.starts_with(prefix.as_str()),
        );
    }
    if let Some(part) = &case.body_contains {
        expect(&format!("`{part}` in the body"), body.contains(part.as_str()));
    }
    if let Some(prefix) = &case.details_prefix {
        expect(
            &format!("details beginning `{prefix}`"),
            details.starts_with(prefix.as_str()),
        );
    }
    for (name, value) in &case.headers {
        expect(
            &format!("{name}: {value}"),
            text(&name.replace('-', "_")) == value,
        );
    }
    for (name, prefix) in &case.headers_prefix {
        expect(
            &format!("{name}: {prefix}…"),
            text(&name.replace('-', "_")).starts_with(prefix.as_str()),
        );
    }
    expect(&format!("flag {}", case.flag), flag == case.flag);
    if !body.is_empty() {
        expect("content-type text/plain", text("content_type") == "text/plain");
    }
    Ok(Seen::new(
        "as written",
        match wrong.is_empty() {
            true => "as written".to_owned(),
            false => format!(
                "{} {flag} `{body}` ({details}), without {}",
                observed["status"],
                wrong.join(", ")
            ),
        },
    ))
}

/// Why a token is not believed.
fn reject(cause: &str) -> Option<Reject> {
    [
        ("expired", Reject::Expired),
        ("issuer", Reject::UnknownIssuer),
        ("malformed", Reject::Format),
        ("signature", Reject::Signature),
        ("audience", Reject::Audience),
        ("not yet valid", Reject::NotYetValid),
        ("kid", Reject::NoMatchingKey),
        ("fetch", Reject::Fetch),
    ]
    .into_iter()
    .find_map(|(part, reject)| cause.contains(part).then_some(reject))
}

/// The refusal that belongs to a cause.
fn refusal(cause: &str) -> Result<Refusal> {
    let lower = cause.to_ascii_lowercase();
    let is = |part: &str| lower.contains(part);
    let of = |reason| Ok(Refusal::new(reason, ""));
    if is("jwt") {
        let why = reject(&lower).with_context(|| format!("no rejection is known for `{cause}`"))?;
        Ok(Refusal::unauthenticated(why.details(), "http://svc/")
            .status(why.status())
            .body(why.to_string()))
    } else if is("ext_authz") {
        of(Reason::Authorizer)
    } else if is("bad request") || is("codec") {
        of(Reason::BadRequest)
    } else if is("rbac") {
        let policy = inmesh::name::ResourceRef::new(inmesh::name::Kind::AuthorizationPolicy, "default", "a");
        let mut refusal = Refusal::new(Reason::Denied, "");
        refusal.policy = Some(policy);
        Ok(refusal)
    } else if is("no healthy") {
        of(Reason::NoEndpoint)
    } else if is("connect refused") || is("connect fail") || is("connect timeout") {
        of(Reason::Connect)
    } else if is("closed before headers") || is("connection termination") {
        of(Reason::Reset)
    } else if is("remote reset") || is("upstream reset") {
        of(Reason::RemoteReset)
    } else if is("protocol error") {
        of(Reason::Protocol)
    } else if is("overflow") {
        of(Reason::Overloaded)
    } else if is("route timeout") {
        of(Reason::Timeout)
    } else if is("no route") {
        of(Reason::NoRoute)
    } else if is("cluster not found") {
        let status = match is("virtualservice") {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Ok(Refusal::new(Reason::Misconfigured, "").status(status))
    } else if is("weights sum to zero") {
        // Not a missing cluster: the route itself says so.
        Ok(Refusal::new(Reason::RuleFailed, "").status(StatusCode::INTERNAL_SERVER_ERROR))
    } else if is("rate limit") {
        of(Reason::Limited)
    } else if is("fault") {
        Ok(Refusal::fault(StatusCode::IM_A_TEAPOT, None))
    } else {
        None.with_context(|| format!("no refusal is known for `{cause}`"))
    }
}
