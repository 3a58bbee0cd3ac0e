//! Runs tests: each in a world of its own, each case three times in a row, several tests at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::case::{ActionCase, Case, Expect, Mode, Protocol, Send, StatusCase, Test, Traffic};
use super::client::{Answer, exchange, grpc, websocket};
use super::compare::{self, Difference, Exchange};
use super::ledger::Seen;
use super::probe::Probe;
use super::report::{Entry, TestReport, Verdict};
use super::shape::Shape;
use super::site::Site;
use super::town::Town;

/// How often a case must hold in a row.
const REPEAT: usize = 3;
/// How many cases of one test run at a time, where their order does not matter.
const AT_A_TIME: usize = 8;
/// How long copies for mirrors may take.
const COPIES_WITHIN: Duration = Duration::from_secs(10);
/// After how long without a further copy all copies are counted.
const QUIET: Duration = Duration::from_millis(300);
/// How often the ledger is looked at.
const PACE: Duration = Duration::from_millis(5);
/// Of how many rounds of copied shares one must be good.
const MIRROR_ROUNDS: usize = 5;

/// Runs one test in one shape.
pub async fn run(town: &Town, test: &Test, shape: Shape) -> TestReport {
    let began = Instant::now();
    let mut report = TestReport {
        test: test.test.clone(),
        shape,
        summary: test.summary.clone(),
        features: test.features.clone(),
        provisional: test.provisional,
        mode: test.mesh_mapping.mode,
        entries: Vec::new(),
        seconds: 0.0,
    };
    match Site::start(town, test, shape).await {
        Ok(site) => {
            let run = Run { town, test, site };
            report.entries.extend(run.preconditions().await);
            report.entries.extend(run.cases().await);
        }
        // Nothing was tried: every case has failed.
        Err(error) => {
            let failed =
                |case: &Case| Entry::new(case.id(), case.name(), broken("the test could not start", &error));
            report.entries.extend(test.cases.iter().map(failed));
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report
}

struct Run<'r> {
    town: &'r Town,
    test: &'r Test,
    site: Site<'r>,
}

/// A failure that is no difference between two values.
fn broken(what: &str, error: &anyhow::Error) -> Verdict {
    Verdict::Failed(vec![Difference::new(what, "no error", format_args!("{error:#}"))])
}

fn verdict(result: Result<Vec<Difference>>) -> Verdict {
    match result {
        Ok(differences) if differences.is_empty() => Verdict::Passed,
        Ok(differences) => Verdict::Failed(differences),
        Err(error) => broken("the case", &error),
    }
}

impl Run<'_> {
    /// Preconditions that do not hold. They are no cases, so those that hold are not counted.
    async fn preconditions(&self) -> Vec<Entry> {
        if self.test.preconditions.is_empty() {
            return Vec::new();
        }
        let statuses = match self.site.status().await {
            Ok(statuses) => statuses,
            Err(error) => {
                let id = format!("{}/preconditions", self.test.test);
                return vec![Entry::new(&id, "preconditions", broken("the status", &error))];
            }
        };
        let mut entries = Vec::new();
        for (at, precondition) in self.test.preconditions.iter().enumerate() {
            let mut precondition = precondition.clone();
            let places = [Some(&mut precondition.object), precondition.parent.as_mut()];
            places
                .into_iter()
                .flatten()
                .for_each(|it| self.site.translate(it));
            let differences =
                statuses.precondition(&precondition, self.test.mesh_mapping.mode == Mode::Facade);
            if !differences.is_empty() {
                let id = format!("{}/precondition-{:02}", self.test.test, at + 1);
                entries.push(Entry::new(&id, "precondition", Verdict::Failed(differences)));
            }
        }
        entries
    }

    async fn cases(&self) -> Vec<Entry> {
        let at_a_time = if self.test.is_ordered() { 1 } else { AT_A_TIME };
        let cases = stream::iter(&self.test.cases).map(|case| async move {
            let verdict = self.case(case).await;
            Entry::new(case.id(), case.name(), verdict)
        });
        cases.buffered(at_a_time).collect().await
    }

    async fn case(&self, case: &Case) -> Verdict {
        let result = match case {
            Case::Http(it) => self.repeated(it, Kind::Http).await,
            Case::Grpc(it) => self.repeated(it, Kind::Grpc).await,
            Case::Websocket(it) => match &it.send {
                None => self.repeated(it, Kind::Websocket).await,
                Some(send) => Ok(self.first_of_many(it, send).await),
            },
            Case::Distribution(it) => self.distribution(it).await,
            Case::MirrorDistribution(it) => self.mirror_distribution(it).await,
            Case::SelfConsistent(it) => self.self_consistent(it).await,
            Case::Status(it) => self.status(it).await,
            Case::Action(it) => self.action(it).await,
        };
        verdict(result)
    }

    async fn repeated(&self, traffic: &Traffic, kind: Kind) -> Result<Vec<Difference>> {
        for round in 1..=REPEAT {
            let mut differences = self.once(traffic, kind).await?;
            if !differences.is_empty() {
                if round > 1 {
                    differences.push(Difference::new(
                        "repetition",
                        "as before",
                        format_args!("round {round}"),
                    ));
                }
                return Ok(differences);
            }
        }
        Ok(Vec::new())
    }

    async fn once(&self, traffic: &Traffic, kind: Kind) -> Result<Vec<Difference>> {
        let sent = match self.send(traffic, kind, None).await {
            Ok(sent) => sent,
            Err(error) => return Ok(vec![Difference::new("answer", "one", format_args!("{error:#}"))]),
        };
        let mut expect = traffic.expect.clone();
        expect.backend_sees.clone_from(&sent.probe.arrives);
        let mut copies = Vec::new();
        if !expect.mirrored_to.is_empty() {
            let until = Instant::now() + COPIES_WITHIN;
            loop {
                copies = compare::copies(&expect, sent.echo.as_ref(), &self.town.ledger.of(&sent.probe.id));
                if copies.is_empty() || Instant::now() > until {
                    break;
                }
                tokio::time::sleep(PACE).await;
            }
        }
        let seen = self.town.ledger.of(&sent.probe.id);
        self.town.ledger.forget(&sent.probe.id);
        let mut differences = self.compare(traffic, kind, &expect, &sent, &seen);
        differences.extend(copies);
        Ok(differences)
    }

    async fn send(&self, traffic: &Traffic, kind: Kind, extra: Option<(&str, String)>) -> Result<Sent> {
        let way = self.site.way(traffic).await?;
        let mut probe = Probe::new(traffic, self.test.style, &way.host())?;
        if let Some((name, value)) = extra {
            probe.sent.headers.push((name.to_owned(), value));
        }
        let answer = match kind {
            Kind::Websocket => {
                let frames = traffic.frames.as_deref().unwrap_or_default();
                websocket::talk(&way, &probe.sent, frames).await?
            }
            Kind::Http | Kind::Grpc => exchange(&way, &probe.sent).await?,
        };
        let echo = match kind {
            Kind::Grpc => grpc::echo(&answer),
            Kind::Http | Kind::Websocket => serde_json::from_slice(&answer.body).ok(),
        };
        Ok(Sent { probe, answer, echo })
    }

    fn compare(
        &self,
        traffic: &Traffic,
        kind: Kind,
        expect: &Expect,
        sent: &Sent,
        seen: &[Seen],
    ) -> Vec<Difference> {
        let exchange = Exchange {
            scheme: traffic.request.scheme,
            answer: &sent.answer,
            echo: sent.echo.as_ref(),
            seen,
        };
        match kind {
            Kind::Grpc => compare::rpc(expect, &exchange),
            Kind::Http | Kind::Websocket => compare::http(expect, self.test.comparator, &exchange),
        }
    }

    /// Sends `total` requests, `concurrency` at a time, and gives what came of each.
    async fn many(&self, traffic: &Traffic, send: &Send) -> Vec<Result<Sent>> {
        let kind = Kind::of(traffic);
        let requests = stream::iter(0..send.total).map(|_| async move {
            let jitter = send.jitter_header.as_deref().filter(|_| fastrand::bool());
            self.send(
                traffic,
                kind,
                jitter.map(|name| (name, fastrand::u32(..).to_string())),
            )
            .await
        });
        requests.buffer_unordered(send.concurrency.max(1)).collect().await
    }

    /// Compares each answer of many; gives the first differences there are.
    fn first_difference(&self, traffic: &Traffic, all: &[Result<Sent>]) -> Option<Vec<Difference>> {
        all.iter().find_map(|sent| {
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) => return Some(vec![Difference::new("answer", "one", format_args!("{error:#}"))]),
            };
            let mut expect = traffic.expect.clone();
            expect.backend_sees.clone_from(&sent.probe.arrives);
            let seen = self.town.ledger.of(&sent.probe.id);
            let differences = self.compare(traffic, Kind::of(traffic), &expect, sent, &seen);
            (!differences.is_empty()).then_some(differences)
        })
    }

    /// Sends many where nothing is said of all of them together.
    async fn first_of_many(&self, traffic: &Traffic, send: &Send) -> Vec<Difference> {
        let all = self.many(traffic, send).await;
        let difference = self.first_difference(traffic, &all);
        self.forget(&all);
        difference.unwrap_or_default()
    }

    fn forget(&self, all: &[Result<Sent>]) {
        all.iter()
            .flatten()
            .for_each(|sent| self.town.ledger.forget(&sent.probe.id));
    }

    async fn distribution(&self, traffic: &Traffic) -> Result<Vec<Difference>> {
        let send = traffic
            .send
            .as_ref()
            .context("the case does not say how often to send")?;
        let expect = traffic
            .expect
            .distribution
            .as_ref()
            .context("the case states no shares")?;
        let mut last = Vec::new();
        for _ in 0..expect.max_rounds.max(1) {
            let all = self.many(traffic, send).await;
            let difference = self.first_difference(traffic, &all);
            self.forget(&all);
            last = match difference {
                Some(differences) => differences,
                None => {
                    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
                    for echo in all.iter().flatten().filter_map(|sent| sent.echo.as_ref()) {
                        *counts
                            .entry((echo.namespace.clone(), echo.deployment.clone()))
                            .or_default() += 1;
                    }
                    compare::shares(expect, &counts)
                }
            };
            if last.is_empty() {
                break;
            }
        }
        Ok(last)
    }

    async fn mirror_distribution(&self, traffic: &Traffic) -> Result<Vec<Difference>> {
        let send = traffic
            .send
            .as_ref()
            .context("the case does not say how often to send")?;
        let mut last = Vec::new();
        for _ in 0..MIRROR_ROUNDS {
            let all = self.many(traffic, send).await;
            let counts = self.settled_copies(traffic, &all).await;
            last = self.first_difference(traffic, &all).unwrap_or_default();
            self.forget(&all);
            let mirrors = traffic.expect.mirrored_to.iter().zip(&counts);
            last.extend(mirrors.filter_map(|(mirror, count)| compare::copied(mirror, send.total, *count)));
            if last.is_empty() {
                break;
            }
        }
        Ok(last)
    }

    /// How many copies each mirror got, once no more come.
    async fn settled_copies(&self, traffic: &Traffic, all: &[Result<Sent>]) -> Vec<usize> {
        let count = || -> Vec<usize> {
            let seen: Vec<(Option<u64>, Vec<Seen>)> = all
                .iter()
                .flatten()
                .map(|sent| {
                    (
                        sent.echo.as_ref().map(|it| it.number),
                        self.town.ledger.of(&sent.probe.id),
                    )
                })
                .collect();
            let copies = |mirror| compare::count_copies(mirror, &seen);
            traffic.expect.mirrored_to.iter().map(copies).collect()
        };
        let until = Instant::now() + COPIES_WITHIN;
        let mut counts = count();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = count();
            if now == counts || Instant::now() > until {
                return now;
            }
            counts = now;
        }
    }

    async fn self_consistent(&self, traffic: &Traffic) -> Result<Vec<Difference>> {
        let send = traffic
            .send
            .as_ref()
            .context("the case does not say how often to send")?;
        let rule = traffic
            .expect
            .every_response
            .as_ref()
            .context("the case states no rule")?;
        let all = self.many(traffic, send).await;
        let difference = self.first_difference(traffic, &all);
        self.forget(&all);
        if let Some(differences) = difference {
            return Ok(differences);
        }
        for sent in all.iter().flatten() {
            let differences = match &sent.echo {
                Some(echo) => compare::each(rule, echo),
                None => vec![Difference::new(
                    "answer",
                    "from a backend",
                    "without a backend's echo",
                )],
            };
            if !differences.is_empty() {
                return Ok(differences);
            }
        }
        Ok(Vec::new())
    }

    async fn status(&self, case: &StatusCase) -> Result<Vec<Difference>> {
        let mut case = case.clone();
        let places = [
            Some(&mut case.object),
            case.parent.as_mut(),
            case.ancestor.as_mut(),
        ];
        places
            .into_iter()
            .flatten()
            .for_each(|it| self.site.translate(it));
        Ok(self.site.status().await?.compare(&case))
    }

    async fn action(&self, case: &ActionCase) -> Result<Vec<Difference>> {
        self.site.act(&case.act).await?;
        Ok(Vec::new())
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Grpc,
    Websocket,
}

impl Kind {
    /// Of a case that sends many.
    fn of(traffic: &Traffic) -> Self {
        match traffic.request.protocol {
            Protocol::Grpc => Self::Grpc,
            _ if traffic.frames.is_some() => Self::Websocket,
            _ => Self::Http,
        }
    }
}

/// What came of one probe.
#[derive(Debug)]
struct Sent {
    probe: Probe,
    answer: Answer,
    echo: Option<Seen>,
}
