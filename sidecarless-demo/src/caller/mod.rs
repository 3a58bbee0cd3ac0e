//! A caller with an identity: a process of its own, in the mesh, that makes requests when the demo asks it to.
//!
//! [`run`] is the process, [`Caller`] is the demo's hold on it, and the types here are what they say to each
//! other, as JSON over a port on the pod's loopback address.

mod load;
mod process;
mod remote;
mod streams;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use process::run;
pub(crate) use remote::Caller;

/// The port on which a caller takes questions.
pub(crate) const CONTROL: u16 = 8081;

/// One request to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: String,
    /// Where to.
    pub(crate) url: String,
    /// Whether it is a call of gRPC's health check, whatever the method.
    #[serde(default)]
    pub(crate) grpc: bool,
}

/// What came of one request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The status, if there was an answer.
    pub(crate) status: Option<u16>,
    /// Headers of the answer and its trailers, first value each.
    pub(crate) headers: BTreeMap<String, String>,
    /// Why there was no answer.
    pub(crate) error: Option<String>,
}

/// Many requests at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Volley {
    /// Where to.
    pub(crate) url: String,
    /// How many.
    pub(crate) count: usize,
    /// How many at a time.
    pub(crate) width: usize,
    /// Whether each is a call of gRPC's health check.
    #[serde(default)]
    pub(crate) grpc: bool,
}

/// What came of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How often each service answered each proved peer: `served by`, then `peer`.
    pub(crate) answers: BTreeMap<String, BTreeMap<String, usize>>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// Requests without pause until told to stop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) url: String,
    /// How many at a time.
    pub(crate) width: usize,
    /// The pause after each answer, in milliseconds.
    pub(crate) pause: u64,
}

/// What came of the load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests that were answered in full.
    pub(crate) good: u64,
    /// Requests that were not.
    pub(crate) failed: u64,
    /// How the first of those failed.
    pub(crate) failures: Vec<String>,
}

/// One request made again and again, each answer kept until somebody asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// What its answers are filed under.
    pub(crate) name: String,
    /// Where to.
    pub(crate) url: String,
    /// The pause after each answer, in milliseconds.
    pub(crate) pause: u64,
}

/// What came of one request of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Who answered.
    pub(crate) served_by: String,
    /// Whom that saw.
    pub(crate) peer: String,
    /// The trace it belongs to.
    pub(crate) trace: String,
    /// From sending to the answer's last byte, in microseconds.
    pub(crate) micros: u64,
    /// What was wrong, if anything.
    pub(crate) fault: Option<String>,
}

/// The samples of each stream, by its name, oldest first.
pub(crate) type Samples = BTreeMap<String, Vec<Sample>>;

impl Outcome {
    /// A header of the answer; empty if it has none by that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What is wrong with the answer, if anything. A page that lacks a section is not a good answer.
    pub(crate) fn fault(&self) -> Option<String> {
        match (&self.error, self.status) {
            (Some(error), _) => Some(error.clone()),
            (None, Some(200)) if self.headers.contains_key("grpc-status") => {
                let status = self.header("grpc-status");
                (status != "0").then(|| format!("gRPC status {status}"))
            }
            (None, Some(200)) => {
                let missing = self.headers.get(examples::bookinfo::productpage::UNAVAILABLE)?;
                Some(format!("the page lacks {missing}"))
            }
            (None, status) => Some(format!("status {}", status.unwrap_or_default())),
        }
    }
}
