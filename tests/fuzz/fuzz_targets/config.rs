//! Any text as configuration: read, compiled for a workload and a waypoint, compiled again upon that, and asked.
#![no_main]

use inmesh::explain::{Question, hop};
use inmesh::snapshot::{Place, Role};
use inmesh_fuzz::{TOWN, compiled, store, waypoint, workload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let store = store(&[TOWN, text]);
    for node in [workload("web-1"), workload("nobody"), waypoint()] {
        let first = compiled(&store, &node, None).snapshot;
        let second = compiled(&store, &node, Some(&first)).snapshot;
        assert_eq!(second.generation, first.generation + 1);
        assert_eq!(second.services.len(), first.services.len());
        for url in [
            "http://web/a/b?q=1",
            "http://plain.default.svc.cluster.local:80/",
            "http://10.96.0.1/x",
        ] {
            let question = Question::new("GET", url)
                .and_then(|it| it.header("x", "1"))
                .expect("it is well-formed");
            let place = match node.role {
                Role::Workload => Place::Workload { port: 8080 },
                Role::Gateway { .. } => match inmesh::name::Host::parse("web.default.svc.cluster.local") {
                    Ok(host) => Place::Service { host, port: 80 },
                    Err(error) => unreachable!("{error}"),
                },
            };
            let _ = hop(&second, None, &question, None, "caller").to_string();
            let _ = hop(&second, Some(&place), &question, None, "callee").to_string();
        }
    }
});
