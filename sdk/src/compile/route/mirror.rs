//! Copies of requests.

use super::{Backends as Resolve, Unresolved};
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::gateway::HTTPRequestMirror;
use crate::policy::route::{Mirror, Share};

/// A mirror; `None` if there is nobody to send copies to, which does not concern the requests themselves.
pub(super) fn mirror(
    written: &HTTPRequestMirror,
    at: &str,
    resolve: &mut dyn Resolve,
    findings: &mut Findings<'_>,
) -> Option<Mirror> {
    let share = share(written, at, findings)?;
    let from = findings.route();
    match resolve.resolve(&from, &written.backend_ref) {
        Ok(to) => (!share.is_empty()).then_some(Mirror {
            to,
            share,
            shadow_host: false,
        }),
        Err(Unresolved { reason, text }) => {
            findings.report(
                Severity::Error,
                &format!("{at}.backendRef"),
                format!("{}: {text}; no copies are sent", reason.as_str()),
                reason.remedy(),
            );
            None
        }
    }
}

fn share(written: &HTTPRequestMirror, at: &str, findings: &mut Findings<'_>) -> Option<Share> {
    let (field, numerator, denominator) = match (written.percent, &written.fraction) {
        (None, None) => return Some(Share::ALL),
        (Some(percent), None) => ("percent", percent, 100),
        (None, Some(fraction)) => (
            "fraction",
            fraction.numerator,
            fraction.denominator.unwrap_or(100),
        ),
        (Some(_), Some(_)) => {
            findings.report(
                Severity::Error,
                at,
                "percent and fraction exclude each other; no copies are sent",
                "remove one of them",
            );
            return None;
        }
    };
    let share = match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) => Share::new(numerator, denominator),
        _ => None,
    };
    if share.is_none() {
        findings.report(
            Severity::Error,
            &format!("{at}.{field}"),
            format!("{numerator} of {denominator} is no share; no copies are sent"),
            "use a percent from 0 to 100, or a fraction of at most 1",
        );
    }
    share
}
