//! What the schemas of Gateway, ReferenceGrant and XBackendTrafficPolicy (Gateway API v1.6) forbid and nothing here
//! depends on: what is left out lets nobody in.

use super::{Faults, is_dns};
use crate::config::gateway::{Gateway, ReferenceGrant, RouteNamespaces, XBackendTrafficPolicy};
use crate::name::Kind;

/// From where routes may attach.
const FROM: [&str; 4] = ["Same", "All", "Selector", "None"];

pub(super) fn gateway(gateway: &Gateway, faults: &mut Faults) {
    if gateway.spec.gateway_class_name.is_empty() {
        faults.warning(
            "spec.gatewayClassName",
            "no class, which a cluster refuses",
            "name a GatewayClass, such as `istio` or `istio-waypoint`",
        );
    }
    for (index, listener) in gateway.spec.listeners.iter().enumerate() {
        let at = format!("spec.listeners[{index}]");
        if !is_dns(&listener.name, 253, true) {
            faults.warning(
                format!("{at}.name"),
                format!(
                    "`{}` is no name of a listener, which a cluster refuses",
                    listener.name.escape_debug()
                ),
                "use lower-case letters, digits and dashes",
            );
        }
        if let Some(namespaces) = listener
            .allowed_routes
            .as_ref()
            .and_then(|it| it.namespaces.as_ref())
        {
            self::namespaces(namespaces, &format!("{at}.allowedRoutes.namespaces"), faults);
        }
    }
}

fn namespaces(written: &RouteNamespaces, at: &str, faults: &mut Faults) {
    match written.from.as_deref() {
        Some("Selector") if written.selector.is_none() => faults.warning(
            format!("{at}.selector"),
            "there is no selector, so no route attaches",
            "say which labels the namespaces have",
        ),
        Some(from) if !FROM.contains(&from) => faults.warning(
            format!("{at}.from"),
            format!(
                "`{}` is none of {}; no route attaches",
                from.escape_debug(),
                FROM.join(", ")
            ),
            "write Same, All or Selector",
        ),
        _ => {}
    }
}

/// A grant that cannot be for anybody.
pub(super) fn grant(grant: &ReferenceGrant, faults: &mut Faults) {
    let spec = &grant.spec;
    for (field, is_empty) in [
        ("spec.from", spec.from.is_empty()),
        ("spec.to", spec.to.is_empty()),
    ] {
        if is_empty {
            faults.warning(
                field,
                "the list is empty, so nothing is granted",
                "say who may refer to what",
            );
        }
    }
    for (index, from) in spec.from.iter().enumerate() {
        let at = format!("spec.from[{index}]");
        if from.namespace.is_empty() {
            faults.warning(
                format!("{at}.namespace"),
                "no namespace, so nothing is granted",
                "name it",
            );
        }
        kind(&from.group, &from.kind, &at, faults);
    }
    for (index, to) in spec.to.iter().enumerate() {
        kind(&to.group, &to.kind, &format!("spec.to[{index}]"), faults);
    }
}

/// Kinds that we know are of one group; others are their owners' affair.
fn kind(group: &str, kind: &str, at: &str, faults: &mut Faults) {
    const KNOWN: [Kind; 8] = [
        Kind::HTTPRoute,
        Kind::GRPCRoute,
        Kind::TLSRoute,
        Kind::TCPRoute,
        Kind::Gateway,
        Kind::Service,
        Kind::Secret,
        Kind::ConfigMap,
    ];
    if kind.is_empty() {
        faults.warning(format!("{at}.kind"), "no kind, so nothing is granted", "name it");
        return;
    }
    let known = KNOWN.iter().find(|it| it.as_str().eq_ignore_ascii_case(kind));
    match known {
        Some(known) if known.as_str() != kind => faults.warning(
            format!("{at}.kind"),
            format!("`{kind}` is not {known}, so nothing is granted"),
            "write the kind as its resources do",
        ),
        // Other groups may have a kind of the same name.
        Some(known) if known.group() != group && matches!(group, "" | "core") => faults.warning(
            format!("{at}.group"),
            format!(
                "{known} is of group `{}`, not of `{group}`, so nothing is granted",
                known.group()
            ),
            "write the kind's own group; Services, Secrets and ConfigMaps are of the empty one",
        ),
        _ => {}
    }
}

pub(super) fn backend_traffic_policy(policy: &XBackendTrafficPolicy, faults: &mut Faults) {
    if policy.spec.target_refs.is_empty() {
        faults.warning(
            "spec.targetRefs",
            "no target, so the policy applies to nothing",
            "name a Service",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: impl FnOnce(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn who_may_attach_is_one_of_four() {
        let of = |listener: &str| {
            let spec =
                format!("gatewayClassName: istio\nlisteners: [{{port: 80, protocol: HTTP, {listener}}}]");
            let gateway_of = Gateway {
                spec: serde_saphyr::from_str(&spec).unwrap(),
                ..Gateway::default()
            };
            told(|faults| gateway(&gateway_of, faults))
        };
        let at = "spec.listeners[0].allowedRoutes.namespaces";
        assert_eq!(of("name: a"), [""; 0]);
        for from in FROM.iter().filter(|it| **it != "Selector") {
            assert_eq!(
                of(&format!(
                    "name: a, allowedRoutes: {{namespaces: {{from: {from}}}}}"
                )),
                [""; 0]
            );
        }
        let selector =
            "name: a, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}";
        assert_eq!(of(selector), [""; 0]);
        assert_eq!(
            of("name: a, allowedRoutes: {namespaces: {from: all}}"),
            [format!("{at}.from")]
        );
        assert_eq!(
            of("name: a, allowedRoutes: {namespaces: {from: Selector}}"),
            [format!("{at}.selector")]
        );
        assert_eq!(of("name: A"), ["spec.listeners[0].name"]);
        assert_eq!(of("hostname: a.b"), ["spec.listeners[0].name"]);
    }

    #[test]
    fn a_grant_that_grants_nothing_is_told() {
        let of = |spec: &str| {
            let written = ReferenceGrant {
                spec: serde_saphyr::from_str(spec).unwrap(),
                ..ReferenceGrant::default()
            };
            told(|faults| grant(&written, faults))
        };
        let routes = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}";
        assert_eq!(
            of(&format!("from: [{routes}]\nto: [{{group: '', kind: Service}}]")),
            [""; 0]
        );
        assert_eq!(
            of(&format!("from: [{routes}]\nto: [{{kind: Strange, group: x.y}}]")),
            [""; 0]
        );
        assert_eq!(of("{}"), ["spec.from", "spec.to"]);
        assert_eq!(
            of("from: [{kind: HTTPRoute, namespace: a}]\nto: [{group: core, kind: Service}]"),
            ["spec.from[0].group", "spec.to[0].group"]
        );
        assert_eq!(
            of("from: [{group: gateway.networking.k8s.io, kind: HttpRoute}]\nto: [{}]"),
            ["spec.from[0].namespace", "spec.from[0].kind", "spec.to[0].kind"]
        );
    }
}
