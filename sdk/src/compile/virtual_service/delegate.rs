//! Delegates: a route of a root VirtualService whose routes stand in another.
//!
//! What root and delegate say is put together match by match; a route of the delegate whose matches are no part of the
//! root's is left out. What both may say (rewrites, timeouts, …) the delegate says for itself.

use std::collections::BTreeMap;

use crate::config::istio::virtual_service::{HTTPMatchRequest, HTTPRoute, StringMatch};

/// A route of the delegate as it applies under a route of the root; `None` if their matches contradict each other.
pub(super) fn merge(root: &HTTPRoute, delegate: &HTTPRoute) -> Option<HTTPRoute> {
    let mut merged = delegate.clone();
    merged.matches = matches(&root.matches, &delegate.matches)?;
    merged.name = joined(root.name.as_deref(), delegate.name.as_deref());
    macro_rules! inherit {
        ($($field:ident),*) => { $(
            if merged.$field.is_none() {
                merged.$field = root.$field.clone();
            }
        )* };
    }
    inherit!(
        rewrite,
        direct_response,
        timeout,
        retries,
        fault,
        mirror,
        mirror_percent,
        mirror_percentage,
        cors_policy,
        headers
    );
    if merged.mirrors.is_empty() {
        merged.mirrors = root.mirrors.clone();
    }
    Some(merged)
}

/// Every match of the delegate under every match of the root that it fits under; `None` if one fits under none.
fn matches(root: &[HTTPMatchRequest], delegate: &[HTTPMatchRequest]) -> Option<Vec<HTTPMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        let only = if root.is_empty() { delegate } else { root };
        return Some(only.to_vec());
    }
    let mut merged = Vec::new();
    for leaf in delegate {
        let before = merged.len();
        merged.extend(
            root.iter()
                .filter(|root| fits(root, leaf))
                .map(|root| both(root, leaf)),
        );
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn both(root: &HTTPMatchRequest, leaf: &HTTPMatchRequest) -> HTTPMatchRequest {
    fn under<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
        let mut all = root.clone();
        all.extend(leaf.iter().map(|(key, value)| (key.clone(), value.clone())));
        all
    }
    let or = |leaf: &Option<StringMatch>, root: &Option<StringMatch>| leaf.clone().or_else(|| root.clone());
    HTTPMatchRequest {
        name: joined(root.name.as_deref(), leaf.name.as_deref()),
        uri: or(&leaf.uri, &root.uri),
        scheme: or(&leaf.scheme, &root.scheme),
        method: or(&leaf.method, &root.method),
        authority: or(&leaf.authority, &root.authority),
        headers: under(&root.headers, &leaf.headers),
        port: leaf.port.filter(|it| *it != 0).or(root.port),
        source_labels: under(&root.source_labels, &leaf.source_labels),
        gateways: if leaf.gateways.is_empty() {
            root.gateways.clone()
        } else {
            leaf.gateways.clone()
        },
        query_params: under(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        without_headers: under(&root.without_headers, &leaf.without_headers),
        source_namespace: leaf
            .source_namespace
            .clone()
            .or_else(|| root.source_namespace.clone()),
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    }
}

/// Whether a match of a delegate is a part of one of the root.
fn fits(root: &HTTPMatchRequest, leaf: &HTTPMatchRequest) -> bool {
    let texts = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let is_set = |it: Option<u16>| it.filter(|it| *it != 0);
    texts
        .into_iter()
        .all(|(root, leaf)| narrows(root.as_ref(), leaf.as_ref()))
        && maps
            .into_iter()
            .all(|(root, leaf)| leaf.iter().all(|(key, leaf)| narrows(root.get(key), Some(leaf))))
        && root.ignore_uri_case == leaf.ignore_uri_case
        && (is_set(root.port).is_none() || is_set(leaf.port).is_none() || root.port == leaf.port)
        && (root.source_namespace.is_none() || root.source_namespace == leaf.source_namespace)
        && leaf
            .source_labels
            .iter()
            .all(|(key, leaf)| root.source_labels.get(key).is_none_or(|root| root == leaf))
        && (root.gateways.is_empty() || leaf.gateways.iter().all(|it| root.gateways.contains(it)))
}

/// Whether what the delegate matches is a part of what the root matches. Expressions are a part of nothing.
fn narrows(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    let (Some(root), Some(leaf)) = (root, leaf) else {
        return true;
    };
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|it| !it.is_empty());
    let others = |it: &StringMatch| is_set(&it.exact) || is_set(&it.prefix) || is_set(&it.regex);
    if (is_set(&root.regex) && others(leaf)) || (is_set(&leaf.regex) && others(root)) {
        return false;
    }
    match (&root.exact, &root.prefix) {
        (Some(exact), _) if !exact.is_empty() => leaf.exact.as_ref() == Some(exact),
        (_, Some(prefix)) if !prefix.is_empty() => {
            let text = leaf
                .prefix
                .as_ref()
                .filter(|it| !it.is_empty())
                .or(leaf.exact.as_ref());
            text.is_some_and(|it| it.starts_with(prefix.as_str()))
        }
        // Neither says anything: what Istio calls a conflict as well.
        _ => false,
    }
}

