//! The corpus of authorization cases on the wire: every request that can be sent, in process and through a waypoint.
//!
//! ```text
//! plan   what of a case can be sent, in which forms; of the rest, why not
//! town   a target, its callers and what stands between them, on real sockets
//! ```
//!
//! A case is about one target. In process a workload enforces the policies as they are written; through a waypoint those
//! that select the workload target its Service instead, since a waypoint looks at no others. Every answer must be the
//! one that the case asks for, so the shapes agree; they are compared with one another all the same.

mod plan;
mod town;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use inmesh::testing::cases::{Decisions, World};
use serde_json::Value;

use plan::{Check, Form, Plan};
use town::Town;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    word: &'static str,
    /// The path that the application saw.
    path: Option<String>,
}

/// What became of one file.
#[derive(Default)]
struct Told {
    /// Answers by check, in one form or in two.
    sent: BTreeMap<String, Vec<(Form, Answer)>>,
    wrong: Vec<String>,
    /// Checks that cannot be sent, or not in both shapes, and why.
    unsent: Vec<(String, String)>,
    lone: Vec<(String, &'static str)>,
    argued: Vec<(String, &'static str)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_that_can_be_sent_comes_out_alike_in_process_and_through_a_waypoint() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/authz");
    let files = std::fs::read_dir(folder)?.map(|file| file.map(|file| file.path()));
    let mut files: Vec<_> = files.collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let told: Vec<Result<Told>> = stream::iter(files)
        .map(|file| async move {
            let value: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
            match value.get("type").is_none_or(|kind| kind == "decision") {
                true => run(serde_json::from_value(value)?).await,
                // What admission says is no request.
                false => Ok(Told::default()),
            }
            .with_context(|| file.display().to_string())
        })
        .buffer_unordered(4)
        .collect()
        .await;
    let mut all = Told::default();
    for told in told {
        let told = told?;
        all.sent.extend(told.sent);
        all.wrong.extend(told.wrong);
        all.unsent.extend(told.unsent);
        all.lone.extend(told.lone);
        all.argued.extend(told.argued);
    }
    report(&mut all);
    let both = all.sent.values().filter(|answers| answers.len() == 2).count();
    ensure!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    ensure!(both >= 320, "only {both} checks were sent in both shapes");
    ensure!(
        all.unsent.len() <= 130,
        "{} checks were not sent",
        all.unsent.len()
    );
    Ok(())
}

/// Says what was sent and what was not, and notes where the shapes disagree.
fn report(all: &mut Told) {
    for (check, answers) in &all.sent {
        if let [(_, first), (_, second)] = answers.as_slice()
            && first != second
        {
            let text = format!("{check}: {first:?} in process, {second:?} through a waypoint");
            all.wrong.push(text);
        }
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (check, why) in &all.unsent {
        reasons.entry(why).or_default().push(check);
    }
    let mut lone: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (check, why) in &all.lone {
        lone.entry(why).or_default().push(check);
    }
    let both = all.sent.values().filter(|answers| answers.len() == 2).count();
    println!(
        "{both} checks in both shapes, {} in one, {} not sent",
        all.sent.len() - both,
        all.unsent.len()
    );
    for (what, table) in [("in one shape", lone), ("not sent", reasons)] {
        for (why, checks) in table {
            println!("{what}, {}: {why}: {}", checks.len(), checks.join(" "));
        }
    }
    for (check, why) in &all.argued {
        println!("argued with: {check}: {why}");
    }
}

async fn run(mut case: Decisions) -> Result<Told> {
    plan::verify_claims(&mut case)?;
    let world = World::new(case)?;
    let Plan { checks, unsent } = plan::of(&world)?;
    let mut told = Told {
        unsent,
        ..Told::default()
    };
    for form in Form::ALL {
        let of_form: Vec<&Check> = checks
            .iter()
            .filter(|check| check.forms.contains(&form))
            .collect();
        if of_form.is_empty() {
            continue;
        }
        let town = Town::start(&world, &of_form, form)
            .await
            .with_context(|| format!("{}: {form:?}", world.case().id))?;
        for check in of_form {
            let name = &check.name;
            let answer = town
                .ask(&world, check)
                .await
                .with_context(|| format!("{name}: {form:?}"))?;
            let wanted = check.argued.map_or(&*check.request.expect, |_| "bad_request");
            if answer.word != wanted {
                let why = &check.request.why;
                let text = format!("{name} {form:?}: {wanted} expected, {answer:?} observed: {why}");
                told.wrong.push(text);
            }
            if let (Some(path), Some(wanted)) = (&answer.path, &check.request.normalized)
                && path != wanted
            {
                let text = format!("{name} {form:?}: sent on as {path}, not as {wanted}");
                told.wrong.push(text);
            }
            told.sent.entry(name.clone()).or_default().push((form, answer));
        }
        town.stop().await;
    }
    for check in checks {
        told.lone.extend(check.lone.map(|why| (check.name.clone(), why)));
        told.argued.extend(check.argued.map(|why| (check.name, why)));
    }
    Ok(told)
}
