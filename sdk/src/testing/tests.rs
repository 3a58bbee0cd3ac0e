use serde_json::json;

use super::*;

const TOWN: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1, namespace: default}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec: {containers: [{name: app, ports: [{containerPort: 9080}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: v1, namespace: default}
spec:
  selector: {matchLabels: {version: v1}}
  action: DENY
  rules: [{to: [{operation: {paths: [/secret], ports: ['9080']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - from: [{source: {namespaces: [default]}}]
    to: [{operation: {methods: [GET], ports: ['80']}}]
  - from: [{source: {requestPrincipals: ['https://idp/admin']}}]
";

const BOUND: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}
";

const CURL: &str = "cluster.local/ns/default/sa/curl";

#[test]
fn a_workload_is_found_by_its_name_or_its_app() {
    let policies = Policies::from_yaml(TOWN).unwrap();
    for name in ["reviews-v1", "reviews"] {
        let reviews = policies.workload(name, "default");
        reviews
            .request(get("/x").from(CURL))
            .assert_allowed()
            .assert_by("default/readers", 0);
        reviews
            .request(get("/secret").from(CURL))
            .assert_denied()
            .assert_by("default/v1", 0);
        reviews
            .request(get("/x").from("cluster.local/ns/other/sa/curl"))
            .assert_denied();
        reviews.request(get("/x")).assert_denied();
    }
    // Of another version the policy of v1 says nothing.
    let v2 = policies.labelled("default", &[("app", "reviews"), ("version", "v2")]);
    v2.request(get("/secret").from(CURL)).assert_allowed();
    policies
        .workload("nobody", "default")
        .request(get("/x"))
        .assert_allowed();
}

#[test]
fn a_service_is_judged_where_its_policies_are_enforced() {
    for (yaml, at) in [
        (TOWN.to_owned(), "its workloads"),
        (format!("{TOWN}{BOUND}"), "waypoint default/waypoint"),
    ] {
        let policies = Policies::from_yaml(&yaml).unwrap();
        let reviews = policies.service("reviews", "default");
        let verdict = reviews.request(get("/x?a=b").from(&format!("spiffe://{CURL}")));
        verdict.assert_allowed().assert_by("default/readers", 0);
        assert!(verdict.to_string().contains(at), "{verdict}");
        reviews.request(post("/x").from(CURL)).assert_denied();
        let admin = json!({"iss": "https://idp", "sub": "admin"});
        reviews
            .request(post("/x").claims(admin))
            .assert_allowed()
            .assert_by("default/readers", 1);
    }
}

#[test]
fn a_service_that_nobody_declares_is_in_front_of_its_app() {
    let policy = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: cart}], action: DENY, rules: [{}]}
";
    let policies = Policies::from_yaml(policy).unwrap();
    policies
        .service("cart", "shop")
        .request(get("/"))
        .assert_denied()
        .assert_by("shop/closed", 0);
    policies
        .service("other", "shop")
        .request(get("/"))
        .assert_allowed();
    policies.coverage().assert_complete();
}

#[test]
fn a_failing_assertion_says_why() {
    let policies = Policies::from_yaml(TOWN).unwrap();
    let reviews = policies.workload("reviews", "default");
    let failure = |verdict: Verdict| {
        let panic = std::panic::catch_unwind(|| {
            verdict.assert_allowed();
        });
        *panic.unwrap_err().downcast::<String>().unwrap()
    };
    let text = failure(reviews.request(post("/x").from(CURL)));
    for words in [
        "the request should have been allowed",
        "POST /x from cluster.local/ns/default/sa/curl at workload default/reviews is denied",
        "no ALLOW rule matched",
        "ALLOW AuthorizationPolicy default/readers rule 0 does not match: to[0]: method must be `GET`, and is `POST`",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn tokens_are_verified_where_their_keys_are_written() {
    let issuer = Issuer::new();
    let yaml = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: idp, namespace: default}}\n\
         spec: {{selector: {{matchLabels: {{app: reviews}}}}, jwtRules: [{{issuer: https://idp, jwks: '{}'}}]}}\n---\n{TOWN}",
        issuer.jwks()
    );
    let policies = Policies::from_yaml(&yaml).unwrap();
    let reviews = policies.workload("reviews", "default");
    let claims = json!({"iss": "https://idp", "sub": "admin"});
    let good = issuer.token(&claims);
    // The service's policies know only tokens that a RequestAuthentication of the service verified.
    reviews.request(post("/x").bearer(&good)).assert_denied();
    reviews
        .request(get("/x").from(CURL).bearer(&good))
        .assert_allowed();
    let bad = issuer.token_that_is(TokenState::BadSignature, &claims);
    reviews
        .request(get("/x").from(CURL).bearer(&bad))
        .assert_unauthorized();
    let reached: Vec<_> = policies
        .coverage()
        .rules()
        .iter()
        .filter(|it| it.reached)
        .map(|it| it.policy.to_string())
        .collect();
    assert_eq!(
        reached,
        [
            "RequestAuthentication default/idp",
            "AuthorizationPolicy default/readers"
        ]
    );
}

#[test]
fn an_external_authorizer_is_what_the_test_says() {
    let yaml = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: opa
      envoyExtAuthzGrpc: {service: opa.default.svc.cluster.local, port: 9191}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec:
  selector: {matchLabels: {app: a}}
  action: CUSTOM
  provider: {name: opa}
  rules: [{to: [{operation: {paths: [/asked]}}]}]
";
    let policies = Policies::from_yaml(yaml).unwrap();
    let unknown = policies.workload("a", "default").request(get("/asked"));
    assert!(
        unknown.assert_denied().why().contains("Policies::authorizer"),
        "{unknown}"
    );
    let no = policies.clone().authorizer("opa", false);
    no.workload("a", "default")
        .request(get("/asked"))
        .assert_denied()
        .assert_by("default/ask", 0);
    let yes = policies.authorizer("opa", true);
    yes.workload("a", "default")
        .request(get("/asked"))
        .assert_allowed();
    yes.workload("a", "default").request(get("/")).assert_allowed();
}

#[test]
fn a_policy_that_is_wrong_is_no_policy_to_test() {
    let wrong = TOWN.replace("methods:", "methodz:");
    let error = Policies::from_yaml(&wrong).unwrap_err().to_string();
    assert!(error.contains("methodz") && error.contains("(text):"), "{error}");
    assert!(matches!(
        Policies::load("/there/is/nothing"),
        Err(LoadError::Source(_))
    ));
    // What is wrong with routes is another matter.
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: default}
spec: {parentRefs: [{group: '', kind: Service, name: reviews}], rules: [{backendRefs: [{name: missing, port: 80}]}]}
";
    let policies = Policies::from_yaml(&format!("{TOWN}{route}")).unwrap();
    assert!(
        policies
            .problems()
            .iter()
            .any(|problem| problem.text.contains("missing"))
    );
}

#[test]
fn strict_peers_paths_and_methods_are_judged_as_in_the_mesh() {
    let strict = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
    let policies = Policies::from_yaml(&format!("{TOWN}{strict}")).unwrap();
    let reviews = policies.workload("reviews", "default");
    let plain = reviews.request(get("/x"));
    assert!(plain.assert_denied().why().contains("STRICT"), "{plain}");
    reviews
        .request(get("/a/../secret").from(CURL))
        .assert_denied()
        .assert_by("default/v1", 0);
    let odd = reviews.request(get("/x%00").from(CURL));
    assert_eq!(odd.answer(), Answer::BadRequest, "{odd}");
}

#[test]
fn coverage_says_where_what_was_not_reached_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.yaml");
    std::fs::write(&file, TOWN).unwrap();
    let policies = Policies::load(folder.path()).unwrap();
    let reviews = policies.workload("reviews", "default");
    assert_eq!(policies.coverage().reached(), 0);
    // Denied by DENY: that ALLOW would have allowed it tests nothing.
    reviews.request(get("/secret").from(CURL)).assert_denied();
    assert_eq!(policies.coverage().reached(), 1);
    reviews.request(get("/x").from(CURL)).assert_allowed();
    let text = policies.coverage().to_string();
    let line = 1 + TOWN
        .lines()
        .position(|line| line.contains("requestPrincipals"))
        .unwrap();
    assert_eq!(
        text,
        format!(
            "2 of 3 rules reached; no request reached\n  {}:{line}:5: AuthorizationPolicy default/readers rule 1",
            file.display()
        )
    );
}
