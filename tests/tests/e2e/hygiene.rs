//! Requests that mean one thing to a policy and another to an application: refused, or made to mean one thing.
//!
//! The numbers are the rows of the list of bad inputs that we work through.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use inmesh_tests::kit::frames::{self, END_HEADERS, END_STREAM, Raw, frame, kind};
use inmesh_tests::kit::{Door, House};

at_every_door!(
    row_23_dot_segments_with_parameters_are_refused_cve_2026_73551_73553_73511,
    row_24_every_spelling_of_a_path_meets_the_policy_cve_2019_9901_cve_2021_29492_cve_2021_31920,
    row_25_a_fragment_is_no_part_of_a_path_cve_2021_32779_cve_2021_39156,
    row_26_a_path_without_a_leading_slash_is_refused_cve_2026_33186,
    row_27_a_host_is_one_and_compared_in_one_form_cve_2021_39155,
    row_28_a_policy_sees_every_value_of_a_header_cve_2026_26308,
    row_29_header_bytes_that_are_no_text_deny_cve_2026_73552,
    row_32_ambiguous_lengths_smuggle_nothing_cve_2026_58055,
    row_32_http2_carries_no_field_that_http1_would_read_otherwise,
    row_35_a_header_named_in_connection_stays_for_policy_and_application_cwe_444,
    row_36_grpc_timeouts_beyond_measure_do_no_harm,
    expectations_are_answered,
    there_is_an_end_to_header_fields_and_their_size,
);

/// A policy for the service, wherever it is enforced: the Gateway's own stands beside it.
fn policy(action: &str, rules: &str) -> String {
    let one = |name: &str, target: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
             targetRefs: [{target}]\n  action: {action}\n  rules: {rules}\n"
        )
    };
    let service = one("service", "{group: '', kind: Service, name: reviews}");
    let gateway = one(
        "gateway",
        "{group: gateway.networking.k8s.io, kind: Gateway, name: ingress}",
    );
    format!("{service}---\n{gateway}")
}

async fn guarded(door: Door, action: &str, rules: &str) -> Result<House> {
    House::build(door, &[("policy", &policy(action, rules))]).await
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\nHost: reviews:9080\n")
}

async fn row_23_dot_segments_with_parameters_are_refused_cve_2026_73551_73553_73511(
    door: Door,
) -> Result<()> {
    let house = guarded(door, "DENY", "[{to: [{operation: {paths: [/admin*]}}]}]").await?;
    for path in [
        "/public/..;x=y/admin",
        "/..;/admin",
        "/public/%2e%2e;/admin",
        "/.;/admin",
        "/x/..;",
    ] {
        assert_eq!(house.ask(&get(path)).await?.status, 400, "{path}");
    }
    assert_eq!(house.served(), 0);
    // A parameter elsewhere is part of its segment, for the policy as for the application.
    assert_eq!(house.ask(&get("/admin;a=b")).await?.status, 403);
    assert_eq!(
        house.ask(&get("/public;a=b/x")).await?.seen()?.path,
        "/public;a=b/x"
    );
    Ok(())
}

async fn row_24_every_spelling_of_a_path_meets_the_policy_cve_2019_9901_cve_2021_29492_cve_2021_31920(
    door: Door,
) -> Result<()> {
    let house = guarded(door, "DENY", "[{to: [{operation: {paths: [/admin, /admin/*]}}]}]").await?;
    for path in [
        "/admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%2E./admin/x",
        "/./admin",
        "/%61dmin",
        "/%61%64%6d%69%6e/",
        "/public/..\\admin",
        "/admin\\x",
        "/../../admin",
        "/a/b/../../admin",
        "/admin?x",
    ] {
        assert_eq!(house.ask(&get(path)).await?.status, 403, "{path}");
    }
    assert_eq!(house.ask(&get("/admin%00")).await?.status, 400);
    assert_eq!(house.served(), 0);
    // What is let through arrives as it was judged: nothing is decoded later that was not decoded before.
    for (path, judged) in [
        ("/public/%2fadmin", "/public/%2fadmin"),
        ("/public/..%2fadmin", "/public/..%2fadmin"),
        ("/public/..%5cadmin", "/public/..%5cadmin"),
        ("/%2561dmin", "/%2561dmin"),
        ("/%2%65%2%65/admin", "/%2%65%2%65/admin"),
        ("//admin", "//admin"),
        ("/%c0%ae%c0%ae/admin", "/%c0%ae%c0%ae/admin"),
        ("/public/./x/../%7Euser?q=/../%61", "/public/~user?q=/../%61"),
    ] {
        assert_eq!(house.ask(&get(path)).await?.seen()?.path, judged, "{path}");
    }
    Ok(())
}

