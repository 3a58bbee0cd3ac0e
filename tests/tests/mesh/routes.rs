//! Routes: the same in process and through the waypoint.

use anyhow::Result;
use inmesh::Waypoint;
use inmesh_tests::cluster::{Cluster, Pod, identity, read, until};

struct Town {
    cluster: Cluster,
    curl: Pod,
    _pods: Vec<Pod>,
    _waypoint: Option<Waypoint>,
}

/// A service `web` over two versions that have services of their own.
async fn town(with_waypoint: bool) -> Result<Town> {
    let cluster = Cluster::new()?;
    cluster.service(
        "web",
        "web",
        if with_waypoint {
            "istio.io/use-waypoint: waypoint"
        } else {
            ""
        },
    )?;
    for version in ["a", "b"] {
        cluster.apply(
            &format!("service-web-{version}"),
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: web-{version}, namespace: default}}\nspec:\n  selector: {{pod: \
                 web-{version}}}\n  ports: [{{name: http, port: 80, targetPort: 8080}}]\n"
            ),
        )?;
    }
    let pods = vec![
        cluster.server("web-a", "web").await?,
        cluster.server("web-b", "web").await?,
    ];
    let waypoint = if with_waypoint {
        Some(cluster.waypoint().await?)
    } else {
        None
    };
    let curl = cluster.caller("curl").await?;
    let expected = identity(if with_waypoint { "waypoint" } else { "curl" });
    until("calls take the way they should", || async {
        let (_, said) = read(curl.mesh.client().get("http://web/").await?).await?;
        Ok((said["peer"] == expected.as_str()).then_some(()))
    })
    .await?;
    Ok(Town {
        cluster,
        curl,
        _pods: pods,
        _waypoint: waypoint,
    })
}

fn route(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  parentRefs: \
         [{{group: '', kind: Service, name: web, port: 80}}]\n  rules:\n{rules}"
    )
}

impl Town {
    /// Applies a route and waits until `path` shows that it is in force.
    async fn apply(
        &self,
        rules: &str,
        path: &str,
        shows: impl Fn(u16, &serde_json::Value) -> bool,
    ) -> Result<()> {
        self.cluster.apply("route", &route(rules))?;
        until("the route is in force", || async {
            let (status, said) = self.get(path).await?;
            Ok(shows(status, &said).then_some(()))
        })
        .await
    }

    async fn get(&self, path: &str) -> Result<(u16, serde_json::Value)> {
        read(self.curl.mesh.client().get(format!("http://web{path}")).await?).await
    }
}

