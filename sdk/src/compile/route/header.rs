//! Header names and edits.

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::path::authority;
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::gateway::{HTTPHeader, HTTPHeaderFilter};
use crate::policy::route::HeaderEdits;

/// Headers that say how a message is framed on one connection: an edit of them could smuggle requests.
const FRAMING: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Header edits. With a place for it, setting `host` is a rewrite of the authority, as in Istio.
pub(super) fn edits(
    written: &HTTPHeaderFilter,
    at: &str,
    mut host: Option<&mut Option<Authority>>,
    findings: &mut Findings<'_>,
) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let lists = [
        ("set", &written.set, &mut edits.set),
        ("add", &written.add, &mut edits.add),
    ];
    for (list, written, edits) in lists {
        for (index, header) in written.iter().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            let earlier = &written[..index];
            if earlier
                .iter()
                .any(|it| it.name.eq_ignore_ascii_case(&header.name))
            {
                // HTTPHeader.name: "subsequent entries with an equivalent header name MUST be ignored".
                findings.report(
                    Severity::Ignored,
                    &at,
                    format!("`{}` is in the list twice; only the first counts", header.name),
                    "remove one, or write one value with commas",
                );
                continue;
            }
            match (&mut host, header.name.eq_ignore_ascii_case("host")) {
                (Some(host), true) => {
                    let authority = authority(&header.value, &format!("{at}.value"), findings);
                    **host = host.take().or(authority);
                }
                _ => edits.extend(edit(header, &at, findings)),
            }
        }
    }
    for (index, text) in written.remove.iter().enumerate() {
        let at = format!("{at}.remove[{index}]");
        if text.eq_ignore_ascii_case("host") {
            findings.report(
                Severity::Ignored,
                &at,
                "`host` cannot be removed",
                "remove the entry",
            );
        } else {
            edits.remove.extend(name(text, &at, findings));
        }
    }
    edits
}

fn edit(header: &HTTPHeader, at: &str, findings: &mut Findings<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = name(&header.name, &format!("{at}.name"), findings)?;
    let Ok(value) = HeaderValue::from_str(&header.value) else {
        findings.error(
            &format!("{at}.value"),
            "not a header value",
            "leave out line breaks and control characters",
        );
        return None;
    };
    Some((name, value))
}

pub(crate) fn name(text: &str, at: &str, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        findings.error(
            at,
            format!("`{text}` is not a header name"),
            "use letters, digits and `-`",
        );
        return None;
    };
    if FRAMING.contains(&name.as_str()) {
        findings.error(
            at,
            format!("`{name}` belongs to the connection and cannot be edited"),
            "remove the entry",
        );
        return None;
    }
    Some(name)
}