async fn row_25_a_fragment_is_no_part_of_a_path_cve_2021_32779_cve_2021_39156(door: Door) -> Result<()> {
    let house = guarded(door, "DENY", "[{to: [{operation: {paths: [/admin]}}]}]").await?;
    for path in ["/admin#", "/admin#/public", "/public/../admin#x"] {
        assert_eq!(house.ask(&get(path)).await?.status, 403, "{path}");
    }
    assert_eq!(
        house.ask(&get("/public#/../admin")).await?.seen()?.path,
        "/public"
    );
    let mut raw = Raw::begin(house.knock_at(9080).await?).await?;
    let head = frames::block(&frames::get("reviews:9080", "/admin#/public"));
    raw.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &head))
        .await?;
    assert_eq!(raw.outcome(1).await?, frames::Came::Head { status: Some(403) });
    Ok(())
}

async fn row_26_a_path_without_a_leading_slash_is_refused_cve_2026_33186(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    for target in ["admin", "Svc/Method", "*", "?x", "reviews:9080"] {
        assert_eq!(house.ask(&get(target)).await?.status, 400, "{target}");
    }
    let mut raw = Raw::begin(house.knock().await?).await?;
    for (n, path) in ["Svc/Method", "admin", "*", "", "../admin"]
        .into_iter()
        .enumerate()
    {
        let stream = n as u32 * 2 + 1;
        let head = frames::block(&frames::get("reviews:9080", path));
        raw.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head))
            .await?;
        let came = raw.outcome(stream).await?;
        assert!(
            came.is_refusal() && !matches!(came, frames::Came::Closed),
            "{path:?}: {came:?}"
        );
    }
    assert_eq!(house.served(), 0);
    // A query alone stands for the root's, and is forwarded so.
    let head = frames::block(&frames::get("reviews:9080", "?x"));
    raw.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 101, &head))
        .await?;
    assert_eq!(raw.outcome(101).await?, frames::Came::Head { status: Some(200) });
    Ok(())
}

async fn row_27_a_host_is_one_and_compared_in_one_form_cve_2021_39155(door: Door) -> Result<()> {
    let house = guarded(
        door,
        "DENY",
        "[{to: [{operation: {hosts: ['secret.example:9080', 'secret.example']}}]}]",
    )
    .await?;
    let ask = async |target: &str, hosts: &[&str]| -> Result<u16> {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\n")).collect();
        Ok(house
            .ask(&format!("GET {target} HTTP/1.1\n{hosts}"))
            .await?
            .status)
    };
    for host in ["secret.example", "Secret.Example", "SECRET.EXAMPLE:9080"] {
        assert_eq!(ask("/", &[host]).await?, 403, "{host}");
    }
    assert_eq!(ask("http://Secret.Example/", &["secret.example"]).await?, 403);
    assert_eq!(ask("http://Secret.Example/", &["secret.example.:80"]).await?, 403);
    for (target, hosts) in [
        ("/", &[][..]),
        ("/", &["reviews", "secret.example"]),
        ("/", &["reviews:9080", "reviews:9080"]),
        ("http://reviews:9080/", &["secret.example"]),
        ("http://secret.example/", &["reviews:9080"]),
        ("http://reviews:9080/", &["reviews:9081"]),
        ("/", &["user@reviews:9080"]),
        ("/", &["reviews:0"]),
        ("/", &["reviews:70000"]),
        ("/", &["*.example"]),
        ("/", &["[fe80::1%25eth0]"]),
        ("/", &["a/b"]),
        ("/", &["reviews:9080, secret.example"]),
        ("/", &[""]),
    ] {
        assert_eq!(ask(target, hosts).await?, 400, "{target} {hosts:?}");
    }
    assert_eq!(house.served(), 0);
    // The application reads the host that was judged.
    let answer = house
        .ask("GET http://Reviews:9080/ HTTP/1.1\nHost: reviews.:9080\n")
        .await?;
    assert_eq!(answer.seen()?.host, "Reviews:9080");
    let mut raw = Raw::begin(house.knock().await?).await?;
    for (n, host) in ["secret.example", "reviews:9081"].into_iter().enumerate() {
        let stream = n as u32 * 2 + 1;
        let mut fields = frames::get("reviews:9080", "/").to_vec();
        fields.push(("host", host.as_bytes()));
        raw.send(&frame(
            kind::HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &frames::block(&fields),
        ))
        .await?;
        assert_eq!(
            raw.outcome(stream).await?,
            frames::Came::Head { status: Some(400) },
            "{host}"
        );
    }
    Ok(())
}

