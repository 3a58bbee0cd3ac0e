//! A real Prometheus scrapes the town and answers every question that a dashboard asks; `promtool` reads what it is
//! configured with.

mod board;
mod busy;
mod prometheus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use self::board::Board;
use self::prometheus::Prometheus;
use crate::town::{Town, eventually, program};

/// How long a series may take to be there: a few scrapes, and a window of rates.
const PATIENCE: Duration = Duration::from_secs(120);

/// The variables that a person would choose; every other has the first value that Prometheus offers.
const CHOSEN: [(&str, &str); 4] = [
    ("namespace", "bookinfo"),
    ("service", "reviews"),
    ("workload", "reviews-v2"),
    ("waypoint", "waypoint"),
];

fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("observability")
}

fn boards() -> anyhow::Result<Vec<Board>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(observability().join("grafana"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    files.iter().map(|file| Board::read(file)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_every_dashboard_has_data() -> anyhow::Result<()> {
    let left_out = "no dashboard is checked against a real Prometheus";
    let Some(program) = program(&["prometheus"], "prometheus", left_out) else {
        return Ok(());
    };
    let town = Town::start().await?;
    let _busy = busy::everything_happens(&town).await?;
    let prometheus = Prometheus::start(&program, &town)?;
    eventually("every process to be scraped", PATIENCE, async || {
        let up = prometheus.numbers("up").await?;
        ensure!(up.len() >= 11, "{} processes are known", up.len());
        ensure!(up.iter().all(|up| *up == 1.0), "not all of {} answer", up.len());
        Ok(())
    })
    .await?;

    let mut asked = 0;
    for board in boards()? {
        for values in chosen(&prometheus, &board).await? {
            for panel in board.panels() {
                for query in board::queries(panel) {
                    asked += 1;
                    answers(
                        &prometheus,
                        &board,
                        &board::title(panel),
                        &board::filled(query, &values),
                    )
                    .await?;
                }
            }
            for query in board.annotations() {
                prometheus.ask(&board::filled(query, &values)).await?;
            }
        }
    }
    ensure!(asked > 100, "{asked} questions were asked");
    println!("{asked} questions, all answered");

    let unhealthy = prometheus.unhealthy_rules().await?;
    ensure!(
        unhealthy.is_empty(),
        "rules that cannot be evaluated: {unhealthy:?}"
    );
    for record in records()? {
        answers_to(&prometheus, &record)
            .await
            .with_context(|| format!("recording {record}"))?;
    }
    Ok(())
}

/// Waits until a query has a value that is a number.
async fn answers(prometheus: &Prometheus, board: &Board, panel: &str, query: &str) -> anyhow::Result<()> {
    answers_to(prometheus, query)
        .await
        .with_context(|| format!("{}, panel {panel:?}: {query}", board.name()))
}

async fn answers_to(prometheus: &Prometheus, query: &str) -> anyhow::Result<()> {
    eventually("an answer", PATIENCE, async || {
        let numbers = prometheus.numbers(query).await?;
        ensure!(!numbers.is_empty(), "no data");
        ensure!(
            numbers.iter().any(|number| number.is_finite()),
            "{numbers:?} is no number"
        );
        Ok(())
    })
    .await
}

/// The values of a dashboard's variables, once for each value of those that are lists; every query of a variable must
/// offer the value chosen.
async fn chosen(prometheus: &Prometheus, board: &Board) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    let mut all = vec![BTreeMap::new()];
    for variable in board.variables() {
        let name = variable.name();
        let values = match variable.list() {
            Some(values) => values,
            None => {
                let query = board::filled(variable.query()?, &all[0]);
                let (selector, label) = board::label_values(&query)?;
                let offered = eventually(&format!("values of ${name}"), PATIENCE, async || {
                    let offered = prometheus.label_values(&selector, &label).await?;
                    ensure!(!offered.is_empty(), "{query} offers none");
                    Ok(offered)
                })
                .await
                .with_context(|| board.name().to_owned())?;
                let wanted = CHOSEN.iter().find(|(known, _)| *known == name);
                let (_, wanted) = wanted.with_context(|| format!("nobody chooses ${name}"))?;
                ensure!(
                    offered.iter().any(|value| value == wanted),
                    "{query} offers {offered:?}, not {wanted}"
                );
                let everything = variable.includes_all().then(|| ".*".to_owned());
                std::iter::once((*wanted).to_owned()).chain(everything).collect()
            }
        };
        all = all
            .iter()
            .flat_map(|chosen| {
                values.iter().map(move |value| {
                    let mut chosen = chosen.clone();
                    chosen.insert(name.to_owned(), value.clone());
                    chosen
                })
            })
            .collect();
    }
    Ok(all)
}

fn rules() -> anyhow::Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(observability().join("prometheus/rules.yml"))?;
    let rules: serde_json::Value = serde_saphyr::from_str(&text)?;
    let groups = rules["groups"].as_array().context("there are no groups")?.clone();
    Ok(groups
        .iter()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
        .collect())
}

fn records() -> anyhow::Result<Vec<String>> {
    let rules = rules()?;
    let names = rules.iter().filter_map(|rule| rule["record"].as_str());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn every_alert_has_its_place_in_the_runbook() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut alerts = 0;
    for rule in rules()? {
        let Some(alert) = rule["alert"].as_str() else {
            continue;
        };
        alerts += 1;
        let runbook = rule["annotations"]["runbook"]
            .as_str()
            .with_context(|| alert.to_owned())?;
        let (file, anchor) = runbook.split_once('#').with_context(|| runbook.to_owned())?;
        let page = std::fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        let heading = page
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .find(|heading| heading.to_lowercase() == anchor);
        ensure!(
            heading == Some(alert),
            "{alert} points to {runbook}, which is not there"
        );
    }
    ensure!(alerts > 10, "{alerts} alerts");
    Ok(())
}

#[test]
fn promtool_accepts_configuration_and_rules_and_every_alert_fires_when_it_should() -> anyhow::Result<()> {
    let left_out = "neither rules nor configuration of Prometheus are checked";
    let Some(promtool) = program(&["promtool"], "prometheus", left_out) else {
        return Ok(());
    };
    let folder = observability().join("prometheus");
    let tests = std::fs::read_to_string(folder.join("rules_test.yml"))?;
    for rule in rules()? {
        if let Some(alert) = rule["alert"].as_str() {
            ensure!(
                tests.contains(&format!("alertname: {alert}\n")),
                "no test fires {alert}"
            );
        }
    }
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(&folder)
            .output()?;
        ensure!(
            output.status.success(),
            "promtool {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[test]
fn dashboards_are_whole_and_told_apart() -> anyhow::Result<()> {
    let boards = boards()?;
    let names: Vec<&str> = boards.iter().map(Board::name).collect();
    ensure!(names.len() == 5, "{names:?}");
    for board in &boards {
        board.is_whole().with_context(|| board.name().to_owned())?;
    }
    let mut ids: Vec<&str> = boards.iter().map(Board::id).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == boards.len(), "{ids:?}");
    Ok(())
}
