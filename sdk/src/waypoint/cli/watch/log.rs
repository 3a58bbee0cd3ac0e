//! `waypoint log`: what is logged, from now on.

use clap::Args;
use serde_json::json;

use super::endpoint::Endpoint;
use super::shown::text;
use crate::mesh::Error;
use crate::waypoint::cli::{FINE, Output, runtime};

#[derive(Debug, Args)]
pub(in crate::waypoint::cli) struct Log {
    #[command(flatten)]
    endpoint: Endpoint,

    /// From which level on to log: off, error, warn, info, debug or trace; of one module, or of all that have none of their
    /// own. Without any, what is logged now is shown.
    #[arg(value_name = "[MODULE=]LEVEL")]
    levels: Vec<String>,

    /// Log as in the beginning; before any levels that are given.
    #[arg(long)]
    reset: bool,

    /// How to write the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Log {
    pub(in crate::waypoint::cli) fn main(self) -> Result<u8, Error> {
        runtime(1)?.block_on(self.run())
    }

    async fn run(self) -> Result<u8, Error> {
        let mut now = self.endpoint.get("/logging").await?;
        if self.reset {
            now = self.endpoint.post("/logging", &json!({ "reset": true })).await?;
        }
        for level in &self.levels {
            let document = match level.split_once('=') {
                Some((module, level)) => json!({ "module": module, "level": level }),
                None => json!({ "level": level }),
            };
            now = self.endpoint.post("/logging", &document).await?;
        }
        match self.output {
            Output::Text => println!("{}", text(&now, "directives")),
            output => output.print(&now)?,
        }
        Ok(FINE)
    }
}
