//! Any text as a security policy: one more DENY never lets more through, and one for everything lets nothing.
#![no_main]

use http::{HeaderMap, HeaderValue, Method};
use inmesh::name::SpiffeId;
use inmesh::policy::RequestHead;
use inmesh::snapshot::{Place, Snapshot};
use inmesh_fuzz::{TOWN, compiled, store, workload};
use libfuzzer_sys::fuzz_target;

const DENY_X: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: zz-deny-x, namespace: default}\n\
                      spec: {action: DENY, rules: [{to: [{operation: {paths: ['/x*']}}]}]}\n";
const DENY_ALL: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: zz-deny-all, namespace: default}\n\
                        spec: {action: DENY, rules: [{}]}\n";

/// What each of a few requests is answered.
fn answers(view: &Snapshot) -> Vec<bool> {
    let ids = [
        "spiffe://cluster.local/ns/default/sa/curl",
        "spiffe://cluster.local/ns/other/sa/web",
    ];
    let ids = ids.map(|id| SpiffeId::parse(id).expect("it is an identity"));
    let mut headers = HeaderMap::new();
    headers.append("x-role", HeaderValue::from_static("admin"));
    headers.append("x-role", HeaderValue::from_bytes(b"\xff").expect("it is a value"));
    let mut answers = Vec::new();
    for caller in [None, Some(&ids[0]), Some(&ids[1])] {
        for (method, path) in [(Method::GET, "/"), (Method::POST, "/x/y"), (Method::GET, "/x")] {
            let mut head = RequestHead::unsent(&method, "web:80", path, Some("a=b"), &headers);
            head.caller.identity = caller;
            head.destination = ([10, 0, 0, 1], 8080).into();
            answers.push(
                view.authorize(&Place::Workload { port: 8080 }, &head)
                    .is_allowed(),
            );
        }
    }
    answers
}

fuzz_target!(|text: &str| {
    let view = |extra: &str| compiled(&store(&[TOWN, text, extra]), &workload("web-1"), None).snapshot;
    let (before, narrower) = (answers(&view("")), answers(&view(DENY_X)));
    for (before, after) in before.iter().zip(&narrower) {
        assert!(*before || !after, "a DENY policy let a request through");
    }
    assert!(
        answers(&view(DENY_ALL)).iter().all(|allowed| !allowed),
        "something passes a DENY of everything"
    );
});
