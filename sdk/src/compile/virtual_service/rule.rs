//! One route, as a rule.

use std::sync::Arc;

use super::header::{Edits, edits};
use super::host::full_name;
use super::{HttpRoute, Scope, answer, extras};
use crate::compile::findings::Findings;
use crate::compile::registry::{Asked, Meant};
use crate::compile::route::path::authority;
use crate::config::Severity;
use crate::config::istio::virtual_service::{Destination, HTTPRewrite, HTTPRoute, StringMatch};
use crate::matcher::Substitution;
use crate::policy::route::{
    Action, Backend, Backends, ClusterId, PathName, PathRewrite, Rewrite, RouteRule, RuleOrigin, Target,
};
use crate::policy::timeout::Timeouts;

/// The rule of a route; `None` if Istio would have none.
pub(super) fn compile(
    it: &HttpRoute<'_>,
    scope: &Scope<'_>,
    findings: &mut Findings<'_>,
) -> Option<RouteRule> {
    let route = &*it.route;
    let own = edits(route.headers.as_ref(), findings);
    let name = route.name.as_deref().filter(|it| !it.is_empty());
    let origin = RuleOrigin::new(it.entry.reference(), it.index, name.map(Arc::from))
        .paths(route.matches.iter().map(|it| named(it.uri.as_ref())));
    let resolver = Resolver {
        scope,
        namespace: it.namespace,
    };
    let rewrite = rewrite(route.rewrite.as_ref(), &own, findings);
    let action = match (&route.redirect, &route.direct_response) {
        (Some(redirect), _) => answer::redirect(redirect, scope.port, "redirect", findings)?,
        (None, Some(response)) => answer::respond(response, "directResponse", findings),
        (None, None) => resolver.forward(route, &own, rewrite.as_ref(), findings),
    };
    // With destinations that edit responses, each has the route's edits too, and they come first.
    let by_backend = matches!(&action, Action::Forward(all) if all.iter().any(|it| !it.response.is_empty()));
    let mirrors = extras::mirrors(route, &resolver, findings);
    let cors = route.cors_policy.as_ref().map(|it| extras::cors(it, findings));
    let (retry, per_try) = extras::retries(route.retries.as_ref(), findings);
    let action = match findings.broken.take() {
        Some(why) => Action::fail(why),
        None => action,
    };
    Some(RouteRule {
        request: own.request,
        response: if by_backend {
            Default::default()
        } else {
            own.response
        },
        rewrite,
        timeouts: Timeouts {
            request: route.timeout.map(|it| it.0).filter(|it| !it.is_zero()),
            per_try,
        },
        retry: Arc::new(retry),
        mirrors,
        fault: extras::faults(route.fault.as_ref(), it.fault_headers),
        cors,
        ..RouteRule::new(origin, action)
    })
}

fn named(uri: Option<&StringMatch>) -> PathName<'_> {
    match uri {
        Some(StringMatch {
            exact: Some(path), ..
        }) => PathName::Exact(path),
        Some(StringMatch {
            prefix: Some(prefix), ..
        }) => PathName::Prefix(prefix),
        Some(StringMatch {
            regex: Some(regex), ..
        }) => PathName::Regex(regex),
        _ => PathName::Any,
    }
}

fn rewrite(written: Option<&HTTPRewrite>, own: &Edits, findings: &mut Findings<'_>) -> Option<Rewrite> {
    let text = |field: &'_ Option<String>| field.clone().filter(|it| !it.is_empty());
    let host = match written.and_then(|it| text(&it.authority)) {
        Some(host) => authority(&host, "rewrite.authority", findings),
        None => own.authority.clone(),
    };
    let path = written.and_then(|it| match &it.uri_regex_rewrite {
        Some(by) => match Substitution::parse(&by.matches, &by.rewrite) {
            Ok(rule) => Some(PathRewrite::Substituted(rule)),
            Err(error) => {
                let remedy = "write an RE2 expression, and groups as \\1";
                findings.error("rewrite.uriRegexRewrite", error.to_string(), remedy);
                None
            }
        },
        None => text(&it.uri).map(|uri| PathRewrite::Matched(uri.into())),
    });
    (host.is_some() || path.is_some()).then_some(Rewrite { host, path })
}

/// What the destinations of a route mean.
pub(super) struct Resolver<'s> {
    pub(super) scope: &'s Scope<'s>,
    /// Of the resource that writes them.
    pub(super) namespace: &'s str,
}

impl Resolver<'_> {
    /// The cluster of a destination, or why there is none.
    pub(super) fn resolve(
        &self,
        written: &Destination,
        at: &str,
        findings: &mut Findings<'_>,
    ) -> Result<ClusterId, String> {
        let host = full_name(&written.host, self.namespace, self.scope.domain);
        let found = self.scope.find(Asked {
            host: &host,
            port: written.port.as_ref().map(|it| it.number),
            addressed: self.scope.port,
            subset: written.subset.as_deref(),
        });
        match found {
            Ok(Meant { cluster, subset_lost }) => {
                if subset_lost {
                    let what = format!("a waypoint stands before {host} and chooses among all its workloads");
                    let remedy =
                        "route to the subset in the waypoint: write the VirtualService in its namespace";
                    findings.report(Severity::Ignored, &format!("{at}.subset"), what, remedy);
                }
                Ok(cluster)
            }
            Err(unknown) => {
                let field = format!("{at}.{}", unknown.field);
                findings.report(Severity::Error, &field, unknown.text.clone(), unknown.remedy);
                Err(unknown.text)
            }
        }
    }

    fn forward(
        &self,
        route: &HTTPRoute,
        own: &Edits,
        rewrite: Option<&Rewrite>,
        findings: &mut Findings<'_>,
    ) -> Action {
        let alone = route.route.len() == 1;
        let edit_responses = route.route.iter().any(|it| {
            it.headers
                .as_ref()
                .is_some_and(|it| it.response != Default::default())
        });
        let mut backends = Vec::with_capacity(route.route.len());
        for (index, written) in route.route.iter().enumerate() {
            // A destination alone gets everything, whatever its weight; without a share one need not exist.
            let weight = if alone { 1 } else { written.weight };
            let mut findings = findings.part(&format!("route[{index}]"));
            let edits = edits(written.headers.as_ref(), &mut findings);
            let target = match &written.destination {
                _ if weight == 0 => Target::Invalid("no share".into()),
                Some(to) => match self.resolve(to, "destination", &mut findings) {
                    Ok(cluster) => Target::Cluster(cluster),
                    Err(why) => Target::Invalid(why.into()),
                },
                None => Target::Invalid("no destination".into()),
            };
            // What the route says of the authority counts before what a destination says.
            let of_route = rewrite.and_then(|it| it.host.as_ref());
            let host = edits.authority.filter(|_| of_route.is_none());
            let rewrite = host.map(|host| Rewrite {
                host: Some(host),
                path: rewrite.and_then(|it| it.path.clone()),
            });
            let target = match findings.broken.take() {
                Some(why) => Target::Invalid(why.into()),
                None => target,
            };
            backends.push(Backend {
                request: edits.request,
                response: if edit_responses {
                    own.response.then(&edits.response)
                } else {
                    edits.response
                },
                rewrite,
                ..Backend::new(target, weight)
            });
        }
        match Backends::new(backends) {
            Some(backends) => Action::Forward(backends),
            None => {
                let why = "no destination has a weight";
                findings.report(
                    Severity::Warning,
                    "route",
                    format!("{why}, so it answers 503"),
                    "give weights",
                );
                Action::fail(why)
            }
        }
    }
}