async fn row_28_a_policy_sees_every_value_of_a_header_cve_2026_26308(door: Door) -> Result<()> {
    let rules = "[{when: [{key: 'request.headers[x-role]', values: [admin]}]}]";
    let roles = |roles: &[&str]| -> String {
        let lines = roles.iter().map(|role| format!("X-Role: {role}\n"));
        get("/") + &lines.collect::<String>()
    };
    let house = guarded(door, "DENY", rules).await?;
    for denied in [
        &["admin"][..],
        &["user", "admin"],
        &["admin", "user"],
        &["user", "admin", "user"],
    ] {
        assert_eq!(house.ask(&roles(denied)).await?.status, 403, "DENY {denied:?}");
    }
    assert_eq!(house.ask(&roles(&["user", "guest"])).await?.status, 200);
    let house = guarded(door, "ALLOW", rules).await?;
    assert_eq!(house.ask(&roles(&["admin"])).await?.status, 200);
    for refused in [&["user", "admin"][..], &["admin", "user"], &["user"], &[]] {
        assert_eq!(house.ask(&roles(refused)).await?.status, 403, "ALLOW {refused:?}");
    }
    Ok(())
}

async fn row_29_header_bytes_that_are_no_text_deny_cve_2026_73552(door: Door) -> Result<()> {
    let head = b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: close\r\nX-Role: adm\xefn\r\n\r\n";
    for (action, rule) in [
        (
            "DENY",
            "[{when: [{key: 'request.headers[x-role]', values: [admin]}]}]",
        ),
        (
            "DENY",
            "[{when: [{key: 'request.headers[x-role]', notValues: [user]}]}]",
        ),
        (
            "ALLOW",
            "[{when: [{key: 'request.headers[x-role]', notValues: [admin]}]}]",
        ),
        (
            "ALLOW",
            "[{when: [{key: 'request.headers[x-role]', values: ['adm*']}]}]",
        ),
    ] {
        let house = guarded(door, action, rule).await?;
        let answer = house.say(head).await?;
        assert!(answer.starts_with("HTTP/1.1 403"), "{action} {rule}: {answer}");
    }
    Ok(())
}

