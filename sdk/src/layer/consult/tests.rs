//! How requests are told, and what answers do.

use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use prost::Message;

use super::answer::{Changes, How};
use super::message::{
    AppendAction, BoolValue, CheckRequest, CheckResponse, DeniedHttpResponse, Header, HeaderValueOption,
    HttpAnswer, HttpStatus, OkHttpResponse, QueryParameter, Status,
};
use super::*;
use crate::layer::unary::{framed, unframed};
use crate::layer::{Ask, Asking};
use crate::matcher::TextSet;
use crate::name::{Host, Peer, SpiffeId};
use crate::snapshot::{BodyCheck, HttpCheck, Snapshot};

type Said = Result<Response<MeshBody>, Refusal>;

/// Answers what it is told to, and remembers what it was asked.
#[derive(Clone, Default)]
struct Oracle {
    answers: Arc<Mutex<Vec<Said>>>,
    asked: Arc<Mutex<Vec<(::http::request::Parts, Bytes)>>>,
}

impl Oracle {
    fn saying(answer: Result<Response<MeshBody>, Refusal>) -> Self {
        let oracle = Self::default();
        oracle.answers.lock().unwrap().push(answer);
        oracle
    }

    fn grpc(response: &CheckResponse) -> Self {
        let mut answer = Response::new(MeshBody::full(framed(response)));
        answer
            .headers_mut()
            .insert("grpc-status", HeaderValue::from_static("0"));
        Self::saying(Ok(answer))
    }

    fn asked(&self) -> (::http::request::Parts, Bytes) {
        self.asked.lock().unwrap().pop().expect("it was asked")
    }
}

