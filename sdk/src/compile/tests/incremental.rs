//! Whatever changes, and in whatever order: a compiler that remembers says the same as one that does not.

mod resources;
mod words;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::kit::*;
use crate::compile::{Compiled, Compiler, Handover, compile};
use crate::config::{ResourceStore, yaml};
use crate::name::{Host, ResourceRef};
use crate::policy::cases::cases;
use crate::snapshot::Node;
use resources::KINDS;
use words::shown;

/// Something that happens to one resource.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: usize,
    /// Which of the few of its kind.
    which: usize,
    /// How it is written from now on; it is deleted where nothing is written so.
    how: usize,
}

/// What is applied, and every resource that ever was.
#[derive(Default)]
struct Town {
    store: ResourceStore,
    /// What each step wrote, so that it can be taken away.
    written: BTreeMap<(usize, usize), Vec<ResourceRef>>,
}

impl Town {
    fn take(&mut self, step: &Step) {
        let (kind, write) = KINDS[step.kind];
        let text = write(step);
        let at = KINDS.iter().position(|(other, _)| *other == kind).unwrap_or(0);
        let mut before = self.written.remove(&(at, step.which)).unwrap_or_default();
        if let Some(text) = text {
            // Resources that are written the same again are not the same to whoever compares identities.
            let parsed = yaml::read(&format!("{kind:?}{}.yaml", step.which), &text, None);
            for entry in parsed.entries {
                let reference = entry.reference();
                before.retain(|it| *it != reference);
                self.written.entry((at, step.which)).or_default().push(reference);
                self.store.apply(entry);
            }
            // What cannot be read stays as it was.
            let failed: Vec<_> = before.extract_if(.., |it| parsed.failed.contains(it)).collect();
            self.written.entry((at, step.which)).or_default().extend(failed);
        }
        for reference in before {
            self.store.delete(&reference);
        }
    }
}

/// Whose view is compiled: a workload, a waypoint, and an ingress that Gateways of Istio's select by its labels.
fn seats() -> [Node; 3] {
    let edge = Node {
        pod: Some("d0-1".into()),
        ..gateway("default", "edge")
    };
    [workload("d0-1"), gateway("default", "wp"), edge]
}

/// One participant who remembers.
struct Seat {
    node: Node,
    compiler: Compiler,
    last: Option<Compiled>,
}

/// Holds who remembers against who does not, after each step from a town in which each kind of resource is three times as
/// `whole` says.
fn compare(whole: &[usize], steps: impl IntoIterator<Item = Step>) -> Result<(), TestCaseError> {
    let mut town = Town::default();
    for (at, how) in whole.iter().enumerate() {
        town.take(&Step {
            kind: at / 3,
            which: at % 3,
            how: *how,
        });
    }
    let mut seats = seats().map(|node| Seat {
        node,
        compiler: Compiler::default(),
        last: None,
    });
    let mut handover = Handover::default();
    for (at, step) in steps.into_iter().enumerate() {
        town.take(&step);
        handover.resolved = resolved(at);
        // Bindings of before are now and then too new to use, or too recent to forget.
        let bound = seats[0].last.iter().flat_map(|it| &it.bindings);
        handover.young = bound
            .clone()
            .filter(|_| at % 3 == 2)
            .map(|it| it.key.clone())
            .collect();
        handover.lingering = bound.filter(|_| at % 4 == 3).cloned().collect();
        for seat in &mut seats {
            let previous = seat.last.as_ref().map(|it| &it.snapshot);
            let warm = seat
                .compiler
                .compile(&town.store, &seat.node, &handover, previous);
            let cold = compile(&town.store, &seat.node, &handover, previous);
            let what = || format!("{:?} after {} {step:?}", seat.node.role, KINDS[step.kind].0);
            prop_assert_eq!(&warm.problems, &cold.problems, "{}", what());
            prop_assert_eq!(&warm.statuses, &cold.statuses, "{}", what());
            prop_assert_eq!(&warm.bindings, &cold.bindings, "{}", what());
            prop_assert_eq!(&warm.ready, &cold.ready, "{}", what());
            prop_assert_eq!(&warm.names, &cold.names, "{}", what());
            prop_assert_eq!(&warm.files, &cold.files, "{}", what());
            let (seen, expected) = (shown(&warm.snapshot), shown(&cold.snapshot));
            for (part, expected) in &expected {
                prop_assert_eq!(seen.get(part), Some(expected), "{} of {}", part, what());
            }
            prop_assert_eq!(seen.len(), expected.len(), "{}", what());
            seat.last = Some(warm);
        }
    }
    Ok(())
}

/// Runs a property; what goes wrong is told by the step, and a file of seeds would only tell the same again.
fn hold<S: Strategy>(many: u32, what: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let mut config = cases(many);
    config.rng_seed = RngSeed::Fixed(7);
    config.failure_persistence = None;
    if let Err(why) = TestRunner::new(config).run(what, property) {
        panic!("{why}");
    }
}

/// Three of each kind.
fn whole() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..8_usize, KINDS.len() * 3)
}

#[test]
fn whoever_remembers_says_the_same_as_who_does_not() {
    let step = (0..KINDS.len(), 0..3_usize, 0..8_usize);
    let step = step.prop_map(|(kind, which, how)| Step { kind, which, how });
    let steps = proptest::collection::vec(step, 1..40);
    hold(8, &(whole(), steps), |(whole, steps)| compare(&whole, steps));
}

/// Each kind of resource in each of its ways, once, in any order: where much depends on much, few steps meet.
#[test]
fn no_change_is_missed_by_whoever_remembers() {
    let all = (0..KINDS.len()).flat_map(|kind| (0..3).map(move |which| (kind, which)));
    let all = all.flat_map(|(kind, which)| (0..8).map(move |how| (kind, which, how)));
    let steps = Just(all.collect::<Vec<_>>()).prop_shuffle();
    hold(1, &(whole(), steps), |(whole, steps)| {
        let step = |(kind, which, how)| Step { kind, which, how };
        compare(&whole, steps.into_iter().map(step))
    });
}

/// DNS changes its mind, too.
fn resolved(at: usize) -> crate::compile::Resolved {
    let names = ["x.example.com", "db.example.com", "vm.example.com"];
    let ip = std::net::IpAddr::from([10, 1, 0, (at / 5) as u8]);
    names
        .iter()
        .filter_map(|name| Some((Host::parse(name).ok()?, vec![ip])))
        .collect()
}
