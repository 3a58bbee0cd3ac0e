//! A real Prometheus fetches what a participant counts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use http::Method;
use inmesh_tests::kit::Cluster;
use inmesh_tests::kit::admin::{ADMIN, Admin};
use inmesh_tests::kit::process::Process;
use inmesh_tests::kit::wait::until;
use inmesh_tests::kit::world::{request, status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The program, if it is installed here; says that its test is left out otherwise.
fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join("prometheus"));
    let found = found.find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: there is no `prometheus` here, so nobody asks for exemplars");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exemplars_arrive_with_the_trace_they_belong_to() -> Result<()> {
    let Some(program) = program() else {
        return Ok(());
    };
    let cluster = Cluster::new()?;
    cluster.service("reviews", "reviews", None)?;
    let pod = cluster
        .run(&cluster.pod("reviews").label("app", "reviews"))
        .await?;
    let (_mesh, curl) = cluster.client("curl").await?;
    until("it answers", || async {
        status(curl.get("http://reviews:9080/").await) == 200
    })
    .await;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let asked = request(Method::GET, "http://reviews:9080/", &[("traceparent", &parent)]);
    assert_eq!(status(curl.request(asked).await), 200);

    let listen = SocketAddr::from((cluster.address(), 9090));
    let config = cluster.path().join("prometheus.yml");
    let target = SocketAddr::from((pod.spec.ip, ADMIN));
    std::fs::write(
        &config,
        format!(
            "scrape_configs:\n- job_name: mesh\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  metrics_path: /metrics\n  \
             static_configs: [{{targets: ['{target}']}}]\n"
        ),
    )?;
    let _prometheus = Process::spawn(
        Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                cluster.path().join("prometheus").display()
            ))
            .arg(format!("--web.listen-address={listen}"))
            .arg("--enable-feature=exemplar-storage"),
        &cluster.path().join("prometheus.log"),
    )?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for metric in [
        "istio_request_duration_milliseconds_bucket",
        "http_server_request_duration_seconds_bucket",
    ] {
        let (start, end) = (now - 600, now + 600);
        let question = format!("/api/v1/query_exemplars?query={metric}&start={start}&end={end}");
        until(&format!("Prometheus has the exemplar of {metric}"), || async {
            let answer = Admin::at(listen).json(&question).await;
            let found = answer.context("it is asked").map(|answer| answer["data"].clone());
            found.is_ok_and(|data| {
                let series = data.as_array().into_iter().flatten();
                let mut exemplars = series.flat_map(|it| it["exemplars"].as_array().into_iter().flatten());
                exemplars.any(|it| it["labels"]["trace_id"] == TRACE)
            })
        })
        .await;
    }
    Ok(())
}
