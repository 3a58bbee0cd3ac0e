//! What the demo tells the person who started it.

use std::fmt::Write;

use crate::kubelet::Phase;
use crate::page::Page;
use crate::town::Town;

/// Where to look, what runs where, and what to try.
pub(crate) fn welcome(town: &Town, page: &Page) -> anyhow::Result<String> {
    let mut text = String::new();
    let folder = town.folder.root().display();
    writeln!(text, "\nBookinfo runs, with no proxy beside any service.\n")?;
    writeln!(text, "  the guide      {}", page.url())?;
    writeln!(text, "  product page   http://{}/productpage", town.entrance()?)?;
    writeln!(text, "  traces         {}", town.traces.page())?;
    writeln!(text, "  configuration  {folder}")?;
    writeln!(text, "  logs           {}", town.logs().display())?;
    let config = town.observability.config();
    writeln!(
        text,
        "  Prometheus     prometheus --config.file={}\n",
        config.display()
    )?;
    text.push_str(&processes(town));
    writeln!(
        text,
        "\nThe whole guide, checked: cargo run --release -p sidecarless-demo -- --check"
    )?;
    writeln!(text, "Ctrl-C stops everything.")?;
    Ok(text)
}

/// What runs where.
fn processes(town: &Town) -> String {
    let mut text = format!(
        "  {:<36} {:<13} {:>8}  {:<9} identity\n",
        "pod", "address", "process", "state"
    );
    for (key, pod) in town.kubelet.pods().borrow().iter() {
        let state = match pod.phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
        };
        let process = pod.process.map_or_else(|| "–".to_owned(), |id| id.to_string());
        let identity = crate::ca::identity(&pod.spec.namespace, &pod.spec.account);
        let address = pod.address.to_string();
        let _ = writeln!(
            text,
            "  {key:<36} {address:<13} {process:>8}  {state:<9} {identity}"
        );
    }
    text
}
