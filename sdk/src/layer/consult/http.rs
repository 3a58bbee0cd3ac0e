//! An authorizer that is asked by HTTP: with the caller's own method and path, and some of its headers.

use ::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, LOCATION, SERVER, WWW_AUTHENTICATE,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version};
use http_body_util::{BodyExt, Limited};

use super::answer::{Answer, Changes, How, few, may_change};
use super::body::{Held, PARTIAL};
use crate::layer::call::authority;
use crate::layer::{Asker, Call, MeshBody};
use crate::snapshot::{Authorizer, HttpCheck};

/// More is cut off: it is shown to a caller who is refused.
const LARGEST: usize = 64 << 10;

/// Headers that the answer of an authorizer may have taken away from the request.
const REMOVES: &str = "x-envoy-auth-headers-to-remove";

/// Asks; what is not an answer is an error.
pub(super) async fn check(
    request: Request<MeshBody>,
    check: &HttpCheck,
    asker: &Asker,
) -> Result<Answer, String> {
    let response = asker.ask(request).await.map_err(|refusal| refusal.to_string())?;
    let (parts, body) = response.into_parts();
    few(parts.headers.len())?;
    if parts.status == StatusCode::OK {
        return Ok(Answer::Allowed(changes(&parts.headers, check)));
    }
    if parts.status.is_server_error() {
        return Err(format!("the answer was {}", parts.status));
    }
    let body = Limited::new(body, LARGEST)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    Ok(Answer::Denied {
        status: parts.status,
        headers: denial(&parts.headers, check),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    })
}

/// The request that asks.
pub(super) fn question(
    call: &Call,
    held: Option<&Held>,
    authorizer: &Authorizer,
    check: &HttpCheck,
) -> Result<Request<MeshBody>, String> {
    let asked = &call.request;
    let path = asked.uri().path_and_query().map_or("/", |path| path.as_str());
    let body = held.map(|held| held.bytes.clone()).unwrap_or_default();
    let length = body.len();
    let mut request = Request::new(MeshBody::full(body));
    *request.method_mut() = asked.method().clone();
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = format!(
        "http://{}:{}{}{path}",
        authorizer.host, authorizer.port, check.prefix
    )
    .parse()
    .map_err(|error| format!("{error}"))?;
    let headers = request.headers_mut();
    for (name, value) in asked.headers() {
        let is_told = *name == AUTHORIZATION || check.told.matches(name.as_str());
        if is_told && may_change(name) && *name != PARTIAL {
            headers.append(name, value.clone());
        }
    }
    for (name, value) in &check.besides {
        headers.insert(name, value.clone());
    }
    if let Ok(host) = HeaderValue::from_str(authority(asked)) {
        headers.insert(HOST, host);
    }
    if let Some(says) = held.and_then(Held::partial) {
        headers.insert(PARTIAL, HeaderValue::from_static(says));
    }
    headers.insert(CONTENT_LENGTH, length.into());
    Ok(request)
}

/// What an answer that allows changes.
fn changes(headers: &HeaderMap, check: &HttpCheck) -> Changes {
    let mut changes = Changes::default();
    for (name, value) in headers.iter().filter(|(name, _)| may_change(name)) {
        if check.upstream.matches(name.as_str())
            && !(check.upstream.is_only_present() && is_about_itself(name))
        {
            let again = changes.headers.iter().any(|(known, ..)| known == name);
            changes.headers.push((
                name.clone(),
                value.clone(),
                if again { How::Add } else { How::Set },
            ));
        }
        if check.on_allow.matches(name.as_str()) {
            changes.response.append(name.clone(), value.clone());
        }
    }
    let removed = headers
        .get_all(REMOVES)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let names = removed.flat_map(|list| list.split(','));
    changes.removed = names.filter_map(|name| name.trim().parse().ok()).collect();
    changes
}

/// What an answer says of its own content and making: no part of "all headers", since it would be wrong of the request.
fn is_about_itself(name: &HeaderName) -> bool {
    name.as_str().starts_with("content-") || *name == DATE || *name == SERVER || name.as_str() == REMOVES
}

/// The headers that go back with a denial: those asked for and those without which the answer means nothing, or all.
fn denial(headers: &HeaderMap, check: &HttpCheck) -> HeaderMap {
    let always = |name: &HeaderName| [WWW_AUTHENTICATE, LOCATION, CONTENT_TYPE].contains(name);
    let mut kept = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| may_change(name)) {
        if always(name) || check.goes_back(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
