//! A wrong answer must fail, whichever part of it is wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::*;

/// A backend's answer to `GET /x`, as it should be.
struct World {
    answer: Answer,
    seen: Vec<Seen>,
}

fn seen(number: u64, deployment: &str) -> Seen {
    Seen {
        number,
        deployment: deployment.to_owned(),
        namespace: "ns".to_owned(),
        pod: format!("{deployment}-1"),
        port: 3000,
        protocol: "HTTP/1.1".to_owned(),
        method: "GET".to_owned(),
        path: "/x?y".to_owned(),
        host: "example.org".to_owned(),
        headers: BTreeMap::from([("x-list".to_owned(), vec!["a".to_owned(), "b".to_owned()])]),
        sni: Some("abc.example.com".to_owned()),
    }
}

fn world() -> World {
    World {
        answer: Answer {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            headers: HeaderMap::from_iter([(
                HeaderName::from_static("x-set"),
                HeaderValue::from_static("a, b"),
            )]),
            trailers: HeaderMap::new(),
            body: Bytes::new(),
        },
        seen: vec![seen(1, "v1")],
    }
}

fn expect(yaml: &str) -> Expect {
    serde_saphyr::from_str(yaml).unwrap()
}

impl World {
    fn compare(&self, comparator: Comparator, yaml: &str) -> Vec<Difference> {
        let exchange = Exchange {
            scheme: Scheme::Http,
            answer: &self.answer,
            echo: self.seen.first(),
            seen: &self.seen,
        };
        http(&expect(yaml), comparator, &exchange)
    }

    fn fits(&self, yaml: &str) -> bool {
        self.compare(Comparator::Http, yaml).is_empty()
    }

    fn redirecting(location: &'static str) -> Self {
        let mut world = world();
        world.seen.clear();
        world.answer.status = StatusCode::FOUND;
        world
            .answer
            .headers
            .insert("location", HeaderValue::from_static(location));
        world
    }
}

#[test]
fn each_field_that_is_stated_is_compared() {
    let table = [
        ("{status: [200]}", "{status: [404]}"),
        ("{status_not: [404]}", "{status_not: [200]}"),
        ("{answered_by: backend}", "{answered_by: dataplane}"),
        (
            "{backend: {name: v1, namespace: ns}}",
            "{backend: {name: v, namespace: ns}}",
        ),
        (
            "{backend: {name: null, namespace: ns}}",
            "{backend: {name: null, namespace: other}}",
        ),
        ("{backend_sees: {method: GET}}", "{backend_sees: {method: PUT}}"),
        ("{backend_sees: {path: /x?y}}", "{backend_sees: {path: /x}}"),
        (
            "{backend_sees: {host: example.org}}",
            "{backend_sees: {host: example.com}}",
        ),
        (
            "{backend_sees: {http_port: '3000'}}",
            "{backend_sees: {http_port: '3001'}}",
        ),
        (
            "{backend_sees: {sni: abc.example.com}}",
            "{backend_sees: {sni: ''}}",
        ),
        (
            "{backend_sees: {headers: {X-List: 'a,b'}}}",
            "{backend_sees: {headers: {X-List: a}}}",
        ),
        (
            "{backend_sees: {absent_headers: [X-None]}}",
            "{backend_sees: {absent_headers: [X-List]}}",
        ),
        (
            "{backend_sees: {headers: {X-List: 'a,b'}}}",
            "{backend_sees: {headers: {X-None: ''}}}",
        ),
        (
            "{response: {headers: {X-Set: 'a, b'}}}",
            "{response: {headers: {X-Set: 'a,b'}}}",
        ),
        (
            "{response: {headers: {X-Set: 'a,b'}, ignore_whitespace: true}}",
            "{response: {headers: {X-Set: 'ab'}, ignore_whitespace: true}}",
        ),
        (
            "{response: {header_one_of: {X-Set: [x, 'a, b']}}}",
            "{response: {header_one_of: {X-Set: [x, y]}}}",
        ),
        (
            "{response: {absent_headers: [X-None]}}",
            "{response: {absent_headers: [x-set]}}",
        ),
        (
            "{response: {protocol: HTTP/1.1}}",
            "{response: {protocol: HTTP/2.0}}",
        ),
        (
            "{response: {protocol: HTTP/1.1}}",
            "{response: {protocol: HTTP/4}}",
        ),
        (
            "{derived: {backend_attempts: 1}}",
            "{derived: {backend_attempts: 2}}",
        ),
    ];
    for (right, wrong) in table {
        assert!(
            world().fits(right),
            "{right}: {:?}",
            world().compare(Comparator::Http, right)
        );
        assert!(!world().fits(wrong), "{wrong}");
    }
}

