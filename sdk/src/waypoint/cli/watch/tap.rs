//! `waypoint tap`: requests as they end.

use std::io::Write;

use clap::Args;
use http_body_util::BodyExt;
use serde_json::Value;

use super::endpoint::{Endpoint, encoded};
use super::shown::{clean, clock, end, text};
use crate::mesh::{Error, ErrorKind};
use crate::waypoint::cli::{FINE, Output, WRONG, runtime};

#[derive(Debug, Args)]
#[command(after_help = "Filters, all of which must hold:\n  \
    from=curl to=reviews method=GET host=reviews path=/reviews status=5xx status>=400 ms>100\n  \
    id=REQUEST-ID trace=TRACE-ID flags=UH rule=default/reviews policy=viewer refused=denied direction=waypoint\n  \
    is:ok is:slow is:denied is:failed is:retried path!=/health, and words that occur anywhere")]
pub(in crate::waypoint::cli) struct Tap {
    #[command(flatten)]
    endpoint: Endpoint,

    /// Which requests to show; see below.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,

    /// End after so many.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,

    /// Show the last ones that are remembered instead of those to come.
    #[arg(long)]
    last: bool,

    /// How to write each; in JSON one a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Tap {
    pub(in crate::waypoint::cli) fn main(self) -> Result<u8, Error> {
        runtime(1)?.block_on(self.run())
    }

    async fn run(self) -> Result<u8, Error> {
        let filter = encoded(&self.filter.join(" "));
        if self.last {
            let limit = self.count.unwrap_or(50);
            let path = format!("/live/requests?limit={limit}&filter={filter}");
            let found = self.endpoint.get(&path).await?;
            let requests = found["requests"].as_array().into_iter().flatten();
            for request in requests.collect::<Vec<_>>().into_iter().rev() {
                if !self.show(request)? {
                    break;
                }
            }
            return Ok(FINE);
        }
        let mut body = self
            .endpoint
            .stream(&format!("/live/stream?filter={filter}"))
            .await?;
        let (mut read, mut shown) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| gone().caused_by(error))?;
            read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            // An event ends with an empty line.
            while let Some(at) = read.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = read.drain(..at + 2).collect();
                let Some(requests) = self.event(&String::from_utf8_lossy(&event))? else {
                    return Ok(FINE);
                };
                shown += requests;
                if self.count.is_some_and(|count| shown >= count) {
                    return Ok(FINE);
                }
            }
        }
        eprintln!("waypoint: {}", gone());
        Ok(WRONG)
    }

    /// Shows an event, and says of how many requests it was; nothing once nobody reads any more.
    fn event(&self, event: &str) -> Result<Option<u64>, Error> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
        match (field("event: "), data) {
            (Some("request"), Some(request)) => Ok(self.show(&request)?.then_some(1)),
            (Some("lost"), Some(lost)) => {
                eprintln!(
                    "waypoint: {} requests are not shown: too many at once",
                    lost["count"]
                );
                Ok(Some(0))
            }
            _ => Ok(Some(0)),
        }
    }

    /// Says whether somebody still reads: with `| head` there comes a time when nobody does.
    fn show(&self, request: &Value) -> Result<bool, Error> {
        let text = match self.output {
            Output::Text => line(request),
            Output::Json => request.to_string(),
            Output::Yaml => {
                println!("---");
                return self.output.print(request).map(|()| true);
            }
        };
        Ok(writeln!(std::io::stdout(), "{text}").is_ok())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Source, "the other end is gone")
}

fn line(request: &Value) -> String {
    let micros = request["durationUs"].as_u64().unwrap_or(0);
    let secured = if request["mtls"] == true { "" } else { " PLAIN" };
    let decided = match request["outcome"] == "denied" {
        true => text(request, "policy"),
        false => text(request, "rule"),
    };
    let mut line = format!(
        "{} {:>3} {:<6} {}{} {} -> {} {:.1}ms{secured}",
        clock(request["timeMs"].as_u64().unwrap_or(0)),
        request["status"],
        text(request, "method"),
        text(request, "host"),
        text(request, "path"),
        end(&request["source"]),
        end(&request["destination"]),
        micros as f64 / 1e3,
    );
    for (name, value) in [
        (
            "flags",
            clean(
                request["flags"]
                    .as_str()
                    .filter(|it| *it != "-")
                    .unwrap_or_default(),
            ),
        ),
        ("by", decided),
        ("refused", text(request, "refused")),
        ("trace", text(request, "traceId")),
    ] {
        if !value.is_empty() {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}
