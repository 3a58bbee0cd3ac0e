//! RequestAuthentication on real sockets: whose tokens are believed, where their keys come from, and what is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::{Method, StatusCode};
use inmesh::identity::dev_ca::{DevCa, Leaf};
use inmesh::testing::{Issuer, TokenState};
use inmesh_tests::envoy::{EnvoyFront, Front, FrontConfig, find_or_skip, http_filter};
use inmesh_tests::kit::cluster::{gateway, namespace, spiffe};
use inmesh_tests::kit::echo::Echo;
use inmesh_tests::kit::idp::{Idp, keys_of};
use inmesh_tests::kit::plain::Plain;
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::wire::{self, Answered, exchange};
use inmesh_tests::kit::world::{request, status};
use inmesh_tests::kit::{Cluster, Shape, World};
use serde_json::{Value, json};
use tokio::net::TcpStream;

in_both_shapes!(
    row_34_a_bad_token_is_refused_as_envoy_refuses_it,
    a_token_leaves_behind_what_is_asked_for_and_nobody_else_can_write_it,
    keys_that_change_are_fetched_and_old_ones_forgotten,
    keys_outlast_an_outage_of_their_issuer,
    an_issuer_that_is_not_there_refuses_tokens_until_it_is,
    a_slow_issuer_holds_up_nobody_for_long,
    a_huge_key_set_is_no_key_set,
    an_issuer_says_where_its_keys_are,
    keys_by_https_are_those_of_a_server_that_proves_itself,
);

const POD: &str = env!("CARGO_BIN_EXE_test-pod");
const WAYPOINT: &str = env!("CARGO_BIN_EXE_test-waypoint");
const ISSUER: &str = "https://idp.example";

/// What a rule says beside its issuer and keys.
fn policy(rule: Value) -> String {
    let target = json!([{"group": "", "kind": "Service", "name": "reviews"}]);
    let believe = json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": "believe", "namespace": "default"},
        "spec": {"targetRefs": target, "jwtRules": [rule]},
    });
    let require = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "require", "namespace": "default"},
        "spec": {
            "targetRefs": target,
            "rules": [
                {"from": [{"source": {"requestPrincipals": ["*"]}}]},
                {"to": [{"operation": {"paths": ["/open*"]}}]},
            ],
        },
    });
    format!("{believe}\n---\n{require}")
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "jason", "aud": "shop", "deep": {"er": "x"}, "level": 3})
}

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

async fn ask(world: &World, path: &str, headers: &[(String, String)]) -> Result<Answered> {
    let stream = world
        .curl
        .connect("reviews:9080")
        .await
        .map_err(|e| anyhow!("{e}"))?;
    exchange(stream, wire::head("GET", path, "reviews", headers).as_bytes()).await
}

/// The status that a token gets.
async fn with(world: &World, token: &str) -> u16 {
    let header = format!("Bearer {token}");
    status(
        world
            .curl
            .request(request(
                Method::GET,
                "http://reviews:9080/",
                &[("authorization", &header)],
            ))
            .await,
    )
}