/// Each of these holds a second request for whoever counts differently. It must never be seen.
async fn row_32_ambiguous_lengths_smuggle_nothing_cve_2026_58055(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    const HIDDEN: &str = "GET /status/299 HTTP/1.1\r\nHost: reviews:9080\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "Content-Length: 5, 6\r\n\r\n",
        "Content-Length: +5\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 0x5\r\n\r\n",
        "Content-Length: 18446744073709551616\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: y\rContent-Length: 5\r\n\r\n",
        "X: y\0z\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
    ] {
        let served = house.served();
        let bytes = format!("POST /status/298 HTTP/1.1\r\nHost: reviews:9080\r\n{framing}{HIDDEN}");
        let answer = house.say(bytes.as_bytes()).await?;
        assert!(!answer.contains(" 299 "), "{framing:?}: {answer}");
        // Where only the body is wrong, the request itself may have begun.
        let begun = usize::from(framing.starts_with("Transfer-Encoding: chunked\r\n"));
        assert!(
            house.served() - served <= begun,
            "{framing:?} was served: {answer}"
        );
        assert!(
            begun == 1 || answer.starts_with("HTTP/1.1 400"),
            "{framing:?}: {answer}"
        );
    }
    // `Content-Length` beside `Transfer-Encoding`: only the latter counts and travels, and nothing is read after it
    // (RFC 9112 §6.3).
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: reviews:9080\r\n{framing}{HIDDEN}");
        let answer = house.say(bytes.as_bytes()).await?;
        assert!(
            !answer.contains(" 299 ") && !answer.contains("content-length\":\"4"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    Ok(())
}

async fn row_32_http2_carries_no_field_that_http1_would_read_otherwise(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    for (name, value) in [
        ("transfer-encoding", &b"chunked"[..]),
        ("connection", b"close"),
        ("keep-alive", b"x"),
        ("proxy-connection", b"x"),
        ("upgrade", b"h2c"),
        ("te", b"gzip"),
        ("x", b"y\r\ncontent-length: 5"),
        ("x", b"y\nz"),
        ("x", b"y\0z"),
        ("x: y\r\nz", b"v"),
        ("x y", b"v"),
        ("X-Upper", b"v"),
        ("", b"v"),
        (":other", b"v"),
        ("content-length", b"5"),
        ("content-length", b"+0"),
        (":path", b"/twice"),
        ("host", b"reviews:9080\r\nx: y"),
    ] {
        let mut raw = Raw::begin(house.knock().await?).await?;
        let mut fields = frames::get("reviews:9080", "/").to_vec();
        fields.push((name, value));
        raw.send(&frame(
            kind::HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &frames::block(&fields),
        ))
        .await?;
        let came = raw.outcome(1).await?;
        assert!(came.is_refusal(), "{name:?}: {came:?}");
    }
    assert_eq!(house.served(), 0);
    // Two lengths in one request that goes on over HTTP/1.1.
    let mut raw = Raw::begin(house.knock().await?).await?;
    let mut fields = frames::get("reviews:9080", "/").to_vec();
    fields.extend([("content-length", &b"1"[..]), ("content-length", b"2")]);
    raw.send(&frame(kind::HEADERS, END_HEADERS, 1, &frames::block(&fields)))
        .await?;
    assert!(raw.outcome(1).await?.is_refusal());
    assert_eq!(house.served(), 0);
    Ok(())
}

async fn row_35_a_header_named_in_connection_stays_for_policy_and_application_cwe_444(
    door: Door,
) -> Result<()> {
    let house = guarded(
        door,
        "DENY",
        "[{when: [{key: 'request.headers[x-role]', values: [banned]}]}]",
    )
    .await?;
    let ask = |role: &str| {
        format!(
            "{}Connection: x-role, x-forwarded-client-cert\nX-Role: {role}\n",
            get("/")
        )
    };
    assert_eq!(house.ask(&ask("banned")).await?.status, 403);
    let seen = house.ask(&ask("guest")).await?.seen()?;
    assert_eq!(seen.headers.get("x-role").map(String::as_str), Some("guest"));
    Ok(())
}

async fn row_36_grpc_timeouts_beyond_measure_do_no_harm(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let mut sender = house.h2(9080).await?;
    for value in [
        "99999999H",
        "00000000n",
        "999999999S",
        "-1S",
        "1",
        "S",
        "",
        "1 S",
        "1H1M",
        "\u{661}S",
    ] {
        let request = Request::post("http://reviews:9080/mirror")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", value)
            .body(())?;
        // A length prefix that promises 4 GiB is the application's to refuse.
        let (answer, mut send) = sender.clone().ready().await?.send_request(request, false)?;
        send.send_data(Bytes::from_static(b"\0\xff\xff\xff\xffx"), true)?;
        let status = answer.await?.status();
        assert!(status == 200 || value == "00000000n", "{value:?}: {status}");
    }
    sender = sender.ready().await?;
    let request = Request::get("http://reviews:9080/").body(())?;
    let (answer, _) = sender.send_request(request, true)?;
    assert_eq!(answer.await?.status(), 200);
    Ok(())
}

async fn expectations_are_answered(door: Door) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let deny = "[{to: [{operation: {paths: [/denied]}}]}]";
    let house = guarded(door, "DENY", deny).await?;
    let head = |path: &str, expect: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: reviews:9080\r\nConnection: close\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"
        )
    };
    let mut stream = house.knock().await?;
    stream.write_all(head("/sink", "100-continue").as_bytes()).await?;
    let mut first = [0; 25];
    stream.read_exact(&mut first).await?;
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"12345").await?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await?;
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with('5'), "{rest}");
    // Who is refused need not send its body; and what we cannot do we say (RFC 9110 §10.1.1).
    let denied = house.say(head("/denied", "100-continue").as_bytes()).await?;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let unknown = house.say(head("/sink", "200-maybe").as_bytes()).await?;
    assert!(unknown.starts_with("HTTP/1.1 417"), "{unknown}");
    Ok(())
}

async fn there_is_an_end_to_header_fields_and_their_size(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let fields = |count: usize, size: usize| -> String {
        let value = "v".repeat(size);
        get("/")
            + &(0..count)
                .map(|n| format!("X-{n}: {value}\n"))
                .collect::<String>()
    };
    assert_eq!(house.ask(&fields(150, 10)).await?.status, 200);
    for (count, size) in [(201, 1), (1_000, 1), (30_000, 1), (1, 70_000), (20, 4_000)] {
        let status = house
            .ask(&fields(count, size))
            .await
            .context("it is answered")?
            .status;
        assert_eq!(status, 431, "{count} of {size} bytes");
    }
    assert_eq!(house.served(), 1);
    Ok(())
}
