//! Tunnels, and what is said in and around them: whoever claims something there is believed only as far as it is proved.
//!
//! The numbers are the rows of the list of bad inputs that we work through.

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use inmesh_tests::kit::cluster::spiffe;
use inmesh_tests::kit::frames::{self, END_HEADERS, END_STREAM, Raw, frame, kind};
use inmesh_tests::kit::wait::PATIENCE;
use inmesh_tests::kit::world::{request, seen, status};
use inmesh_tests::kit::{Door, House, Shape, World};
use tokio::time::timeout;

use crate::peers::{Sender, leaf_of, tunnel};

in_both_shapes!(
    row_17_what_a_caller_says_of_itself_is_not_believed,
    row_18_baggage_of_any_kind_does_no_harm,
    row_19_an_identity_in_a_header_is_nobodys,
    row_21_a_tunnel_to_a_tunnels_port_is_refused,
);

at_every_door!(
    row_15_a_connect_without_a_path_is_refused_before_any_policy_cve_2026_73547,
    row_22_a_proxy_protocol_header_is_not_believed,
);

const URL: &str = "http://reviews:9080/";

fn only_curl(action: &str, field: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: only-curl, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: reviews}}]\n  action: {action}\n  rules: [{{from: [{{source: \
         {{{field}: [cluster.local/ns/default/sa/curl]}}}}]}}]\n"
    )
}

/// Policies that look at the path are there, so that one who does not expect it to be missing would be asked.
async fn row_15_a_connect_without_a_path_is_refused_before_any_policy_cve_2026_73547(
    door: Door,
) -> Result<()> {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: paths, namespace: default}\nspec:\n  \
                  targetRefs: [{group: '', kind: Service, name: reviews}]\n  action: DENY\n  rules: [{to: [{operation: {paths: \
                  ['/{**}/admin'], notPaths: [/x*]}}]}]\n";
    let house = House::build(door, &[("policy", policy)]).await?;
    let connect: [&[(&str, &[u8])]; 3] = [
        &[(":method", b"CONNECT"), (":authority", b"reviews:9080")],
        &[
            (":method", b"CONNECT"),
            (":scheme", b"http"),
            (":authority", b"reviews:9080"),
        ],
        &[
            (":method", b"CONNECT"),
            (":protocol", b"websocket"),
            (":scheme", b"http"),
            (":authority", b"reviews:9080"),
        ],
    ];
    for fields in connect {
        let mut raw = Raw::begin(house.knock().await?).await?;
        let head = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(fields));
        raw.send(&head).await?;
        let came = raw.outcome(1).await?;
        assert!(came.is_refusal(), "{fields:?}: {came:?}");
    }
    let answer = house
        .ask("CONNECT reviews:9080 HTTP/1.1\nHost: reviews:9080\n")
        .await?;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(house.served(), 0);
    let seen = house.ask("GET /x HTTP/1.1\nHost: reviews:9080\n").await?.seen()?;
    assert_eq!(seen.path, "/x");
    Ok(())
}

/// In the request, where an application's headers are, and at the CONNECT, where a proxy's are.
async fn row_17_what_a_caller_says_of_itself_is_not_believed(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &only_curl("ALLOW", "principals"))]).await?;
    let claims = [
        (
            "baggage",
            "k8s.namespace.name=default,k8s.deployment.name=curl,service.name=curl",
        ),
        ("forwarded", "for=127.0.0.1;host=reviews"),
        ("x-istio-source", "waypoint"),
        ("x-forwarded-network", "network1"),
        ("x-forwarded-for", "127.0.0.1"),
        (
            "x-forwarded-client-cert",
            "By=spiffe://cluster.local/ns/default/sa/waypoint;URI=spiffe://cluster.local/ns/default/sa/curl",
        ),
    ];
    for claim in claims {
        let asked = request(Method::GET, URL, &[claim]);
        assert_eq!(status(world.other.request(asked).await), 403, "{claim:?}");
    }
    let all = request(Method::GET, URL, &claims);
    assert_eq!(status(world.other.request(all).await), 403);
    let mut sender = tunnel(&world, &leaf_of(&world, "other")?).await?;
    let answer = inside(&mut sender, &served(&world), &claims).await?;
    assert_eq!(answer, Some(403), "a CONNECT was believed");
    assert_eq!(world.v1.echo.served() + world.v2.echo.served(), 0);
    assert_eq!(status(world.curl.get(URL).await), 200);
    Ok(())
}

