//! Fields that a shape declares and that nothing enforces: whoever writes one is told, with its place.
//!
//! An entry goes when an engine takes the field up. (A field that no shape declares needs no entry: it is reported
//! because nobody asked for it.)

use super::node::{Mark, Node, Value};
use crate::name::Kind;

/// Of `VirtualService`.
const VIRTUAL_SERVICE: &[&str] = &[
    "spec.http[].match[].statPrefix",
    "spec.tcp[].match[].sourceSubnet",
];

/// Of a `Gateway` of Istio's.
const ISTIO_GATEWAY: &[&str] = &[
    "spec.servers[].bind",
    "spec.servers[].defaultEndpoint",
    "spec.servers[].port.targetPort",
];

/// Where a `DestinationRule` has traffic policies.
const TRAFFIC_POLICIES: [&str; 4] = [
    "spec.trafficPolicy",
    "spec.trafficPolicy.portLevelSettings[]",
    "spec.subsets[].trafficPolicy",
    "spec.subsets[].trafficPolicy.portLevelSettings[]",
];

/// Of each of these.
const TRAFFIC_POLICY: &[&str] = &[
    "loadBalancer.zoneAwareLbSetting.minClusterSize",
    "proxyProtocol",
    "tunnel",
];

/// The idle fields that an object has, each with its path and the place of its key.
pub(super) fn present(kind: Kind, node: &Node) -> Vec<(String, Mark)> {
    let mut found = Vec::new();
    match kind {
        Kind::VirtualService => VIRTUAL_SERVICE
            .iter()
            .for_each(|path| walk(node, path, String::new(), &mut found)),
        Kind::IstioGateway => ISTIO_GATEWAY
            .iter()
            .for_each(|path| walk(node, path, String::new(), &mut found)),
        Kind::DestinationRule => {
            for within in TRAFFIC_POLICIES {
                for field in TRAFFIC_POLICY {
                    walk(node, &format!("{within}.{field}"), String::new(), &mut found);
                }
            }
        }
        _ => {}
    }
    found
}

/// Follows a path such as `spec.http[].fault` into every item of its lists.
fn walk(node: &Node, path: &str, so_far: String, found: &mut Vec<(String, Mark)>) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (key, is_list) = match step.strip_suffix("[]") {
        Some(key) => (key, true),
        None => (step, false),
    };
    let Value::Map(fields) = &node.value else { return };
    let Some(field) = fields.iter().find(|field| &*field.key == key) else {
        return;
    };
    let here = match &*so_far {
        "" => key.to_owned(),
        parent => format!("{parent}.{key}"),
    };
    match (&field.node.value, is_list) {
        // Counts as absent, and is told as such.
        (Value::Null, _) => {}
        (_, false) if rest.is_empty() => found.push((here, field.at)),
        (_, false) => walk(&field.node, rest, here, found),
        (Value::List(items), true) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, rest, format!("{here}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_fields_are_found_in_every_item_with_their_place() {
        let text = "spec:\n  trafficPolicy:\n    proxyProtocol: {}\n    tls:\n  subsets:\n  - name: a\n  - name: b\n    \
                    trafficPolicy:\n      portLevelSettings:\n      - port: {number: 80}\n        proxyProtocol: {version: V1}\n";
        let node = Node::parse(text).unwrap();
        let found: Vec<_> = present(Kind::DestinationRule, &node)
            .into_iter()
            .map(|(field, at)| format!("{field} {}:{}", at.line, at.column))
            .collect();
        assert_eq!(
            found,
            [
                "spec.trafficPolicy.proxyProtocol 3:5",
                "spec.subsets[1].trafficPolicy.portLevelSettings[0].proxyProtocol 11:9",
            ]
        );
        assert!(present(Kind::Service, &node).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_document_nothing_panics(text in "(spec|subsets|- |: |\n  ?|trafficPolicy|\\[\\]|a){0,12}") {
            if let Ok(node) = Node::parse(&text) {
                present(Kind::DestinationRule, &node);
            }
        }
    }
}
