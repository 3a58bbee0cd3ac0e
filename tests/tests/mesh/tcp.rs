//! What is not HTTP: bytes both ways, judged by L4 policy.

use anyhow::Result;
use inmesh_tests::cluster::{Cluster, Pod, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db, namespace: default}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/WHO, cluster.local/ns/default/sa/waypoint]}}]
";

/// A database that answers in upper case, on localhost beside its pod.
async fn database(town: &Cluster) -> Result<Pod> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let local = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    buffer[..count].make_ascii_uppercase();
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let ip = town.address();
    let mesh = town.builder("db-1", "db", ip)?.start().await?;
    mesh.relay(5432, local).await?;
    town.pod_object("db-1", "db", ip, "app: db")?;
    Ok(Pod {
        name: "db-1".into(),
        ip,
        mesh,
    })
}

async fn ask(pod: &Pod) -> Result<String> {
    let mut stream = pod.mesh.client().connect("db:5432").await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn bytes_pass_if_the_policy_allows_the_caller_and_are_cut_when_it_no_longer_does() -> Result<()> {
    for with_waypoint in [false, true] {
        let town = Cluster::new()?;
        let label = if with_waypoint {
            "istio.io/use-waypoint: waypoint"
        } else {
            ""
        };
        town.apply(
            "service-db",
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: default, labels: {{{label}}}}}\nspec: {{selector: {{app: \
                 db}}, ports: [{{name: tcp-sql, port: 5432}}]}}\n"
            ),
        )?;
        town.apply("policy", &POLICY.replace("WHO", "curl"))?;
        let _db = database(&town).await?;
        let _waypoint = if with_waypoint {
            Some(town.waypoint().await?)
        } else {
            None
        };
        let (curl, other) = (town.caller("curl").await?, town.caller("other").await?);
        let answer = until("the database answers", || async { Ok(ask(&curl).await.ok()) }).await?;
        assert_eq!(answer, "HELLO", "waypoint: {with_waypoint}");
        if with_waypoint {
            continue; // behind a waypoint the database sees the waypoint alone
        }
        assert!(
            ask(&other).await.is_err(),
            "a caller that is not allowed is refused at the CONNECT"
        );

        let mut stream = curl.mesh.client().connect("db:5432").await?;
        stream.write_all(b"a").await?;
        assert_eq!(stream.read_u8().await?, b'A');
        town.apply("policy", &POLICY.replace("WHO", "other"))?;
        let mut rest = Vec::new();
        let cut = tokio::time::timeout(inmesh_tests::cluster::PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(cut.is_ok(), "the open connection is cut");
        until("the other one is allowed", || async {
            Ok(ask(&other).await.ok())
        })
        .await?;
    }
    Ok(())
}