impl Ask for Oracle {
    fn ask(&self, request: Request<MeshBody>) -> Asking {
        let oracle = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            oracle.asked.lock().unwrap().push((parts, body));
            let answer = oracle.answers.lock().unwrap().pop();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

fn authorizer(protocol: CheckProtocol) -> Authorizer {
    Authorizer {
        name: "opa".into(),
        host: Host::parse("opa.default.svc.cluster.local").unwrap(),
        port: 9191,
        timeout: Some(Duration::from_millis(250)),
        fail_open: false,
        status_on_error: StatusCode::FORBIDDEN,
        body: None,
        protocol,
    }
}

/// All headers are told.
fn by_grpc() -> CheckProtocol {
    CheckProtocol::Grpc {
        told: TextSet::default(),
    }
}

fn call(body: &'static str) -> Call {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/things?x=1&y=2")
        .header("host", "reviews:9080")
        .header("authorization", "Bearer t")
        .header("cookie", "a=b")
        .header("x-token", "one")
        .header("x-token", "two")
        .header("x-request-id", "r1")
        .body(MeshBody::from(body))
        .unwrap();
    let peer = Peer::new(
        Some(SpiffeId::parse("spiffe://cluster.local/ns/default/sa/curl").unwrap()),
        "10.0.0.9:4711".parse().unwrap(),
        "10.0.0.1:9080".parse().unwrap(),
    );
    Call {
        request: Box::new(request),
        view: Arc::new(Snapshot::default()),
        place: Some(Arc::new(Place::Workload { port: 9080 })),
        peer: Some(Arc::new(peer)),
        found: Default::default(),
        dialled: None,
        notes: None,
    }
}

async fn consulted(authorizer: Authorizer, call: Call, oracle: &Oracle) -> Result<Passed, Refusal> {
    let policy = ResourceRef::new(crate::name::Kind::AuthorizationPolicy, "default", "ask");
    let asked = vec![(Arc::new(authorizer), policy)];
    consult(call, asked, Asker::new(oracle.clone()), Meter::new()).await
}

fn option(key: &str, value: &str, append: Option<bool>, action: AppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(Header {
            key: key.into(),
            value: value.into(),
            raw_value: Bytes::new(),
        }),
        append: append.map(|value| BoolValue { value }),
        append_action: action as i32,
    }
}

fn set(key: &str, value: &str) -> HeaderValueOption {
    option(key, value, None, AppendAction::AppendIfExistsOrAdd)
}

#[tokio::test]
async fn a_grpc_authorizer_is_told_who_asks_for_what_and_changes_headers() {
    let ok = OkHttpResponse {
        headers: vec![
            set("x-user", "jason"),
            option("x-token", "three", Some(true), AppendAction::AppendIfExistsOrAdd),
            option("x-new", "added", Some(true), AppendAction::AppendIfExistsOrAdd),
            option("x-request-id", "kept", None, AppendAction::AddIfAbsent),
            set(":path", "/admin"),
            set("host", "elsewhere"),
            set("bad name", "x"),
        ],
        headers_to_remove: vec!["cookie".into(), "host".into(), ":method".into()],
        response_headers_to_add: vec![set("x-decided-by", "opa")],
        query_parameters_to_set: vec![QueryParameter {
            key: "y".into(),
            value: "a b".into(),
        }],
        query_parameters_to_remove: vec!["x".into()],
    };
    let oracle = Oracle::grpc(&CheckResponse {
        status: Some(Status::default()),
        http_response: Some(HttpAnswer::Ok(ok)),
    });
    let with_body = Authorizer {
        body: Some(BodyCheck {
            max: 64,
            partial: false,
            raw: false,
        }),
        ..authorizer(by_grpc())
    };
    let passed = consulted(with_body, call("hello"), &oracle)
        .await
        .expect("it is allowed");

    let (parts, body) = oracle.asked();
    assert_eq!(
        parts.uri,
        "http://opa.default.svc.cluster.local:9191/envoy.service.auth.v3.Authorization/Check"
    );
    assert_eq!(parts.headers["grpc-timeout"], "250m");
    let told = CheckRequest::decode(unframed(&body).unwrap())
        .unwrap()
        .attributes
        .unwrap();
    let http = told.request.unwrap().http.unwrap();
    assert_eq!(
        (http.method.as_str(), http.path.as_str(), http.host.as_str()),
        ("POST", "/v1/things?x=1&y=2", "reviews:9080")
    );
    assert_eq!(
        (http.headers["x-token"].as_str(), http.headers[":path"].as_str()),
        ("one,two", "/v1/things?x=1&y=2")
    );
    assert_eq!((http.body.as_str(), http.id.as_str()), ("hello", "r1"));
    let source = told.source.unwrap();
    assert_eq!(source.principal, "spiffe://cluster.local/ns/default/sa/curl");
    assert_eq!(source.address.unwrap().socket_address.unwrap().port_value, 4711);

    let request = &passed.call.request;
    assert_eq!(request.uri().to_string(), "/v1/things?y=a%20b");
    assert_eq!(request.headers()["x-user"], "jason");
    assert_eq!(request.headers()["host"], "reviews:9080");
    assert_eq!(request.headers()["x-request-id"], "r1");
    let tokens: Vec<_> = request.headers().get_all("x-token").iter().collect();
    assert_eq!(tokens, ["one,three", "two"]);
    assert!(!request.headers().contains_key("cookie") && !request.headers().contains_key("x-new"));
    assert!(!request.headers().contains_key("x-envoy-auth-partial-body"));
    assert_eq!(passed.headers["x-decided-by"], "opa");
    assert_eq!(
        passed
            .call
            .request
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes(),
        "hello"
    );
}

#[tokio::test]
async fn a_denial_is_the_authorizers_own_answer() {
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: 401 }),
        headers: vec![set("www-authenticate", "Basic"), set("content-length", "999")],
        body: "no".into(),
    };
    let oracle = Oracle::grpc(&CheckResponse {
        status: Some(Status {
            code: 7,
            message: String::new(),
        }),
        http_response: Some(HttpAnswer::Denied(denied)),
    });
    let refusal = consulted(authorizer(by_grpc()), call(""), &oracle)
        .await
        .expect_err("it is denied");
    assert_eq!(
        (refusal.status.as_u16(), refusal.reason.flag(), &*refusal.body),
        (401, "UAEX", "no")
    );
    let response = refusal.into_response(false);
    assert_eq!(response.headers()["www-authenticate"], "Basic");
    assert!(!response.headers().contains_key("content-length"));

    let bare = Oracle::grpc(&CheckResponse {
        status: Some(Status {
            code: 16,
            message: String::new(),
        }),
        http_response: None,
    });
    let refusal = consulted(authorizer(by_grpc()), call(""), &bare)
        .await
        .expect_err("it is denied");
    assert_eq!((refusal.status.as_u16(), &*refusal.body), (403, ""));
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_cannot_be_asked_denies_unless_it_fails_open() {
    let failures = [
        Oracle::default(), // never answers
        Oracle::saying(Err(Refusal::new(Reason::NoEndpoint, "nobody"))),
        Oracle::saying(Ok(Response::builder()
            .status(503)
            .body(MeshBody::empty())
            .unwrap())),
        Oracle::saying(Ok(Response::new(MeshBody::from("not grpc")))),
        Oracle::saying(Ok(Response::builder()
            .header("grpc-status", "14")
            .body(MeshBody::empty())
            .unwrap())),
    ];
    for oracle in failures {
        let strict = Authorizer {
            status_on_error: StatusCode::SERVICE_UNAVAILABLE,
            ..authorizer(by_grpc())
        };
        let refusal = consulted(strict, call(""), &oracle)
            .await
            .expect_err("it is denied");
        assert_eq!(
            (refusal.status.as_u16(), refusal.reason),
            (503, Reason::Authorizer)
        );
        assert!(
            refusal.detail.starts_with("ext_authz_error"),
            "{}",
            refusal.detail
        );
        let open = Authorizer {
            fail_open: true,
            ..authorizer(by_grpc())
        };
        assert!(consulted(open, call(""), &Oracle::default()).await.is_ok());
    }
    let broken = Oracle::saying(Ok(Response::builder()
        .status(500)
        .body(MeshBody::empty())
        .unwrap()));
    assert!(
        consulted(authorizer(http_protocol()), call(""), &broken)
            .await
            .is_err()
    );
}