#[tokio::test]
async fn weights_are_kept_in_both_shapes() -> Result<()> {
    for with_waypoint in [false, true] {
        let town = town(with_waypoint).await?;
        let rules = "  - matches: [{path: {value: /ready}}]\n    filters: [{type: RequestRedirect, requestRedirect: {path: {type: \
                     ReplaceFullPath, replaceFullPath: /x}}}]\n  - backendRefs:\n    - {name: web-a, port: 80, weight: 90}\n    - {name: \
                     web-b, port: 80, weight: 10}\n";
        town.apply(rules, "/ready", |status, _| status == 302).await?;
        let mut second = 0;
        for _ in 0..2000 {
            let (status, said) = town.get("/").await?;
            assert_eq!(status, 200);
            second += u32::from(said["by"] == "web-b");
        }
        // 2000 draws with p = 0.1: five standard deviations are 67.
        assert!(
            (133..=267).contains(&second),
            "web-b got {second} of 2000, waypoint: {with_waypoint}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn matches_filters_and_refusals_are_the_same_in_both_shapes() -> Result<()> {
    for with_waypoint in [false, true] {
        let town = town(with_waypoint).await?;
        let rules = "  - matches: [{path: {value: /old}}]\n    filters:\n    - {type: URLRewrite, urlRewrite: {path: {type: \
                     ReplacePrefixMatch, replacePrefixMatch: /new}}}\n    - {type: RequestHeaderModifier, requestHeaderModifier: {set: \
                     [{name: x-set, value: 'yes'}], remove: [x-gone]}}\n    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: \
                     [{name: x-answer, value: '42'}]}}\n    backendRefs: [{name: web-a, port: 80}]\n  - matches: [{path: {value: /b}, \
                     headers: [{name: x-version, value: b}]}]\n    backendRefs: [{name: web-b, port: 80}]\n  - matches: [{path: {value: \
                     /moved}}]\n    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.com, statusCode: 301}}]\n  - \
                     matches: [{path: {value: /broken}}]\n    backendRefs: [{name: nobody, port: 80}]\n";
        town.apply(rules, "/moved", |status, _| status == 301).await?;

        let request = http::Request::get("http://web/old/x?q=1")
            .header("x-gone", "1")
            .body(inmesh::Body::empty())?;
        let response = town.curl.mesh.client().request(request).await?;
        assert_eq!(response.headers()["x-answer"], "42");
        let (status, said) = read(response).await?;
        assert_eq!(
            (status, said["path"].as_str()),
            (200, Some("/new/x?q=1")),
            "waypoint: {with_waypoint}"
        );
        assert_eq!(said["headers"]["x-set"], "yes");
        assert!(said["headers"]["x-gone"].is_null());

        let request = http::Request::get("http://web/b")
            .header("x-version", "b")
            .body(inmesh::Body::empty())?;
        assert_eq!(
            read(town.curl.mesh.client().request(request).await?).await?.1["by"],
            "web-b"
        );

        let moved = town.curl.mesh.client().get("http://web/moved/on?a=b").await?;
        assert_eq!(moved.headers()["location"], "http://example.com/moved/on?a=b");

        // No route matches: 404. A backend that does not exist: 500.
        for (path, expected) in [("/elsewhere", 404), ("/broken", 500)] {
            let status = match town.get(path).await {
                Ok((status, _)) => status,
                Err(error) => error.downcast::<inmesh::Refusal>()?.status.as_u16(),
            };
            assert_eq!(status, expected, "{path}, waypoint: {with_waypoint}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_service_without_endpoints_is_unavailable_and_a_dead_one_is_tried_elsewhere() -> Result<()> {
    let town = town(false).await?;
    town.cluster.service("empty", "nobody", "")?;
    let refusal = until("the service is known", || async {
        Ok(town
            .curl
            .mesh
            .client()
            .get("http://empty/")
            .await
            .err()
            .filter(|refusal| refusal.status == 503))
    })
    .await?;
    assert_eq!(refusal.reason, inmesh::Reason::NoEndpoint);

    // A third endpoint that nobody serves: requests that meet it are sent once more, to another one.
    let ghost = town.cluster.address();
    town.cluster.pod_object("web-ghost", "web", ghost, "app: web")?;
    until("the ghost was met", || async {
        let (status, _) = town.get("/").await?;
        assert_eq!(status, 200, "a refused connection is retried on another endpoint");
        let retried = town.curl.mesh.metrics().lines().any(|line| {
            line.strip_prefix("mesh_retries_total ")
                .is_some_and(|count| count != "0")
        });
        Ok(retried.then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_deadline_ends_a_request_that_takes_too_long() -> Result<()> {
    for with_waypoint in [false, true] {
        let cluster = Cluster::new()?;
        cluster.service(
            "slow",
            "slow",
            if with_waypoint {
                "istio.io/use-waypoint: waypoint"
            } else {
                ""
            },
        )?;
        let ip = cluster.address();
        let mesh = cluster.builder("slow-1", "slow", ip)?.start().await?;
        let app = axum::Router::new().fallback(async || std::future::pending::<&'static str>().await);
        mesh.attach(8080, app).await?;
        cluster.pod_object("slow-1", "slow", ip, "app: slow")?;
        let rules = "  - timeouts: {request: 300ms}\n    backendRefs: [{name: slow, port: 80}]\n";
        cluster.apply("route", &route(rules).replace("name: web", "name: slow"))?;
        let _waypoint = if with_waypoint {
            Some(cluster.waypoint().await?)
        } else {
            None
        };
        let curl = cluster.caller("curl").await?;
        let status = until("the deadline is met", || async {
            let client = curl.mesh.client();
            let asked = tokio::time::timeout(std::time::Duration::from_secs(2), client.get("http://slow/"));
            Ok(match asked.await {
                Ok(Ok(response)) => Some(response.status().as_u16()),
                Ok(Err(refusal)) => Some(refusal.status.as_u16()),
                Err(_) => None,
            }
            .filter(|status| *status == 504))
        })
        .await?;
        assert_eq!(status, 504, "waypoint: {with_waypoint}");
    }
    Ok(())
}
