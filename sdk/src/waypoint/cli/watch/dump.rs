//! `waypoint dump`: what a running participant has, as documents.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::endpoint::Endpoint;
use super::shown::{clean, table, text};
use crate::mesh::Error;
use crate::waypoint::cli::{FINE, Output, runtime};

#[derive(Debug, Args)]
pub(in crate::waypoint::cli) struct Dump {
    #[command(flatten)]
    endpoint: Endpoint,

    /// What of it.
    #[arg(value_enum, default_value_t)]
    what: What,

    /// One of the requests or generations, by its number.
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum What {
    /// The configuration in force.
    #[default]
    Config,
    /// Readiness, identity, generation and all that is wrong.
    Status,
    /// What is wrong with the configuration.
    Problems,
    /// Certificates, and until when they are valid.
    Certificates,
    /// What changed when.
    Generations,
    /// The last requests; one of them with where its time went and why it was treated so.
    Requests,
}

impl Dump {
    pub(in crate::waypoint::cli) fn main(self) -> Result<u8, Error> {
        let path = match (self.what, self.number) {
            (What::Config, _) => "/config_dump".to_owned(),
            (What::Status, _) => "/status".to_owned(),
            (What::Problems, _) => "/live/config".to_owned(),
            (What::Certificates, _) => "/live/certificates".to_owned(),
            (What::Generations, None) => "/live/generations".to_owned(),
            (What::Generations, Some(number)) => format!("/live/generations/{number}"),
            (What::Requests, None) => "/live/requests".to_owned(),
            (What::Requests, Some(number)) => format!("/live/requests/{number}"),
        };
        let mut document = runtime(1)?.block_on(self.endpoint.get(&path))?;
        if self.what == What::Problems {
            document = document["problems"].take();
        }
        match (self.output, self.what, self.number) {
            (Output::Text, What::Problems, _) => print!("{}", problems(&document)),
            (Output::Text, What::Certificates, _) => print!("{}", certificates(&document)),
            (Output::Text, What::Generations, None) => print!("{}", generations(&document)),
            (output, ..) => output.print(&document)?,
        }
        Ok(FINE)
    }
}

fn problems(document: &Value) -> String {
    let all = document.as_array().into_iter().flatten();
    let lines = all.map(|it| {
        let told = ["resource", "field", "text"].map(|field| text(it, field));
        let told: Vec<_> = told.into_iter().filter(|it| !it.is_empty()).collect();
        format!(
            "{}: {}: {}\n",
            text(it, "severity"),
            text(it, "place"),
            told.join(": ")
        )
    });
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => "none\n".to_owned(),
        false => lines,
    }
}

fn certificates(document: &Value) -> String {
    let all = document["certificates"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = all
        .map(|it| {
            let left = it["secondsLeft"].as_u64().unwrap_or(0);
            let name = it["names"][0].as_str().map_or_else(|| text(it, "subject"), clean);
            let left = match (it["expired"] == true, left) {
                (true, _) => "EXPIRED".to_owned(),
                (_, 172_800..) => format!("{} d", left / 86_400),
                (_, 7_200..) => format!("{} h", left / 3_600),
                _ => format!("{} min", left / 60),
            };
            vec![
                text(it, "role"),
                name,
                left,
                text(it, "serial"),
                text(it, "issuer"),
            ]
        })
        .collect();
    table(&["ROLE", "NAME", "LEFT", "SERIAL", "ISSUER"], &rows)
}

fn generations(document: &Value) -> String {
    let all = document["generations"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = all
        .map(|it| {
            let summary = it["summary"].as_array().into_iter().flatten();
            let summary: Vec<_> = summary.filter_map(|it| it.as_str().map(clean)).collect();
            let millis = it["publishedMs"].as_u64().unwrap_or(0);
            vec![
                it["generation"].to_string(),
                super::shown::clock(millis),
                it["changeCount"].to_string(),
                it["problems"].to_string(),
                summary.join(", "),
            ]
        })
        .collect();
    table(&["GENERATION", "AT", "CHANGES", "PROBLEMS", "WHAT"], &rows)
}