#[test]
fn what_no_backend_saw_was_not_answered_by_one() {
    let mut world = world();
    world.seen.clear();
    assert!(world.fits("{answered_by: dataplane}"));
    for wrong in [
        "{answered_by: backend}",
        "{backend: {name: null, namespace: ns}}",
        "{backend_sees: {method: GET}}",
    ] {
        assert!(!world.fits(wrong), "{wrong}");
    }
}

#[test]
fn timeouts_are_one_class_only_where_that_is_said() {
    let mut world = world();
    world.answer.status = StatusCode::REQUEST_TIMEOUT;
    assert!(world.fits("{status: [504], timeout_class: true}"));
    assert!(!world.fits("{status: [504]}"));
    assert!(!world.fits("{status: [500], timeout_class: true}"));
}

#[test]
fn response_headers_of_other_statuses_count_where_the_suite_counts_them() {
    let mut world = world();
    world.answer.status = StatusCode::FORBIDDEN;
    let refused = "{status: [200, 204, 403], response: {absent_headers: [x-set]}}";
    assert!(world.fits(refused));
    assert_eq!(world.compare(Comparator::Mesh, refused).len(), 1);
    assert!(!world.fits("{status: [403], response: {absent_headers: [x-set]}}"));
}

#[test]
fn a_redirect_is_taken_apart() {
    let stated = |scheme: &str, host: &str, port: &str, path: &str| {
        format!(
            "{{redirect: {{scheme: {scheme}, host: {host}, port: {port}, path: {path}, not_given_by_suite: []}}}}"
        )
    };
    let plain = World::redirecting("http://example.org/a?kept");
    assert!(plain.fits(&stated("http", "example.org", "null", "/a")));
    assert!(plain.fits(&stated("http", "null", "80", "/a")));
    assert!(!plain.fits(&stated("https", "null", "null", "/a")));
    assert!(!plain.fits(&stated("http", "example.com", "null", "/a")));
    assert!(!plain.fits(&stated("http", "null", "8080", "/a")));
    assert!(!plain.fits(&stated("http", "null", "null", "/")));
    assert!(World::redirecting("https://x:443/a").fits(&stated("https", "x", "null", "/a")));
    assert!(!World::redirecting("http://x:8080/a").fits(&stated("http", "x", "null", "/a")));
    assert!(World::redirecting("/a").fits(&stated("http", "null", "null", "/a")));
    assert!(
        !world().fits(&stated("http", "null", "null", "/a")),
        "there is no Location"
    );
}

#[test]
fn copies_are_counted_apart_from_what_was_answered() {
    let stated = expect("{mirrored_to: [{name: v2, namespace: ns}]}");
    let all = [seen(1, "v1"), seen(2, "v2")];
    assert_eq!(copies(&stated, all.first(), &all), []);
    assert_eq!(copies(&stated, all.first(), &all[..1]).len(), 1, "no copy");
    assert_eq!(
        copies(&stated, all.get(1), &all).len(),
        1,
        "what was answered is no copy"
    );
    let twice = [seen(1, "v1"), seen(2, "v2"), seen(3, "v2")];
    assert_eq!(
        copies(&stated, twice.first(), &twice).len(),
        1,
        "one copy too many"
    );
    let same = [seen(1, "v2"), seen(2, "v2")];
    assert_eq!(
        copies(&stated, same.first(), &same),
        [],
        "a copy to the Deployment that answered"
    );
}

