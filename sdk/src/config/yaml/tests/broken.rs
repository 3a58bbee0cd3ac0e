//! What guards something and is not understood is kept, with what it guards, and never with what it allows.

use super::*;

#[test]
fn a_policy_with_anything_unknown_in_it_is_broken_and_keeps_its_target() {
    let unknown = "this field is not known, so the policy cannot be enforced as written";
    for (from, to, wrong, selected) in [
        (
            "principals",
            "principles",
            format!("error 11:9 spec.rules[0].from[0].source.principles: {unknown}"),
            true,
        ),
        ("rules:", "ruls:", format!("error 8:3 spec.ruls: {unknown}"), true),
        (
            "matchLabels",
            "matchLabel",
            format!("error 7:5 spec.selector.matchLabel: {unknown}"),
            false,
        ),
        (
            "name: p",
            "name: p\n  namespce: b",
            format!("error 5:3 metadata.namespce: {unknown}"),
            true,
        ),
        (
            "[x]",
            "[1]",
            "error 11:22 spec.rules[0].from[0].source.principals[0]: expected text, found the number 1"
                .into(),
            true,
        ),
        (
            "name: p",
            "name: P_p",
            "error 4:3 metadata.name: `P_p` is not a valid name".into(),
            true,
        ),
        (
            "io/v1\n",
            "io/v9\n",
            "error 1:1 apiVersion: apiVersion `security.istio.io/v9` is not known".into(),
            true,
        ),
        (
            "apiVersion: security.istio.io/v1\n",
            "",
            "error 1:1 apiVersion: apiVersion `` is not known".into(),
            true,
        ),
    ] {
        let parsed = read("a.yaml", &POLICY.replace(from, to), Some("shop"));
        assert_eq!(problems(&parsed), [wrong]);
        let [entry] = &parsed.entries[..] else {
            panic!("{:?}", parsed.entries)
        };
        assert!(entry.broken.is_some());
        let Resource::AuthorizationPolicy(policy) = &entry.resource else {
            panic!()
        };
        assert_eq!(&*policy.metadata.namespace, "shop");
        assert_eq!(policy.spec.selector.is_some(), selected);
        assert!(policy.spec.rules.is_empty());
    }
    let bookkept = POLICY.replace("name: p", "name: p\n  uid: a\n  generation: 1") + "status: {}\n";
    check(&bookkept, &["AuthorizationPolicy shop/p"], &[]);
}

#[test]
fn a_policy_that_is_not_even_yaml_is_broken_wherever_it_may_apply() {
    let broken = |text: &str, namespace| -> Vec<String> {
        let parsed = read("a.yaml", text, namespace);
        assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
        assert!(parsed.entries.iter().all(|entry| entry.broken.is_some()));
        names(&parsed)
    };
    let text = format!("{POLICY}  bad: [\n");
    assert_eq!(broken(&text, Some("shop")), ["AuthorizationPolicy shop/p"]);
    assert_eq!(broken(&text, None), ["AuthorizationPolicy p"]);
    let named = text.replace("name: p", "name: p\n  namespace: b");
    assert_eq!(broken(&named, Some("shop")), ["AuthorizationPolicy b/p"]);
    let json = "{\"kind\": \"PeerAuthentication\", \"metadata\": {\"name\": \"x\"},, }";
    assert_eq!(
        broken(json, Some("shop")),
        ["PeerAuthentication shop/(unnamed, 1:0)"]
    );
    let list = "kind: List\nitems:\n- kind: AuthorizationPolicy\n- kind: AuthorizationPolicy\n  x: [\n";
    assert_eq!(broken(list, Some("shop")).len(), 2);
    assert!(
        read("a.yaml", list, Some("shop"))
            .entries
            .iter()
            .all(|entry| entry.reference().namespace.is_empty())
    );
}

const TLS_POLICY: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\nspec:\n  \
                          targetRefs: [{group: '', kind: Service, name: s, sectionName: web}]\n  validation:\n    \
                          caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]\n    hostname: a.example\n    \
                          subjectAltNames: [{type: URI, uri: 'spiffe://a/b'}]\n";

#[test]
fn a_backend_tls_policy_that_is_not_understood_keeps_its_target() {
    let broken = |text: &str| {
        let parsed = read("a.yaml", text, None);
        let [entry] = parsed.entries.as_slice() else {
            panic!("{text}: {:?}", names(&parsed));
        };
        let Resource::BackendTLSPolicy(policy) = &entry.resource else {
            panic!("{text}: {entry:?}");
        };
        (entry.broken.is_some(), policy.spec.target_refs.len())
    };
    assert_eq!(broken(TLS_POLICY), (false, 1));
    assert_eq!(broken(&TLS_POLICY.replace("hostname", "hostnames")), (true, 1));
    assert_eq!(broken(&TLS_POLICY.replace("a.example", "[a]")), (true, 1));
    assert_eq!(broken(&TLS_POLICY.replace("k8s.io/v1", "k8s.io/v2")), (true, 1));
    assert_eq!(
        broken(&TLS_POLICY.replace("sectionName", "section")),
        (true, 0),
        "everything in its namespace"
    );
    assert_eq!(
        broken(&TLS_POLICY.replace("name: s,", "name: s: ,")),
        (true, 0),
        "not even YAML"
    );
}

#[test]
fn a_gateway_whose_tls_is_not_understood_is_not_used() {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  tls: {frontend: \
                   {default: {validation: {caCertificateRefs: [{name: ca}]}}}}\n  gatewayClassName: istio\n  listeners: [{name: a, port: 80, protocol: HTTP}]\n";
    check(gateway, &["Gateway shop/g"], &[]);
    let wrong = "error 5:30 spec.tls.frontend.default.validations: this field is not known, and without it others could be \
                 let in than are meant";
    check(&gateway.replace("validation", "validations"), &[], &[wrong]);
}
