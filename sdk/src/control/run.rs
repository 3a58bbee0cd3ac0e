//! The loop itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{Instrument, Span};

use super::clock::Clock;
use super::dns::Resolver;
use super::files::Reader;
use super::history::History;
use super::inbox::Inbox;
use super::retire::Retired;
use super::{ControlSettings, Failed, Report, Status};
use crate::compile::{Compiled, Compiler};
use crate::config::{Problem, Severity};
use crate::snapshot::{Live, Snapshot};
use crate::source::BoxSource;
use crate::telemetry::{self, field};

/// A wake-up in the far future.
const NEVER: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(
    sources: Vec<BoxSource>,
    settings: ControlSettings,
    live: Arc<Live>,
    published: impl Fn(&Snapshot, &Snapshot, &Report) + Send + Sync + 'static,
    tell: watch::Sender<Arc<Status>>,
) {
    let mut control = Control {
        inbox: Inbox::of(sources),
        clock: Clock::new(settings.settle, settings.linger),
        resolver: Resolver::new(settings.resolve),
        files: Reader::new(),
        compiler: Compiler::default(),
        settings,
        live,
        published: Arc::new(published),
        retired: Retired::default(),
        tell,
        shown: Arc::default(),
        history: History::default(),
    };
    loop {
        control.wait().await;
        if control.inbox.is_synced() {
            control.update().await;
        } else if let Some(text) = control.inbox.failure.take() {
            control.fail(Failed { strict: false, text });
        }
    }
}

struct Control<F> {
    inbox: Inbox,
    clock: Clock,
    resolver: Resolver,
    files: Reader,
    /// Keeps what one compilation can take over from the one before.
    compiler: Compiler,
    settings: ControlSettings,
    live: Arc<Live>,
    published: Arc<F>,
    retired: Retired,
    tell: watch::Sender<Arc<Status>>,
    /// The problems that were logged.
    shown: Arc<Vec<Problem>>,
    history: History,
}

