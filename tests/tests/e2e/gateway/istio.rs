//! Servers of Istio's own Gateway that are not HTTP.

use super::*;

/// The Gateway `edge` of Istio's API, for the pods of `front`, with these servers.
fn edge(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: default}}\nspec:\n  selector: \
         {{gateway.networking.k8s.io/gateway-name: front}}\n  servers: [{servers}]\n"
    )
}

fn bound(name: &str, host: &str, routes: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  hosts: \
         ['{host}']\n  gateways: [edge]\n  {routes}\n"
    )
}

fn to(service: &str) -> String {
    format!("route: [{{destination: {{host: {service}, port: {{number: 7000}}}}}}]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_bytes_are_led_by_virtual_services() -> Result<()> {
    let ca = DevCa::new_in_memory()?;
    let now = SystemTime::now() - Duration::from_secs(60);
    let servers = "{port: {number: 8443, name: web, protocol: HTTPS}, hosts: [web.example.com], tls: {mode: SIMPLE, \
                   credentialName: cert}}, {port: {number: 8443, name: pass, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: \
                   PASSTHROUGH}}, {port: {number: 8443, name: open, protocol: TLS}, hosts: [open.example.com], tls: {mode: SIMPLE, \
                   credentialName: cert}}, {port: {number: 7000, name: raw, protocol: TCP}, hosts: ['*']}";
    let names = ["web.example.com", "open.example.com"];
    let by_name = format!("tls: [{{match: [{{sniHosts: [b.example.com]}}], {}}}]", to("b"));
    let town = town(
        "{name: unused, port: 8080, protocol: HTTP}",
        &[
            ("edge", &edge(servers)),
            ("cert", &secret("cert", &public(&ca, &names, now)?)),
            (
                "web",
                &bound(
                    "web",
                    "web.example.com",
                    "http: [{route: [{destination: {host: a, port: {number: 9080}}}]}]",
                ),
            ),
            ("pass", &bound("pass", "*.example.com", &by_name)),
            (
                "open",
                &bound("open", "open.example.com", &format!("tcp: [{{{}}}]", to("a"))),
            ),
            (
                "raw",
                &bound(
                    "raw",
                    "*",
                    &format!("tcp: [{{match: [{{port: 7000}}], {}}}]", to("a")),
                ),
            ),
        ],
    )
    .await?;
    // `b` speaks TLS of its own; behind port 7000 of `a` is its HTTP application.
    let backend_ip = town.cluster.address();
    let backend = Secure::start(backend_ip, 7443, &public(&ca, &["b.example.com"], now)?).await?;
    town.pods[1].mesh.relay(7000, (backend_ip, 7443).into()).await?;
    let served = (town.pods[0].spec.ip, inmesh_tests::kit::cluster::PORT);
    town.pods[0].mesh.relay(7000, served.into()).await?;

    let visitor = |name: &str| town.visitor(8443).tls(name, ca.root_pem());
    until("the servers are served", || async {
        who(visitor("web.example.com").get("web.example.com", "/").await) == "a"
            && visitor("b.example.com").get("b.example.com", "/").await.is_ok()
    })
    .await;
    // The certificate that is shown says who opened it.
    let (_, body) = visitor("b.example.com")
        .http2()
        .connect()
        .await?
        .get("b.example.com", "/")
        .await?;
    ensure!(body.starts_with("b.example.com h2"), "{body}");
    ensure!(who(visitor("open.example.com").get("open.example.com", "/").await) == "a");
    ensure!(asked(&mut town.visitor(7000).connect().await?, "whatever").await == "a");
    for name in ["c.example.com", "example.org"] {
        ensure!(visitor(name).connect().await.is_err(), "{name} goes nowhere");
    }
    let problems = town.front.mesh().status().borrow().problems.clone();
    ensure!(
        !problems
            .iter()
            .any(|it| it.to_string().contains("Gateway default/edge")),
        "{problems:?}"
    );

    // Another way for the same name, while connections come.
    let met = backend.met();
    town.cluster.apply(
        "pass",
        &bound(
            "pass",
            "*.example.com",
            &by_name.replace("b.example.com", "c.example.com"),
        ),
    )?;
    until("the name goes nowhere any more", || async {
        visitor("b.example.com").connect().await.is_err()
    })
    .await;
    ensure!(backend.met() >= met);
    ensure!(who(visitor("web.example.com").get("web.example.com", "/").await) == "a");

    // What cannot be served is said with its place, and what is served stays.
    let clash = format!("{servers}, {{port: {{number: 7000, name: web, protocol: HTTP}}, hosts: ['*']}}");
    town.cluster.apply("edge", &edge(&clash))?;
    until("the clash is told", || async {
        let problems = town.front.mesh().status().borrow().problems.clone();
        problems
            .iter()
            .map(ToString::to_string)
            .any(|text| text.contains("spec.servers[4].port.protocol") && text.contains("edge.yaml:"))
    })
    .await;
    ensure!(asked(&mut town.visitor(7000).connect().await?, "whatever").await == "a");
    Ok(())
}