/// Tokens that nobody must believe, each with a word for it.
fn bad_tokens(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let good = issuer.token(&claims());
    let mut parts = good.split('.');
    let (payload, signature) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
    let headed =
        |header: Value, signature: &str| format!("{}.{payload}.{signature}", B64.encode(header.to_string()));
    let state = |state| issuer.token_that_is(state, &claims());
    let claiming = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        issuer.token(&claims)
    };
    let twice = B64.encode(r#"{"iss":"https://idp.example","sub":"jason","sub":"root","exp":99999999999}"#);
    vec![
        ("expired", state(TokenState::Expired)),
        ("not yet valid", state(TokenState::NotYetValid)),
        ("signed by somebody else", state(TokenState::BadSignature)),
        ("of an unknown key", state(TokenState::UnknownKid)),
        ("malformed", state(TokenState::Malformed)),
        (
            "of another issuer",
            claiming(&|claims| claims["iss"] = "https://evil.example".into()),
        ),
        (
            "for another audience",
            claiming(&|claims| claims["aud"] = "bank".into()),
        ),
        (
            "without a signature",
            format!("{}.{payload}.", good.split('.').next().unwrap_or_default()),
        ),
        ("of algorithm none", headed(json!({"alg": "none"}), "")),
        (
            "of algorithm None",
            headed(json!({"alg": "None", "kid": "test"}), signature),
        ),
        (
            "of a symmetric algorithm",
            headed(json!({"alg": "HS256", "kid": "test"}), signature),
        ),
        (
            "of a key by its path",
            headed(json!({"alg": "EdDSA", "kid": "../../../dev/null"}), signature),
        ),
        (
            "of a key in its header",
            headed(json!({"alg": "EdDSA", "jwk": keys_of(issuer)[0]}), signature),
        ),
        (
            "with two subjects",
            format!(
                "{}.{twice}.{signature}",
                good.split('.').next().unwrap_or_default()
            ),
        ),
        ("of nothing", "..".to_owned()),
        ("of one part", "token".to_owned()),
    ]
}

/// Status, body and `www-authenticate` are those that Envoy gives, where there is one to ask.
async fn row_34_a_bad_token_is_refused_as_envoy_refuses_it(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let rule = json!({"issuer": ISSUER, "jwks": issuer.jwks(), "audiences": ["shop"]});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let backend = Plain::http(world.cluster.address(), 0, Echo::new("reviews", None)).await?;
    let envoy = match find_or_skip("refusals of tokens compared with Envoy's") {
        Some(binary) => Some(envoy(binary, &world, &backend, &issuer).await?),
        None => None,
    };
    let good = ask(&world, "/", &bearer(&issuer.token(&claims()))).await?;
    ensure!(good.status == 200, "{good:?}");
    ensure!(ask(&world, "/", &[]).await?.status == 403, "a token is asked for");
    ensure!(ask(&world, "/open", &[]).await?.status == 200, "not there");
    for (what, token) in bad_tokens(&issuer) {
        // Even where no token is needed.
        let ours = ask(&world, "/open/x?y", &bearer(&token)).await?;
        let expected = if what == "for another audience" { 403 } else { 401 };
        ensure!(ours.status == expected, "{what}: {ours:?}");
        let challenge = ours.header("www-authenticate").map(str::to_owned);
        if expected == 401 {
            let challenge = challenge.clone().context("a challenge")?;
            ensure!(
                challenge == "Bearer realm=\"http://reviews/open/x\", error=\"invalid_token\"",
                "{what}: {challenge}"
            );
        }
        let Some((envoy, addr)) = &envoy else { continue };
        let head = wire::head("GET", "/open/x?y", "reviews", &bearer(&token));
        let theirs = exchange(TcpStream::connect(addr).await?, head.as_bytes()).await?;
        // Duplicate members and tokens with a key in their header are told in other words: Envoy reads on.
        let same_words = !["with two subjects", "of a key in its header"].contains(&what);
        ensure!(
            ours.status == theirs.status,
            "{what}: {ours:?} {theirs:?} {}",
            envoy.process().log()
        );
        ensure!(
            !same_words || ours.body == theirs.body,
            "{what}: {ours:?} {theirs:?}"
        );
    }
    // Twice is once too often if one of them is bad; and what is longer than any header may be is none.
    let mut both = bearer(&issuer.token(&claims()));
    both.extend(bearer(&issuer.token_that_is(TokenState::Expired, &claims())));
    ensure!(ask(&world, "/", &both).await?.status == 401);
    let long = ask(&world, "/", &bearer(&"x".repeat(1 << 20))).await;
    ensure!(long.as_ref().map_or(true, |it| it.status == 431), "{long:?}");
    ensure!(with(&world, &issuer.token(&claims())).await == 200);
    Ok(())
}

