//! Filters of rules and backends.

use std::sync::Arc;

use http::uri::Authority;

use super::mirror::mirror;
use super::{Backends as Resolve, cors, external_auth, header, path};
use crate::compile::findings::Findings;
use crate::config::gateway::HTTPRouteFilter;
use crate::policy::authorizer::Authorizer;
use crate::policy::route::{Cors, HeaderEdits, Mirror, Redirect, Rewrite};

/// What filters are for.
#[derive(Clone, Copy)]
pub(super) struct Purpose {
    /// Port of listener or service, for redirects.
    pub(super) parent_port: u16,
    /// Whether all matches are prefixes, which `ReplacePrefixMatch` needs.
    pub(super) only_prefixes: bool,
    /// Whether they are a GRPCRoute's, which knows fewer.
    pub(super) grpc: bool,
}

/// What a list of filters comes to.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) request: HeaderEdits,
    pub(super) response: HeaderEdits,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) cors: Option<Cors>,
    pub(super) authorizer: Option<Arc<Authorizer>>,
}

/// The kinds of filter.
const KINDS: [&str; 8] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "ExtensionRef",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExternalAuth",
];

/// How many of them a GRPCRoute knows.
const GRPC_KINDS: usize = 4;

impl Filters {
    /// Reads filters. What is not supported breaks the rule: Gateway API forbids to skip it.
    pub(super) fn compile(
        written: &[HTTPRouteFilter],
        purpose: Purpose,
        resolve: &mut dyn Resolve,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut filters = Self::default();
        // The host that a header filter sets; a URLRewrite wins over it.
        let mut header_host = None;
        for (index, filter) in written.iter().enumerate() {
            let at = format!("filters[{index}]");
            let repeats = matches!(filter.kind.as_str(), "RequestMirror" | "ExtensionRef");
            if !repeats && written[..index].iter().any(|earlier| earlier.kind == filter.kind) {
                findings.incompatible(
                    &format!("{at}.type"),
                    format!("`{}` is given twice", filter.kind),
                    "put everything into one filter",
                );
                continue;
            }
            contradiction(filter, &at, findings);
            filters.one(filter, &at, purpose, &mut header_host, resolve, findings);
        }
        if filters.redirect.is_some() && filters.rewrite.is_some() {
            findings.incompatible(
                "filters",
                "RequestRedirect and URLRewrite exclude each other",
                "remove one of them",
            );
        }
        if let Some(host) = header_host {
            let rewrite = filters.rewrite.get_or_insert(Rewrite {
                host: None,
                path: None,
            });
            rewrite.host.get_or_insert(host);
        }
        filters
    }

    fn one(
        &mut self,
        filter: &HTTPRouteFilter,
        at: &str,
        purpose: Purpose,
        header_host: &mut Option<Authority>,
        resolve: &mut dyn Resolve,
        findings: &mut Findings<'_>,
    ) {
        let Purpose {
            parent_port,
            only_prefixes,
            grpc,
        } = purpose;
        let kind = match KINDS.iter().position(|kind| *kind == filter.kind) {
            Some(index) if !grpc || index < GRPC_KINDS => KINDS[index],
            _ => {
                let (route, known) = match grpc {
                    true => ("a GRPCRoute", &KINDS[..GRPC_KINDS]),
                    false => ("an HTTPRoute", &KINDS[..]),
                };
                findings.error(
                    &format!("{at}.type"),
                    format!("`{}` is no filter of {route}", filter.kind),
                    &format!("use one of {}", known.join(", ")),
                );
                return;
            }
        };
        let read = match kind {
            "RequestHeaderModifier" => filter.request_header_modifier.as_ref().map(|written| {
                let at = format!("{at}.requestHeaderModifier");
                self.request = header::edits(written, &at, Some(header_host), findings);
            }),
            "ResponseHeaderModifier" => filter.response_header_modifier.as_ref().map(|written| {
                let at = format!("{at}.responseHeaderModifier");
                self.response = header::edits(written, &at, None, findings);
            }),
            "URLRewrite" => filter.url_rewrite.as_ref().map(|written| {
                let at = format!("{at}.urlRewrite");
                self.rewrite = Some(path::rewrite(written, &at, only_prefixes, findings));
            }),
            "RequestRedirect" => filter.request_redirect.as_ref().map(|written| {
                let at = format!("{at}.requestRedirect");
                self.redirect = path::redirect(written, &at, parent_port, only_prefixes, findings);
            }),
            "RequestMirror" => filter.request_mirror.as_ref().map(|written| {
                let at = format!("{at}.requestMirror");
                self.mirrors.extend(mirror(written, &at, resolve, findings));
            }),
            "CORS" => filter.cors.as_ref().map(|written| {
                self.cors = Some(cors::compile(written, &format!("{at}.cors"), findings));
            }),
            "ExternalAuth" => filter.external_auth.as_ref().map(|written| {
                let at = format!("{at}.externalAuth");
                self.authorizer = external_auth::compile(written, &at, resolve, findings);
            }),
            _ => filter.extension_ref.as_ref().map(|written| {
                findings.incompatible(
                    &format!("{at}.extensionRef"),
                    format!("{} `{}` is no filter that we know", written.kind, written.name),
                    "remove it; a filter is never skipped",
                );
            }),
        };
        if read.is_none() {
            findings.error(
                at,
                format!("`{}` says nothing", filter.kind),
                "give the filter its settings",
            );
        }
    }
}

/// A filter that holds another's settings: nobody can tell which was meant.
fn contradiction(filter: &HTTPRouteFilter, at: &str, findings: &mut Findings<'_>) {
    let settings = [
        (
            "RequestHeaderModifier",
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            "ResponseHeaderModifier",
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        ("RequestMirror", "requestMirror", filter.request_mirror.is_some()),
        (
            "RequestRedirect",
            "requestRedirect",
            filter.request_redirect.is_some(),
        ),
        ("URLRewrite", "urlRewrite", filter.url_rewrite.is_some()),
        ("CORS", "cors", filter.cors.is_some()),
        ("ExternalAuth", "externalAuth", filter.external_auth.is_some()),
        ("ExtensionRef", "extensionRef", filter.extension_ref.is_some()),
    ];
    for (kind, field, given) in settings {
        if given && kind != filter.kind {
            findings.incompatible(
                &format!("{at}.{field}"),
                format!(
                    "these are settings of `{kind}`, but the filter is a `{}`",
                    filter.kind
                ),
                "make two filters of it",
            );
        }
    }
}
