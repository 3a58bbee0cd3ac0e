//! A real Prometheus, with the configuration that the demo wrote.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::plain;
use crate::town::{Town, good};

/// A Prometheus that scrapes the town.
pub(super) struct Prometheus {
    process: Child,
    authority: String,
}

impl Prometheus {
    /// Starts one on an address of the town's block that no pod gets.
    pub(super) fn start(program: &Path, town: &Town) -> anyhow::Result<Self> {
        let pod = town.address("default/curl-1")?;
        let (block, _) = pod.rsplit_once('.').context("no address")?;
        let authority = format!("{block}.253:9090");
        let log = std::fs::File::create(town.root().join("prometheus.log"))?;
        let data = town.root().join("prometheus-data");
        let process = Command::new(program)
            .arg(format!(
                "--config.file={}",
                town.root().join("observability/prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={authority}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting prometheus")?;
        Ok(Self { process, authority })
    }

    /// The numbers that a question has for an answer now.
    pub(super) async fn numbers(&self, query: &str) -> anyhow::Result<Vec<f64>> {
        let data = self.ask(query).await?;
        let samples = match data["resultType"].as_str() {
            Some("scalar") => vec![&data["result"]],
            _ => data["result"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| &it["value"])
                .collect(),
        };
        let numbers = samples.into_iter().map(|sample| {
            let text = sample[1]
                .as_str()
                .with_context(|| format!("no sample: {sample}"))?;
            Ok(text.parse()?)
        });
        numbers.collect()
    }

    /// The answer to a question.
    pub(super) async fn ask(&self, query: &str) -> anyhow::Result<Value> {
        self.data(&format!("/api/v1/query?query={}", encoded(query)))
            .await
    }

    /// The values of a label among the series of a selector.
    pub(super) async fn label_values(&self, selector: &str, label: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/api/v1/label/{label}/values?match[]={}", encoded(selector));
        let data = self.data(&path).await?;
        Ok(serde_json::from_value(data)?)
    }

    /// The rules that could not be evaluated.
    pub(super) async fn unhealthy_rules(&self) -> anyhow::Result<Vec<String>> {
        let data = self.data("/api/v1/rules").await?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let unhealthy = rules.filter(|rule| rule["health"] != "ok");
        Ok(unhealthy
            .map(|rule| format!("{} {}", rule["name"], rule["lastError"]))
            .collect())
    }

    async fn data(&self, path: &str) -> anyhow::Result<Value> {
        let answer = plain::get(&self.authority, path).await?;
        let mut answer: Value = serde_json::from_str(&good(answer)?)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Text as it may stand in a query.
fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    bytes.collect()
}