impl<F: Fn(&Snapshot, &Snapshot, &Report) + Send + Sync + 'static> Control<F> {
    /// Waits until there is something to do, and then until it is quiet.
    async fn wait(&mut self) {
        let now = Instant::now();
        let wake = self.clock.next(now).unwrap_or(now + NEVER);
        tokio::select! {
            () = self.inbox.receive() => {}
            () = self.resolver.changed() => {}
            () = self.files.changed() => {}
            () = sleep_until(wake) => return,
        }
        let latest = Instant::now() + self.settings.collect;
        loop {
            let quiet = (Instant::now() + self.settings.quiet).min(latest);
            if timeout_at(quiet, self.inbox.receive()).await.is_err() {
                return;
            }
        }
    }

    /// Compiles what is known and puts it in force.
    async fn update(&mut self) {
        let span = telemetry::compile_span(self.inbox.store.len());
        self.renew(&span).instrument(span.clone()).await;
    }

    async fn renew(&mut self, span: &Span) {
        let started = Instant::now();
        let Some(mut compiled) = self.compile().await else {
            return;
        };
        if self.clock.note(&compiled, Instant::now()) {
            // Told of what is new and what is gone, callers, waypoint and destinations change over one after another.
            match self.compile().await {
                Some(again) => compiled = again,
                None => return,
            }
        }
        self.resolver.ask(&compiled.names);
        self.files.ask(&compiled.files);
        let Compiled {
            snapshot,
            problems,
            statuses,
            ..
        } = compiled;
        let mut all: Vec<Problem> = self.inbox.problems().cloned().chain(problems).collect();
        all.sort();
        all.dedup();
        let ignored = all
            .iter()
            .filter(|problem| problem.severity == Severity::Ignored)
            .count();
        self.show(all);
        span.record(field::PROBLEMS, self.shown.len());
        if self.settings.strict && ignored > 0 {
            let first = self
                .shown
                .iter()
                .find(|problem| problem.severity == Severity::Ignored);
            let first = first.map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "strict mode: {ignored} things that are written are not enforced, so none of this configuration is put \
                 in force; the first is {first}"
            );
            tracing::error!(ignored, "{text}");
            return self.fail(Failed { strict: true, text });
        }
        let report = Report {
            problems: self.shown.len(),
            compile: started.elapsed(),
        };
        let next = Arc::new(snapshot);
        span.record(field::GENERATION, next.generation);
        let old = self.live.publish(Arc::clone(&next));
        // Whoever meets the new snapshot finds its problems told.
        self.tell.send_replace(Arc::new(Status {
            generation: next.generation,
            synced: true,
            published: Some(SystemTime::now()),
            resources: self.inbox.store.len(),
            problems: Arc::clone(&self.shown),
            statuses: Arc::new(statuses),
            history: self.history.told(),
            failed: None,
        }));
        tracing::info!(
            generation = next.generation,
            services = next.services.len(),
            resources = self.inbox.store.len(),
            problems = report.problems,
            compile = ?report.compile,
            "published",
        );
        let old = self.announce(old, &next, report).await;
        self.remember(next.generation, report.compile).await;
        if let Some(old) = old {
            self.retired.add(old);
        }
    }

    /// Tells whoever asked for it of a swap. All of both snapshots may be read for that, which is no work for the
    /// application's threads.
    async fn announce(
        &self,
        old: Arc<Snapshot>,
        next: &Arc<Snapshot>,
        report: Report,
    ) -> Option<Arc<Snapshot>> {
        let (published, next) = (Arc::clone(&self.published), Arc::clone(next));
        let told = tokio::task::spawn_blocking(move || {
            published(&old, &next, &report);
            old
        });
        told.await
            .inspect_err(|error| tracing::error!(%error, "not everybody could be told of the swap"))
            .ok()
    }

    /// Notes what is new, and tells it after the rest: what is compared is read for that.
    async fn remember(&mut self, generation: u64, compile: Duration) {
        let (store, problems) = (self.inbox.store.clone(), Arc::clone(&self.shown));
        let mut history = std::mem::take(&mut self.history);
        let noted = tokio::task::spawn_blocking(move || {
            history.add(generation, compile, store, problems);
            history
        });
        match noted.await {
            Ok(history) => self.history = history,
            Err(error) => tracing::error!(%error, "what changed could not be told"),
        }
        let told = self.history.told();
        self.tell
            .send_modify(|status| Arc::make_mut(status).history = told);
    }

    async fn compile(&mut self) -> Option<Compiled> {
        let mut handover = self.clock.handover(Instant::now(), self.resolver.resolved());
        handover.files = self.files.contents();
        let (store, node, previous) = (
            self.inbox.store.clone(),
            self.settings.node.clone(),
            self.live.pin(),
        );
        let span = Span::current();
        let mut compiler = std::mem::take(&mut self.compiler);
        let compiling = tokio::task::spawn_blocking(move || {
            // Generation 0 is no configuration at all.
            let previous = Some(&*previous).filter(|it| it.generation > 0);
            let compiled = span.in_scope(|| compiler.compile(&store, &node, &handover, previous));
            (compiled, compiler)
        });
        match compiling.await {
            Ok((compiled, compiler)) => {
                self.compiler = compiler;
                Some(compiled)
            }
            Err(error) => {
                // A bug of ours; the whole previous snapshot stays, and the next time everything is compiled anew.
                tracing::error!(%error, "compiling failed; the configuration before stays in force");
                self.fail(Failed {
                    strict: false,
                    text: format!("compiling failed: {error}"),
                });
                None
            }
        }
    }

    /// Notes that what is written now is not in force.
    fn fail(&self, failed: Failed) {
        let span = Span::current();
        span.record(field::OTEL_STATUS, "error");
        span.record(field::ERROR_TYPE, if failed.strict { "strict" } else { "failed" });
        span.record(field::REASON, &*failed.text);
        self.tell.send_modify(|status| {
            let next = Arc::make_mut(status);
            next.problems = Arc::clone(&self.shown);
            next.failed = Some(failed);
        });
    }

    /// Logs what is newly wrong and what is no longer.
    fn show(&mut self, problems: Vec<Problem>) {
        for problem in problems
            .iter()
            .filter(|problem| self.shown.binary_search(problem).is_err())
        {
            match problem.severity {
                Severity::Error => tracing::error!(target: "inmesh::config", "{problem}"),
                Severity::Warning | Severity::Ignored => {
                    tracing::warn!(target: "inmesh::config", "{problem}")
                }
            }
        }
        for problem in self
            .shown
            .iter()
            .filter(|problem| problems.binary_search(problem).is_err())
        {
            tracing::info!(target: "inmesh::config", "resolved: {problem}");
        }
        self.shown = Arc::new(problems);
    }
}
