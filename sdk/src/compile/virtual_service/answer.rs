//! Answers that need no destination: redirects and direct responses.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::StatusCode;

use crate::compile::findings::Findings;
use crate::config::istio::virtual_service::{HTTPDirectResponse, HTTPRedirect, RedirectPortSelection};
use crate::policy::route::{Action, PathRewrite, Redirect, RedirectPort};

/// Protobuf's JSON reads both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// A redirect; `None` if its status is none that Envoy can redirect with: such a route is left out, as in Istio.
pub(super) fn redirect(
    written: &HTTPRedirect,
    addressed: u16,
    at: &str,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    let text = |field: &Option<String>| field.as_deref().filter(|it| !it.is_empty()).map(Box::from);
    let status = match written.redirect_code.unwrap_or(0) {
        0 => 301,
        code @ (301 | 302 | 303 | 307 | 308) => code,
        code => {
            let what = format!("{code} is not a status to redirect with; the route is left out");
            findings.error(
                &format!("{at}.redirectCode"),
                what,
                "use 301, 302, 303, 307 or 308",
            );
            return None;
        }
    };
    let port = match (written.port.filter(|it| *it != 0), written.derive_port) {
        (Some(port), _) => RedirectPort::Fixed(port),
        (None, Some(RedirectPortSelection::FromRequestPort)) => RedirectPort::Fixed(addressed),
        (None, _) => RedirectPort::Kept,
    };
    let path = match (text(&written.prefix_rewrite), text(&written.uri)) {
        (Some(prefix), _) => Some(PathRewrite::Matched(prefix)),
        (None, uri) => uri.map(PathRewrite::Full),
    };
    Some(Action::Redirect(Redirect {
        scheme: text(&written.scheme),
        host: text(&written.authority),
        port,
        path,
        status: StatusCode::from_u16(status).ok()?,
    }))
}

pub(super) fn respond(written: &HTTPDirectResponse, at: &str, findings: &mut Findings<'_>) -> Action {
    let body = match written.body.as_ref().map(|it| (&it.string, &it.bytes)) {
        Some((Some(text), _)) => Bytes::copy_from_slice(text.as_bytes()),
        Some((None, Some(encoded))) => decode(encoded).unwrap_or_else(|| {
            findings.error(
                &format!("{at}.body.bytes"),
                "not base64",
                "encode the bytes in base64",
            );
            Bytes::new()
        }),
        _ => Bytes::new(),
    };
    match StatusCode::from_u16(written.status) {
        Ok(status) => Action::Respond { status, body },
        Err(_) => {
            let what = format!("{} is not a status", written.status);
            findings.error(
                &format!("{at}.status"),
                what.clone(),
                "use a status from 200 to 599",
            );
            Action::fail(what)
        }
    }
}

fn decode(text: &str) -> Option<Bytes> {
    let engines = [&alphabet::STANDARD, &alphabet::URL_SAFE].map(|it| GeneralPurpose::new(it, LENIENT));
    engines
        .iter()
        .find_map(|it| it.decode(text).ok())
        .map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_is_read_in_every_form() {
        for text in ["Pz8/", "Pz8_"] {
            assert_eq!(decode(text).unwrap(), "???");
        }
        assert_eq!(decode("YQ==").unwrap(), "a");
        assert_eq!(decode("YQ").unwrap(), "a");
        assert_eq!(decode("?"), None);
    }
}
