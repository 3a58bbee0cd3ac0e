//! The page: three files that are part of the program, and what a browser may do with them.

use http::{HeaderValue, Response, header};

use crate::layer::MeshBody;

/// What the page may load and do: what is of this origin, and no script or style that is not a file of ours.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// A file of the page.
pub(super) fn file(path: &str) -> Option<Response<MeshBody>> {
    let (kind, text) = match path {
        "/" | "/live" | "/live/" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "/live/style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "/live/data.js" => ("text/javascript; charset=utf-8", include_str!("page/data.js")),
        "/live/graph.js" => ("text/javascript; charset=utf-8", include_str!("page/graph.js")),
        "/live/app.js" => ("text/javascript; charset=utf-8", include_str!("page/app.js")),
        _ => return None,
    };
    let mut response = Response::new(MeshBody::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Some(response)
}

/// What every answer says to browsers.
pub(super) fn harden(response: &mut Response<MeshBody>) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}