#[test]
fn shares_may_be_missed_by_the_tolerance_and_zero_by_nothing() {
    let distribution: Distribution = serde_saphyr::from_str(
        "{backend_namespace: ns, weights: {a: 0.7, b: 0.3, c: 0.0}, tolerance_abs: 0.05, zero_weight_gets_none: true, \
         max_rounds: 1}",
    )
    .unwrap();
    let counts = |pairs: &[(&str, &str, usize)]| {
        let pairs = pairs
            .iter()
            .map(|(namespace, name, count)| (((*namespace).to_owned(), (*name).to_owned()), *count));
        shares(&distribution, &pairs.collect()).len()
    };
    assert_eq!(counts(&[("ns", "a", 66), ("ns", "b", 34)]), 0);
    assert_eq!(counts(&[("ns", "a", 60), ("ns", "b", 40)]), 2);
    assert_eq!(counts(&[("ns", "a", 69), ("ns", "b", 30), ("ns", "c", 1)]), 1);
    assert_eq!(counts(&[("ns", "a", 70), ("ns", "b", 29), ("ns", "d", 1)]), 1);
    assert_eq!(counts(&[("ns", "a", 70), ("ns", "b", 29), ("other", "a", 1)]), 1);
    assert!(counts(&[]) > 0);
}

#[test]
fn copied_shares_may_be_missed_by_three_standard_deviations() {
    let mirrored = |percent| Mirrored {
        name: "v2".to_owned(),
        namespace: "ns".to_owned(),
        percent,
    };
    assert_eq!(copied(&mirrored(Some(20)), 500, 100), None);
    assert_eq!(copied(&mirrored(Some(20)), 500, 126), None);
    assert!(copied(&mirrored(Some(20)), 500, 127).is_some());
    assert!(copied(&mirrored(None), 500, 499).is_some());
    assert!(copied(&mirrored(Some(0)), 500, 1).is_some());
}

#[test]
fn each_answer_names_its_backend_once() {
    let rule: EveryResponse = serde_saphyr::from_str(
        "{backend_seen_header: Backend, value_count: 1, equals: name of the backend that answered}",
    )
    .unwrap();
    let with = |values: &[&str]| {
        let mut seen = seen(1, "v1");
        seen.headers.insert(
            "backend".to_owned(),
            values.iter().map(|it| (*it).to_owned()).collect(),
        );
        each(&rule, &seen).len()
    };
    assert_eq!(with(&["v1"]), 0);
    assert_eq!(with(&["v2"]), 1);
    assert_eq!(with(&["v1", "v1"]), 1);
    assert_eq!(with(&[]), 1);
}

#[test]
fn a_plain_404_is_unimplemented_and_a_plain_500_is_unknown_to_grpc() {
    let stated = |code: i32| expect(&format!("{{grpc_status: {{name: X, code: {code}}}}}"));
    let differs = |status: StatusCode, code| {
        let mut world = world();
        world.answer.status = status;
        let exchange = Exchange {
            scheme: Scheme::Http,
            answer: &world.answer,
            echo: None,
            seen: &[],
        };
        !rpc(&stated(code), &exchange).is_empty()
    };
    assert!(!differs(StatusCode::NOT_FOUND, 12));
    assert!(!differs(StatusCode::INTERNAL_SERVER_ERROR, 2));
    assert!(differs(StatusCode::INTERNAL_SERVER_ERROR, 14));
    assert!(
        differs(StatusCode::OK, 0),
        "an answer that is no gRPC is no success"
    );
}