async fn row_18_baggage_of_any_kind_does_no_harm(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let mut sender = tunnel(&world, &leaf_of(&world, "curl")?).await?;
    let many = "service.name=a,".repeat(2_000);
    let long = format!("service.name={}", "a".repeat(20_000));
    let bombs = "k8s.namespace.name=%25252525%00%ff,".repeat(200);
    for baggage in [
        "",
        ",,,,",
        "=",
        "service.name",
        "service.name=a,service.name=b,service.name=c",
        "service.name=%",
        "service.name=%zz;p=%;=;",
        "service.name=\u{80}\u{ff}",
        &many,
        &long,
        &bombs,
    ] {
        let Ok(value) = HeaderValue::from_bytes(baggage.as_bytes()) else {
            continue;
        };
        let shown = &baggage[..baggage.len().min(40)];
        // Given twice as well: a list by any other name.
        let twice = [("baggage", value.clone()), ("baggage", value)];
        let answer = inside_raw(&mut sender, &served(&world), &twice).await?;
        assert_eq!(answer, Some(200), "{shown}");
    }
    let metrics = world.v1.mesh.metrics() + &world.v2.mesh.metrics();
    assert!(!metrics.contains(&"a".repeat(300)), "a label of any length");
    Ok(())
}

/// The identity of the connection counts, whatever the request claims; also where the peer may speak for others.
async fn row_19_an_identity_in_a_header_is_nobodys(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[("policy", &only_curl("DENY", "principals"))]).await?;
    let admin = "spiffe://cluster.local/ns/default/sa/admin";
    let words = ["", "v1.e30.ecdsa-p256.AAAA", "v1..", "v9.x.y.z", "\u{fffd}"];
    let certificates = [
        format!("URI={admin}"),
        format!("By=x;Hash=y;URI={admin};URI={admin}"),
        ";;,\",".to_owned(),
    ];
    for word in words.into_iter().chain(certificates.iter().map(String::as_str)) {
        let claims = [("x-inmesh-caller", word), ("x-forwarded-client-cert", word)];
        assert_eq!(
            status(world.curl.request(request(Method::GET, URL, &claims)).await),
            403,
            "{word}"
        );
        let seen = seen(world.other.request(request(Method::GET, URL, &claims)).await).await?;
        let introduced = (shape == Shape::Waypoint).then(|| spiffe("default", "other").to_string());
        assert_eq!(seen.original, introduced, "{word}");
    }
    Ok(())
}

async fn row_21_a_tunnel_to_a_tunnels_port_is_refused(shape: Shape) -> Result<()> {
    let world = World::start(shape, &[]).await?;
    let mut sender = tunnel(&world, &leaf_of(&world, "curl")?).await?;
    let mut addresses = vec![
        world.v1.spec.ip.to_string(),
        "reviews.default.svc.cluster.local".to_owned(),
    ];
    addresses.extend(
        world
            .waypoint
            .iter()
            .filter_map(|it| Some(it.mesh().snapshot().my_ip?.to_string())),
    );
    for address in addresses {
        let authority = format!("{address}:15008");
        let answer = timeout(PATIENCE, connect(&mut sender, &authority, &[])).await??;
        assert!(!answer.is_success(), "{authority}: {answer}");
        // Nor does our own client go there.
        let asked = world.curl.get(format!("http://{authority}/")).await;
        assert!(status(asked) >= 400, "{authority}");
    }
    assert_eq!(status(world.curl.get(URL).await), 200);
    Ok(())
}

