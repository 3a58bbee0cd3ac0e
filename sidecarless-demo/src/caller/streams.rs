//! Requests made again and again, whose answers somebody looks at while they come.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use examples::bookinfo::hops;
use inmesh::Client;
use tokio::task::JoinSet;

use super::process::send;
use super::{Call, Sample, Samples, Stream};

/// How many samples of a stream wait for somebody to ask; older ones go first.
const KEPT: usize = 2_000;

/// The streams that run. Dropping them ends them.
#[derive(Default)]
pub(super) struct Streams {
    samples: Vec<(String, Arc<Kept>)>,
    /// Held, not joined: aborted with this.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Kept(Mutex<VecDeque<Sample>>);

impl Streams {
    /// Starts a task for each.
    pub(super) fn start(client: &Client, streams: Vec<Stream>) -> Self {
        let mut tasks = JoinSet::new();
        let mut samples = Vec::new();
        for stream in streams {
            let kept = Arc::<Kept>::default();
            samples.push((stream.name.clone(), Arc::clone(&kept)));
            tasks.spawn(flow(client.clone(), stream, kept));
        }
        Self {
            samples,
            _tasks: tasks,
        }
    }

    /// Takes what has come.
    pub(super) fn take(&self) -> Samples {
        let taken = self
            .samples
            .iter()
            .map(|(name, kept)| (name.clone(), kept.take()));
        taken.collect()
    }
}

async fn flow(client: Client, stream: Stream, kept: Arc<Kept>) {
    let call = Call {
        method: "GET".to_owned(),
        url: stream.url,
        grpc: false,
    };
    loop {
        let began = Instant::now();
        let outcome = send(&client, &call).await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        kept.add(Sample {
            served_by: outcome.header(hops::SERVED_BY).to_owned(),
            peer: outcome.header(hops::PEER).to_owned(),
            trace: outcome.header(hops::TRACE_ID).to_owned(),
            micros,
            fault: outcome.fault(),
        });
        tokio::time::sleep(Duration::from_millis(stream.pause)).await;
    }
}

impl Kept {
    fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn take(&self) -> Vec<Sample> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *samples).into()
    }
}