fn http_protocol() -> CheckProtocol {
    CheckProtocol::Http(Box::new(HttpCheck {
        prefix: "/check".into(),
        told: TextSet::parse(["x-to*"]),
        besides: vec![(
            HeaderName::from_static("x-from"),
            HeaderValue::from_static("mesh"),
        )],
        upstream: TextSet::parse(["x-user"]),
        on_deny: TextSet::parse(["x-reason"]),
        on_allow: TextSet::parse(["x-decided-by"]),
    }))
}

#[tokio::test]
async fn an_http_authorizer_sees_the_request_and_the_headers_it_is_to_be_told() {
    let answer = Response::builder()
        .header("x-user", "jason")
        .header("x-decided-by", "opa")
        .header("x-other", "dropped")
        .header("x-envoy-auth-headers-to-remove", "cookie, host")
        .body(MeshBody::from("fine"))
        .unwrap();
    let oracle = Oracle::saying(Ok(answer));
    let passed = consulted(authorizer(http_protocol()), call("body"), &oracle)
        .await
        .expect("it is allowed");
    let (parts, body) = oracle.asked();
    assert_eq!(parts.method, Method::POST);
    assert_eq!(
        parts.uri,
        "http://opa.default.svc.cluster.local:9191/check/v1/things?x=1&y=2"
    );
    assert_eq!(parts.headers["host"], "reviews:9080");
    assert_eq!(parts.headers["authorization"], "Bearer t");
    assert_eq!(
        (
            parts.headers["x-from"].as_bytes(),
            parts.headers["content-length"].as_bytes()
        ),
        (&b"mesh"[..], &b"0"[..])
    );
    assert_eq!(parts.headers.get_all("x-token").iter().count(), 2);
    assert!(!parts.headers.contains_key("cookie") && body.is_empty());
    let headers = passed.call.request.headers();
    assert_eq!(headers["x-user"], "jason");
    assert!(
        !headers.contains_key("cookie") && !headers.contains_key("x-other") && headers.contains_key("host")
    );
    assert_eq!(passed.headers["x-decided-by"], "opa");

    let answer = Response::builder()
        .status(302)
        .header("location", "https://login/")
        .header("x-reason", "who are you")
        .header("x-other", "dropped")
        .body(MeshBody::from("go away"))
        .unwrap();
    let refusal = consulted(authorizer(http_protocol()), call(""), &Oracle::saying(Ok(answer)))
        .await
        .expect_err("denied");
    let response = refusal.into_response(false);
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "https://login/");
    assert_eq!(response.headers()["x-reason"], "who are you");
    assert!(!response.headers().contains_key("x-other"));
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "go away"
    );
}

