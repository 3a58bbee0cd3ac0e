//! What is refused, field by field.

use crate::config::yaml::read;

/// The fields that are refused.
fn refused(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
    );
    let parsed = read("a.yaml", &text, None);
    let mut fields: Vec<_> = parsed
        .problems
        .into_iter()
        .filter(|it| it.severity == crate::config::Severity::Error)
        .map(|it| it.field)
        .collect();
    // One that speaks of TLS stays, for its host's sake, as one that cannot be used.
    let usable = parsed.entries.iter().any(|it| it.broken.is_none());
    assert_eq!(usable, fields.is_empty(), "{spec}");
    fields.sort();
    fields
}

#[test]
fn what_istio_refuses_is_refused_with_its_field() {
    for (spec, expected) in [
        (
            "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}",
            &[][..],
        ),
        (
            "{host: '*.example.com', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
            &[],
        ),
        ("{}", &["spec.host"]),
        ("{host: 'a..b'}", &["spec.host"]),
        ("{host: a, trafficPolicy: {}}", &["spec.trafficPolicy"]),
        (
            "{host: a, subsets: [{name: v1}, {name: v1}]}",
            &["spec.subsets[1].name"],
        ),
        ("{host: a, subsets: [{name: 'v_1'}]}", &["spec.subsets[0].name"]),
        (
            "{host: a, subsets: [{name: v1, labels: {version: 'a b'}}]}",
            &["spec.subsets[0].labels.version"],
        ),
        (
            "{host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}",
            &["spec.trafficPolicy.loadBalancer.simple"],
        ),
        (
            "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}}}",
            &["spec.trafficPolicy.loadBalancer.consistentHash"],
        ),
        (
            "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {maglev: {tableSize: 100}}}}}",
            &["spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize"],
        ),
        (
            "{host: a, trafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}}",
            &["spec.trafficPolicy.portLevelSettings[0].port"],
        ),
        (
            "{host: a, trafficPolicy: {connectionPool: {}}}",
            &["spec.trafficPolicy.connectionPool"],
        ),
        (
            "{host: a, trafficPolicy: {connectionPool: {http: {idleTimeout: 1us}}}}",
            &["spec.trafficPolicy.connectionPool.http.idleTimeout"],
        ),
        (
            "{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s}}}}",
            &[],
        ),
        (
            "{host: a, trafficPolicy: {connectionPool: {http: {maxRetries: -1}}}}",
            &["spec.trafficPolicy.connectionPool.http.maxRetries"],
        ),
        (
            "{host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 3, maxEjectionPercent: 101}}}",
            &[
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
            ],
        ),
        (
            "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}}",
            &["spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to"],
        ),
        (
            "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}",
            &[
                "spec.trafficPolicy.tls.clientCertificate",
                "spec.trafficPolicy.tls.privateKey",
            ],
        ),
        ("{host: a, exportTo: ['*', b]}", &["spec.exportTo"]),
        ("{host: a, exportTo: [., shop]}", &["spec.exportTo[1]"]),
        ("{host: a, exportTo: ['~']}", &["spec.exportTo[0]"]),
        (
            "{host: a, exportTo: [other], workloadSelector: {matchLabels: {app: x}}}",
            &["spec.exportTo"],
        ),
        (
            "{host: a, trafficPolicy: {loadBalancer: {warmup: {aggression: 0}}}}",
            &[
                "spec.trafficPolicy.loadBalancer.warmup.aggression",
                "spec.trafficPolicy.loadBalancer.warmup.duration",
            ],
        ),
    ] {
        assert_eq!(refused(spec), expected, "{spec}");
    }
}
