//! Fields that are known to have no effect on the traffic we carry, so that nobody need hear of them.
//!
//! Everything else that a file holds and no shape declares is reported as ignored. A field belongs here only if
//! a cluster without it carries the same requests between the same workloads.

use crate::name::Kind;

/// Bookkeeping of the API server, on every object and on pod templates.
const METADATA: &[&str] = &[
    "deletionGracePeriodSeconds",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// How a kubelet runs a pod. What such fields do to traffic (readiness, most of all) shows in the pod's status.
const POD_SPEC: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers[].args",
    "containers[].command",
    "containers[].env",
    "containers[].envFrom",
    "containers[].image",
    "containers[].imagePullPolicy",
    "containers[].lifecycle",
    "containers[].livenessProbe",
    "containers[].readinessProbe",
    "containers[].resizePolicy",
    "containers[].resources",
    "containers[].securityContext",
    "containers[].startupProbe",
    "containers[].stdin",
    "containers[].stdinOnce",
    "containers[].terminationMessagePath",
    "containers[].terminationMessagePolicy",
    "containers[].tty",
    "containers[].volumeDevices",
    "containers[].volumeMounts",
    "containers[].workingDir",
    "enableServiceLinks",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "os",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

/// Fields of one kind. `=` limits an entry to the value that is the API's default and changes nothing.
fn own(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Namespace => &["spec.finalizers"],
        Kind::ServiceAccount => &["automountServiceAccountToken", "imagePullSecrets", "secrets"],
        Kind::Secret | Kind::ConfigMap => &["immutable"],
        Kind::Node => &["spec"],
        Kind::Service => &[
            "spec.allocateLoadBalancerNodePorts",
            "spec.externalTrafficPolicy",
            "spec.healthCheckNodePort",
            "spec.internalTrafficPolicy=Cluster",
            "spec.ipFamilies",
            "spec.ipFamilyPolicy",
            "spec.loadBalancerClass",
            "spec.ports[].nodePort",
            "spec.sessionAffinity=None",
        ],
        Kind::EndpointSlice => &[
            "endpoints[].hostname",
            "endpoints[].targetRef.apiVersion",
            "endpoints[].targetRef.fieldPath",
            "endpoints[].targetRef.resourceVersion",
            "endpoints[].targetRef.uid",
        ],
        Kind::Deployment => &[
            "spec.minReadySeconds",
            "spec.paused",
            "spec.progressDeadlineSeconds",
            "spec.revisionHistoryLimit",
            "spec.strategy",
        ],
        Kind::Gateway => &["spec.infrastructure.annotations", "spec.infrastructure.labels"],
        Kind::GatewayClass => &["spec.description"],
        _ => &[],
    }
}

/// Whether an undeclared field may be passed over in silence.
pub(super) fn is_inert(kind: Kind, field: &str, value: Option<&str>) -> bool {
    if matches!(field, "apiVersion" | "kind" | "status") || field.starts_with("status.") {
        return true;
    }
    let field = without_indexes(field);
    let template = |part| {
        (kind == Kind::Deployment)
            .then(|| field.strip_prefix(part))
            .flatten()
    };
    if let Some(field) = field
        .strip_prefix("metadata.")
        .or_else(|| template("spec.template.metadata."))
    {
        return METADATA.contains(&field);
    }
    let pod = (kind == Kind::Pod).then(|| field.strip_prefix("spec.")).flatten();
    if let Some(field) = pod.or_else(|| template("spec.template.spec.")) {
        return POD_SPEC.contains(&field);
    }
    own(kind).iter().any(|entry| match entry.split_once('=') {
        Some((entry, default)) => entry == field && value == Some(default),
        None => *entry == field,
    })
}

/// Whether a field that no shape declares makes a resource unusable, though it is no policy: to pass over it could let
/// somebody in.
pub(super) fn must_be_known(kind: Kind, field: &str) -> bool {
    match kind {
        Kind::Gateway => field.starts_with("spec.tls"),
        Kind::IstioGateway | Kind::DestinationRule => field.contains(".tls."),
        _ => false,
    }
}

/// Whether a declared field may be left without a value: generators write these so.
pub(super) fn may_be_empty(field: &str) -> bool {
    field.ends_with("metadata.creationTimestamp") || field.starts_with("status")
}

/// `ports[12].nodePort` → `ports[].nodePort`.
fn without_indexes(field: &str) -> String {
    let mut inside = false;
    field
        .chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !(inside && c.is_ascii_digit())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_inert_only_where_it_is_listed() {
        for (kind, field, value, inert) in [
            (Kind::Service, "metadata.uid", None, true),
            (Kind::Service, "metadata.lables", None, false),
            (Kind::Service, "status", None, true),
            (Kind::Service, "statuses", None, false),
            (Kind::Service, "spec.ports[12].nodePort", None, true),
            (Kind::Service, "spec.ports.nodePort", None, false),
            (Kind::Service, "spec.sessionAffinity", Some("None"), true),
            (Kind::Service, "spec.sessionAffinity", Some("ClientIP"), false),
            (
                Kind::Deployment,
                "spec.template.spec.containers[0].image",
                None,
                true,
            ),
            (
                Kind::Deployment,
                "spec.template.metadata.generateName",
                None,
                true,
            ),
            (Kind::Deployment, "spec.template.spec.hostAliases", None, false),
            (Kind::Pod, "spec.containers[0].image", None, true),
            (Kind::HTTPRoute, "spec.containers[0].image", None, false),
            (Kind::Pod, "status.containerStatuses", None, true),
            (Kind::AuthorizationPolicy, "spec.rules[0].form", None, false),
        ] {
            assert_eq!(is_inert(kind, field, value), inert, "{kind} {field}");
        }
    }
}