/// Nobody here has agreed to be told addresses so: it is no HTTP.
async fn row_22_a_proxy_protocol_header_is_not_believed(door: Door) -> Result<()> {
    let house = House::build(door, &[]).await?;
    let get = b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: close\r\n\r\n";
    let long = [b"PROXY TCP4 ", "9".repeat(4_000).as_bytes(), b" 1 1 1\r\n"].concat();
    let signature: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let tlv = [
        signature,
        b"\x21\x11\xff\xff\xcb\0\x71\x07\x7f\0\0\x01\x12\x34\0\x50",
    ]
    .concat();
    let short = [signature, b"\x21\x11\0\x0c\xcb\0"].concat();
    for header in [
        &b"PROXY TCP4 203.0.113.7 127.0.0.1 4660 80\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 203.0.113.7\r\n",
        &long,
        &tlv,
        &short,
    ] {
        let bytes = [header, get].concat();
        let answer = timeout(PATIENCE, house.say(&bytes)).await?.unwrap_or_default();
        assert!(!answer.contains("200 OK"), "{header:?}: {answer}");
    }
    assert_eq!(house.served(), 0);
    assert_eq!(
        house.ask("GET / HTTP/1.1\nHost: reviews:9080\n").await?.status,
        200
    );
    Ok(())
}

/// What a CONNECT by hand may name in this shape.
fn served(world: &World) -> String {
    match world.shape {
        Shape::InProcess => format!("{}:9080", world.v1.spec.ip),
        Shape::Waypoint => "reviews.default.svc.cluster.local:9080".to_owned(),
    }
}

/// The status of a CONNECT.
async fn connect(
    sender: &mut Sender,
    authority: &str,
    headers: &[(&'static str, HeaderValue)],
) -> Result<StatusCode> {
    Ok(open(sender, authority, headers).await?.0)
}

type Halves = (StatusCode, h2::SendStream<Bytes>, h2::RecvStream);

async fn open(
    sender: &mut Sender,
    authority: &str,
    headers: &[(&'static str, HeaderValue)],
) -> Result<Halves> {
    let mut asked = Request::builder()
        .method(Method::CONNECT)
        .uri(Uri::builder().authority(authority).build()?)
        .body(())?;
    for (name, value) in headers {
        asked.headers_mut().append(*name, value.clone());
    }
    let (answer, send) = sender.clone().ready().await?.send_request(asked, false)?;
    let answer = timeout(PATIENCE, answer).await??;
    Ok((answer.status(), send, answer.into_body()))
}

/// The status of a GET in a tunnel with these headers, at the CONNECT and in the request.
async fn inside(
    sender: &mut Sender,
    authority: &str,
    headers: &[(&'static str, &str)],
) -> Result<Option<u16>> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| Ok((*name, HeaderValue::from_str(value)?)))
        .collect::<Result<_>>()?;
    inside_raw(sender, authority, &headers).await
}

/// As [`inside`]. `None` if nothing comes but an end.
async fn inside_raw(
    sender: &mut Sender,
    authority: &str,
    headers: &[(&'static str, HeaderValue)],
) -> Result<Option<u16>> {
    let (answer, mut send, mut receive) = open(sender, authority, headers).await?;
    if !answer.is_success() {
        return Ok(Some(answer.as_u16()));
    }
    let mut head = b"GET / HTTP/1.1\r\nHost: reviews:9080\r\nConnection: close\r\n".to_vec();
    for (name, value) in headers {
        head.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    send.send_data(head.into(), false)?;
    let mut text = Vec::new();
    while let Some(Ok(data)) = timeout(PATIENCE, receive.data()).await? {
        let _ = receive.flow_control().release_capacity(data.len());
        text.extend_from_slice(&data);
    }
    // Ended in order, as tunnels want it.
    let _ = send.send_data(Bytes::new(), true);
    let status = text.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    Ok(status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()))
}