async fn envoy(
    binary: std::path::PathBuf,
    world: &World,
    backend: &Plain,
    issuer: &Issuer,
) -> Result<(EnvoyFront, std::net::SocketAddr)> {
    let provider = json!({
        "issuer": ISSUER, "audiences": ["shop"],
        "local_jwks": {"inline_string": issuer.jwks()}, "payload_in_metadata": "payload",
    });
    let requirement =
        json!({"requires_any": {"requirements": [{"provider_name": "idp"}, {"allow_missing": {}}]}});
    let filter = json!({"providers": {"idp": provider}, "rules": [{"match": {"prefix": "/"}, "requires": requirement}]});
    let config = FrontConfig {
        fronts: vec![Front {
            name: "tokens".to_owned(),
            listen: (world.cluster.address(), 0).into(),
            identity: None,
            filters: vec![http_filter("jwt_authn", "JwtAuthentication", filter)],
        }],
        backend: backend.addr(),
        asked: Vec::new(),
    };
    let envoy = tokio::task::spawn_blocking(move || EnvoyFront::start(&binary, &config)).await??;
    let addr = envoy.addr("tokens")?;
    Ok((envoy, addr))
}

async fn a_token_leaves_behind_what_is_asked_for_and_nobody_else_can_write_it(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let rule = json!({
        "issuer": ISSUER, "jwks": issuer.jwks(),
        "fromHeaders": [{"name": "authorization", "prefix": "Bearer "}, {"name": "x-token"}],
        "fromParams": ["token"], "fromCookies": ["session"],
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [
            {"header": "x-sub", "claim": "sub"}, {"header": "x-deep", "claim": "deep.er"},
            {"header": "x-level", "claim": "level"}, {"header": "x-none", "claim": "none"},
        ],
    });
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let spoofed = [
        ("x-sub", "root"),
        ("x-payload", "e30"),
        ("X-Level", "9"),
        ("x-none", "1"),
        ("x-other", "stays"),
    ];
    let spoofed: Vec<_> = spoofed
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let seen = |answered: Answered| -> Result<inmesh_tests::kit::echo::Seen> {
        serde_json::from_str(&answered.body).with_context(|| format!("{answered:?}"))
    };
    let without = seen(ask(&world, "/open", &spoofed).await?)?;
    for name in ["x-sub", "x-payload", "x-level", "x-none"] {
        ensure!(
            !without.headers.contains_key(name),
            "{name} was written by the caller"
        );
    }
    assert_eq!(without.headers["x-other"], "stays");
    let token = issuer.token(&claims());
    let places = [
        ("/", ("authorization", format!("Bearer {token}"))),
        ("/", ("x-token", token.clone())),
        ("/", ("cookie", format!("a=b; session={token}; c=d"))),
    ];
    for (path, (name, value)) in places {
        let mut headers = spoofed.clone();
        headers.push((name.to_owned(), value));
        let with = seen(ask(&world, path, &headers).await?)?;
        let header = |name: &str| with.headers.get(name).map(String::as_str);
        assert_eq!(
            (header("x-sub"), header("x-deep"), header("x-level")),
            (Some("jason"), Some("x"), Some("3"))
        );
        ensure!(header("x-none").is_none(), "no such claim");
        let payload = B64.decode(header("x-payload").context("a payload")?)?;
        assert_eq!(serde_json::from_slice::<Value>(&payload)?["sub"], "jason");
        let left = header(name).unwrap_or_default();
        ensure!(!left.contains(&token), "{name} goes on with the token: {left}");
    }
    let with = seen(ask(&world, &format!("/x?a=b&token={token}&c=d"), &[]).await?)?;
    assert_eq!(with.path, "/x?a=b&c=d");
    Ok(())
}

