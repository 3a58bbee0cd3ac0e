//! The backends of a rule.

use super::filter::{Filters, Purpose};
use super::{Backends as Resolve, Unresolved};
use crate::compile::findings::Findings;
use crate::config::Severity;
use crate::config::gateway::HTTPBackendRef;
use crate::policy::route::{Action, Backend, Backends, Target};

/// Sends to the backends by weight. What cannot be resolved, or has a filter that cannot be carried out, keeps its
/// share and answers 500 for it.
pub(super) fn compile(
    refs: &[HTTPBackendRef],
    purpose: Purpose,
    resolve: &mut dyn Resolve,
    findings: &mut Findings<'_>,
) -> Action {
    let mut backends = Vec::with_capacity(refs.len());
    for (index, written) in refs.iter().enumerate() {
        let mut part = findings.part(&format!("backendRefs[{index}]"));
        let filters = Filters::compile(&written.filters, purpose, resolve, &mut part);
        let resolved = resolve.resolve(&part.route(), &written.target());
        let target = match resolved {
            Ok(cluster) => match filters.redirect {
                Some(redirect) => Target::Redirect(redirect),
                None => Target::Cluster(cluster),
            },
            Err(Unresolved { reason, text }) => {
                part.unresolved("", format!("{}: {text}", reason.as_str()), reason.remedy());
                Target::Invalid(text.into())
            }
        };
        backends.push(Backend {
            cluster: match part.broken.take() {
                Some(why) => Target::Invalid(why.into()),
                None => target,
            },
            weight: written.weight,
            request: filters.request,
            response: filters.response,
            rewrite: filters.rewrite,
            mirrors: filters.mirrors.into(),
            cors: filters.cors,
            authorizer: filters.authorizer,
            session: None,
        });
        let ill = part.fault;
        findings.fault = findings.fault.or(ill);
    }
    let none = backends.is_empty();
    match Backends::new(backends) {
        Some(backends) => Action::Forward(backends),
        None => {
            let why = if none {
                "the rule has no backendRefs"
            } else {
                "no backend has a weight"
            };
            findings.report(
                Severity::Warning,
                "backendRefs",
                format!(
                    "{why}, so it answers {}",
                    if purpose.grpc { "UNAVAILABLE" } else { "500" }
                ),
                "name a backend with a weight",
            );
            Action::fail(why)
        }
    }
}
