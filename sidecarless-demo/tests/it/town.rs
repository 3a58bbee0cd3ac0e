//! A town that stands while a test looks at it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, oneshot};

use crate::plain;

/// How long the town may take to stand, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(90);
/// One town is enough for a machine.
pub(crate) static ONE: Mutex<()> = Mutex::const_new(());

/// The demo, started as a person starts it.
pub(crate) struct Town {
    demo: Child,
    said: Vec<String>,
    root: tempfile::TempDir,
    _only: MutexGuard<'static, ()>,
}

impl Town {
    /// Starts it and waits until it has said where everything is.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let only = ONE.lock().await;
        let root = tempfile::tempdir()?;
        let mut demo = Command::new(env!("CARGO_BIN_EXE_sidecarless-demo"))
            .arg("--dir")
            .arg(root.path())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the demo")?;
        let stdout = demo.stdout.take().context("the demo has no output")?;
        let mut town = Self {
            demo,
            said: Vec::new(),
            root,
            _only: only,
        };
        let (say, said) = oneshot::channel();
        std::thread::spawn(|| listen(stdout, say));
        let said = tokio::time::timeout(PATIENCE, said).await;
        town.said = said
            .context("the demo does not stand")?
            .context("the demo ended")?;
        Ok(town)
    }

    /// What the demo said after `label`, for instance `product page`.
    pub(crate) fn told(&self, label: &str) -> anyhow::Result<&str> {
        let lines = self.said.iter().map(|line| line.trim());
        let mut found = lines.filter_map(|line| line.strip_prefix(label));
        Ok(found
            .next()
            .with_context(|| format!("the demo does not say its {label}"))?
            .trim())
    }

    /// The address of a pod, by `namespace/name`.
    pub(crate) fn address(&self, pod: &str) -> anyhow::Result<&str> {
        let address = self.told(pod)?.split_whitespace().next();
        address.with_context(|| format!("{pod} has no address"))
    }

    /// The demo's folder.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// `kubectl apply`: writes beside and renames.
    pub(crate) fn apply(&self, namespace: &str, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(namespace, file);
        let beside = self.root.path().join(format!("{namespace}-{file}"));
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &path).with_context(|| format!("writing {}", path.display()))
    }

    fn path(&self, namespace: &str, file: &str) -> PathBuf {
        self.root.path().join("town").join(namespace).join(file)
    }

    /// Has a caller make requests without end.
    pub(crate) async fn load(&self, caller: &str, url: &str) -> anyhow::Result<()> {
        let control = format!("{}:8081", self.address(&format!("default/{caller}-1"))?);
        let load = json!({ "url": url, "width": 2, "pause": 20 });
        let _: Value = plain::ask(&control, "/load/start", &load).await?;
        Ok(())
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        // As Ctrl-C would, so that every process leaves in order; a demo that does not is killed.
        let id = i32::try_from(self.demo.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.demo.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.demo.kill();
                let _ = self.demo.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Passes the lines of the welcome on, and reads what comes later: the demo must not write to nobody.
fn listen(stdout: impl std::io::Read, say: oneshot::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let last = line.starts_with("Ctrl-C");
        said.push(line);
        if last {
            let _ = say.send(said);
            break;
        }
    }
    lines.for_each(drop);
}

/// Looks until it goes well, and says at the end what was wrong the last time.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("waited {within:?} for {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The path of a program, or nothing and a line that says what is left out without it.
pub(crate) fn program(names: &[&str], package: &str, left_out: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!(
            "SKIPPED: {left_out}: no {} here; Debian has it as `{package}`",
            names.join(" or ")
        );
    }
    found
}

/// An answer that must be a success.
pub(crate) fn good(answer: plain::Answer) -> anyhow::Result<String> {
    ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.body);
    Ok(answer.body)
}