async fn keys_that_change_are_fetched_and_old_ones_forgotten(shape: Shape) -> Result<()> {
    let (old, new) = (Issuer::new().kid("old"), Issuer::new().kid("new"));
    let idp = Idp::start([127, 0, 0, 1], 0, &old).await?;
    let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url()});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let (before, after) = (old.token(&claims()), new.token(&claims()));
    assert_eq!(with(&world, &before).await, 200);
    assert_eq!(with(&world, &issuer_of_nobody()).await, 401);
    // Overlap: both are believed as soon as a token of the new key comes.
    idp.publish(&[&old, &new]);
    until("a token of the new key is believed", || async {
        with(&world, &after).await == 200
    })
    .await;
    assert_eq!(with(&world, &before).await, 200);
    // The old one is withdrawn; whoever asks for an unknown key has the keys fetched, at most every ten seconds.
    idp.publish(&[&new]);
    let fetched = idp.fetched();
    for _ in 0..50 {
        assert_eq!(with(&world, &issuer_of_nobody()).await, 401);
    }
    ensure!(
        idp.fetched() <= fetched + 4,
        "forged tokens flood the issuer: {} times",
        idp.fetched() - fetched
    );
    until("a token of the old key is not believed", || async {
        with(&world, &issuer_of_nobody()).await;
        with(&world, &before).await == 401
    })
    .await;
    assert_eq!(with(&world, &after).await, 200);
    Ok(())
}

/// A token whose key nobody has.
fn issuer_of_nobody() -> String {
    Issuer::new().token_that_is(TokenState::UnknownKid, &claims())
}

async fn keys_outlast_an_outage_of_their_issuer(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let idp = Idp::start([127, 0, 0, 1], 0, &issuer).await?;
    let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url()});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    assert_eq!(with(&world, &issuer.token(&claims())).await, 200);
    idp.status(StatusCode::INTERNAL_SERVER_ERROR);
    // It is asked again, fails, and what is known stays known.
    let fetched = idp.fetched();
    assert_eq!(with(&world, &issuer_of_nobody()).await, 401);
    until("the issuer was asked again", || async { idp.fetched() > fetched }).await;
    assert_eq!(with(&world, &issuer.token(&claims())).await, 200);
    // A new policy for the same keys keeps them, although they cannot be fetched.
    let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url(), "audiences": ["shop", "bank"]});
    world.cluster.apply("policy", &policy(rule))?;
    let generations: Vec<u64> = world
        .meshes()
        .iter()
        .map(|mesh| mesh.snapshot().generation)
        .collect();
    until("everybody has the new policy", || async {
        let now = world.meshes().iter().map(|mesh| mesh.snapshot().generation);
        now.zip(&generations)
            .all(|(now, before)| now > *before || now > 1)
    })
    .await;
    assert_eq!(with(&world, &issuer.token(&claims())).await, 200);
    Ok(())
}

async fn an_issuer_that_is_not_there_refuses_tokens_until_it_is(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let taken = Plain::bytes([127, 0, 0, 1], 0).await?;
    let addr = taken.addr();
    drop(taken);
    let rule = json!({"issuer": ISSUER, "jwksUri": format!("http://{addr}/keys")});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let refused = ask(&world, "/", &bearer(&issuer.token(&claims()))).await?;
    assert_eq!(
        (refused.status, &*refused.body),
        (401, "Jwks remote fetch is failed")
    );
    assert_eq!(ask(&world, "/open", &[]).await?.status, 200);
    let _idp = Idp::start(addr.ip(), addr.port(), &issuer).await?;
    until("the keys are fetched", || async {
        with(&world, &issuer.token(&claims())).await == 200
    })
    .await;
    Ok(())
}

async fn a_slow_issuer_holds_up_nobody_for_long(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let idp = Idp::start([127, 0, 0, 1], 0, &issuer).await?;
    idp.pause(Duration::from_secs(60));
    let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url(), "timeout": "0.3s"});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let began = Instant::now();
    let refused = ask(&world, "/", &bearer(&issuer.token(&claims()))).await?;
    assert_eq!(
        (refused.status, &*refused.body),
        (401, "Jwks remote fetch is failed")
    );
    ensure!(
        began.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        began.elapsed()
    );
    assert_eq!(ask(&world, "/open", &[]).await?.status, 200);
    idp.pause(Duration::ZERO);
    until("the keys are fetched", || async {
        with(&world, &issuer.token(&claims())).await == 200
    })
    .await;
    Ok(())
}