#[tokio::test]
async fn a_body_is_told_as_far_as_is_asked_for_and_goes_on_whole() {
    let limited = |partial| Authorizer {
        body: Some(BodyCheck {
            max: 4,
            partial,
            raw: true,
        }),
        ..authorizer(by_grpc())
    };
    let yes = || Oracle::grpc(&CheckResponse::default());
    let refusal = consulted(limited(false), call("too long"), &yes())
        .await
        .expect_err("it is refused");
    assert_eq!(refusal.status, 413);
    let oracle = yes();
    let passed = consulted(limited(true), call("too long"), &oracle)
        .await
        .expect("it is allowed");
    let (_, told) = oracle.asked();
    let told = CheckRequest::decode(unframed(&told).unwrap()).unwrap();
    let told = told.attributes.unwrap().request.unwrap().http.unwrap();
    assert_eq!(told.raw_body, "too ");
    // The authorizer is told that it sees a part, the application is not.
    assert_eq!(told.headers["x-envoy-auth-partial-body"], "true");
    assert!(
        !passed
            .call
            .request
            .headers()
            .contains_key("x-envoy-auth-partial-body")
    );
    assert_eq!(
        passed
            .call
            .request
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes(),
        "too long"
    );
}

#[test]
fn headers_are_set_and_added_as_the_answer_says() {
    let name = HeaderName::from_static("x");
    let after = |present: bool, how: How| {
        let mut request = Request::new(());
        if present {
            request
                .headers_mut()
                .insert(&name, HeaderValue::from_static("old"));
        }
        let changes = Changes {
            headers: vec![(name.clone(), HeaderValue::from_static("new"), how)],
            ..Changes::default()
        };
        changes.apply(&mut request, &mut HeaderMap::new()).unwrap();
        let values = request
            .headers()
            .get_all(&name)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned());
        values.collect::<Vec<_>>().join(",")
    };
    for (how, present, absent) in [
        (How::Set, "new", "new"),
        (How::Add, "old,new", "new"),
        (How::AddToPresent, "old,new", ""),
        (How::IfAbsent, "old", "new"),
        (How::IfPresent, "new", ""),
    ] {
        assert_eq!(
            (after(true, how).as_str(), after(false, how).as_str()),
            (present, absent),
            "{how:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_changed_as_it_is_asked_for_is_not_let_through() {
    let allowed = |ok: OkHttpResponse| CheckResponse {
        http_response: Some(HttpAnswer::Ok(ok)),
        ..CheckResponse::default()
    };
    // More names than a map of headers can hold.
    let many = (0..40_000).map(|at| set(&format!("x{at}"), "")).collect();
    let headers = allowed(OkHttpResponse {
        headers: many,
        ..OkHttpResponse::default()
    });
    // Without the parameter that is to be taken away it would have to be sent with one that no path has room for.
    let query = allowed(OkHttpResponse {
        query_parameters_to_set: vec![QueryParameter {
            key: "z".into(),
            value: "z".repeat(70_000),
        }],
        query_parameters_to_remove: vec!["x".into()],
        ..OkHttpResponse::default()
    });
    for (answer, why) in [(headers, "40000 header fields"), (query, "query")] {
        let refusal = consulted(authorizer(by_grpc()), call(""), &Oracle::grpc(&answer))
            .await
            .unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert!(refusal.detail.contains(why), "{}", refusal.detail);
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_a_check_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        if let Some(message) = unframed(&bytes) {
            let _ = CheckResponse::decode(message);
        }
        let _ = CheckResponse::decode(bytes);
    }
}

#[tokio::test]
async fn a_filter_of_a_route_says_which_headers_pass_to_and_fro() {
    let oracle = Oracle::grpc(&CheckResponse::default());
    let told = CheckProtocol::Grpc {
        told: TextSet::parse(["x-token"]),
    };
    consulted(authorizer(told), call(""), &oracle)
        .await
        .expect("it is allowed");
    let (_, body) = oracle.asked();
    let told = CheckRequest::decode(unframed(&body).unwrap()).unwrap();
    let told = told.attributes.unwrap().request.unwrap().http.unwrap().headers;
    let mut names: Vec<_> = told.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, [":authority", ":method", ":path", ":scheme", "x-token"]);

    // All headers of the answer are those that may be true of the request.
    let all = CheckProtocol::Http(Box::new(HttpCheck {
        upstream: TextSet::parse(["*"]),
        ..HttpCheck::default()
    }));
    let answer = Response::builder()
        .header("x-user", "jason")
        .header("content-type", "text/html")
        .header("content-length", "3")
        .header("host", "elsewhere")
        .header("date", "today")
        .body(MeshBody::from("yes"))
        .unwrap();
    let passed = consulted(authorizer(all), call("{}"), &Oracle::saying(Ok(answer)))
        .await
        .expect("it is allowed");
    let headers = passed.call.request.headers();
    assert_eq!(headers["x-user"], "jason");
    assert_eq!(headers["host"], "reviews:9080");
    for name in ["content-type", "content-length", "date"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}