fn joined(root: Option<&str>, leaf: Option<&str>) -> Option<String> {
    match (root.filter(|it| !it.is_empty()), leaf.filter(|it| !it.is_empty())) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> HTTPRoute {
        serde_saphyr::from_str(text).unwrap()
    }

    /// The paths that the merged route matches; `None` if it is left out.
    fn merged(root: &str, delegate: &str) -> Option<Vec<String>> {
        let merged = merge(&route(root), &route(delegate))?;
        let path = |it: HTTPMatchRequest| {
            let uri = it.uri.unwrap_or_default();
            uri.exact.or(uri.prefix).or(uri.regex).unwrap_or_default()
        };
        Some(merged.matches.into_iter().map(path).collect())
    }

    /// Cases of `TestMergeVirtualServices` and `TestHasConflict`.
    #[test]
    fn matches_of_the_delegate_are_parts_of_the_roots() {
        let under = |leaf: &str| merged("{match: [{uri: {prefix: /a}}]}", leaf);
        assert_eq!(under("{match: [{uri: {prefix: /a/b}}]}").unwrap(), ["/a/b"]);
        assert_eq!(under("{match: [{uri: {exact: /a/b}}]}").unwrap(), ["/a/b"]);
        assert_eq!(under("{}").unwrap(), ["/a"]);
        assert_eq!(under("{match: [{headers: {x: {exact: a}}}]}").unwrap(), ["/a"]);
        assert_eq!(under("{match: [{uri: {prefix: /b}}]}"), None);
        assert_eq!(under("{match: [{uri: {regex: /a.*}}]}"), None);
        assert_eq!(
            under("{match: [{uri: {prefix: /a/b}}, {uri: {prefix: /c}}]}"),
            None
        );
        assert_eq!(
            under("{match: [{uri: {prefix: /a/b}, ignoreUriCase: true}]}"),
            None
        );
        assert_eq!(merged("{}", "{match: [{uri: {regex: /x}}]}").unwrap(), ["/x"]);
        let two = "{match: [{uri: {prefix: /a}}, {uri: {prefix: /a/b}}]}";
        assert_eq!(
            merged(two, "{match: [{uri: {prefix: /a/b/c}}]}").unwrap(),
            ["/a/b/c", "/a/b/c"]
        );
        let exact = "{match: [{uri: {exact: /a}}]}";
        assert_eq!(merged(exact, "{match: [{uri: {prefix: /a}}]}"), None);
        assert_eq!(merged(exact, "{match: [{uri: {exact: /a}}]}").unwrap(), ["/a"]);
        let port = "{match: [{port: 80}]}";
        assert_eq!(merged(port, "{match: [{port: 81}]}"), None);
        assert!(merged(port, "{match: [{method: {exact: GET}}]}").is_some());
        let gateways = "{match: [{gateways: [mesh]}]}";
        assert_eq!(merged(gateways, "{match: [{gateways: [mesh, a]}]}"), None);
        assert!(merged(gateways, "{match: [{gateways: [mesh]}]}").is_some());
    }

    #[test]
    fn the_delegate_speaks_for_itself_and_inherits_the_rest() {
        let root = route("{name: r, timeout: 5s, headers: {request: {set: {a: '1'}}}, match: [{name: m}]}");
        let leaf =
            route("{name: d, timeout: 1s, match: [{name: n, port: 0}], route: [{destination: {host: x}}]}");
        let merged = merge(&root, &leaf).unwrap();
        assert_eq!(merged.name.as_deref(), Some("r-d"));
        assert_eq!(merged.timeout, leaf.timeout);
        assert_eq!(merged.headers, root.headers);
        assert_eq!(merged.route, leaf.route);
        assert_eq!(merged.matches[0].name.as_deref(), Some("m-n"));
    }
}