async fn a_huge_key_set_is_no_key_set(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let idp = Idp::start([127, 0, 0, 1], 0, &issuer).await?;
    let padded = |bytes: usize| json!({"keys": keys_of(&issuer), "padding": "x".repeat(bytes)}).to_string();
    idp.publish_text(padded(8 << 20));
    let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url()});
    let world = World::start(shape, &[("policy", &policy(rule))]).await?;
    let refused = ask(&world, "/", &bearer(&issuer.token(&claims()))).await?;
    assert_eq!(
        (refused.status, &*refused.body),
        (401, "Jwks remote fetch is failed")
    );
    idp.publish_text(padded(900 << 10));
    until("a large one is read", || async {
        with(&world, &issuer.token(&claims())).await == 200
    })
    .await;
    Ok(())
}

async fn an_issuer_says_where_its_keys_are(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    let idp = Idp::start([127, 0, 0, 1], 0, &issuer).await?;
    let world = World::start(shape, &[("policy", &policy(json!({"issuer": idp.url()})))]).await?;
    let token = issuer.token(&json!({"iss": idp.url(), "sub": "jason"}));
    assert_eq!(with(&world, &token).await, 200);
    assert_eq!(
        with(&world, &issuer.token(&claims())).await,
        401,
        "another issuer"
    );
    Ok(())
}

/// Processes, since whom a process trusts on the web is said in its environment.
async fn keys_by_https_are_those_of_a_server_that_proves_itself(shape: Shape) -> Result<()> {
    let issuer = Issuer::new();
    for is_trusted in [true, false] {
        let cluster = Cluster::new()?;
        let web = DevCa::open_or_create(cluster.path().join("web"))?;
        let mut leaf = Leaf::of(&spiffe("web", "idp"), Duration::from_secs(3600));
        leaf.dns = vec!["localhost".to_owned()];
        let idp = Idp::start_secure(&issuer, &web.issue_leaf(&leaf)?).await?;
        let roots = cluster.path().join("roots.pem");
        std::fs::write(
            &roots,
            if is_trusted {
                web.root_pem()
            } else {
                cluster.ca().root_pem()
            },
        )?;
        let vars = [("SSL_CERT_FILE", roots.to_str().context("a path")?)];
        cluster.service("reviews", "reviews", None)?;
        let rule = json!({"issuer": ISSUER, "jwksUri": idp.keys_url(), "timeout": "2s"});
        cluster.apply("policy", &policy(rule))?;
        let pod = cluster.pod("reviews").label("app", "reviews");
        cluster.declare(&pod)?;
        let spec = cluster.waypoint_pod("default", "waypoint");
        let (judge, _process, _pod) = match shape {
            Shape::InProcess => (&pod, Process::pod(POD, &cluster, &pod, &vars)?, None),
            Shape::Waypoint => {
                cluster.apply("gateway", &gateway("default", "waypoint", "service"))?;
                cluster.apply(
                    "namespace",
                    &namespace("default", &[("istio.io/use-waypoint", "waypoint")]),
                )?;
                cluster.declare(&spec)?;
                let process = Process::waypoint(WAYPOINT, &cluster, &spec, &vars)?;
                (&spec, process, Some(cluster.run(&pod).await?))
            }
        };
        until("it listens", || async {
            TcpStream::connect((judge.ip, 15008)).await.is_ok()
        })
        .await;
        let (_mesh, curl) = cluster.client("curl").await?;
        let header = format!("Bearer {}", issuer.token(&claims()));
        let with = || async {
            let asked = request(Method::GET, "http://reviews:9080/", &[("authorization", &header)]);
            status(curl.request(asked).await)
        };
        let open = || async { status(curl.get("http://reviews:9080/open").await) };
        until("callers know the way", || async { open().await == 200 }).await;
        assert_eq!(with().await, if is_trusted { 200 } else { 401 });
    }
    Ok(())
}
