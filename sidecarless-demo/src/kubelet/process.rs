//! One process of the town: this very program, in another role.

use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::{PodSpec, Program, Shared};
use crate::{caller, plain};

/// The port of a process's admin pages; a waypoint has it by itself.
pub(crate) const ADMIN: u16 = 15000;
/// How long a process may take to leave after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(25);

/// How long a process may take to say whether it is ready.
const PROBE: Duration = Duration::from_secs(2);

/// A running process. Dropping it kills what is left of it.
pub(super) struct Process {
    child: Child,
    /// The process ends at once when this does; held apart from the child, because waiting for a child closes its input.
    _lifeline: Option<ChildStdin>,
    readiness: (String, &'static str),
}

impl Process {
    /// Starts the process of a pod.
    pub(super) fn spawn(
        shared: &Shared,
        spec: &PodSpec,
        address: Ipv4Addr,
        credentials: &Path,
    ) -> anyhow::Result<Self> {
        let path = shared.logs.join(format!("{}-{}.log", spec.namespace, spec.name));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command
            .arg("role")
            .args(arguments(shared, spec, address, credentials))
            .envs(environment(shared, spec, address, credentials))
            // The pipe is never written to: it ends when we do, and the process with it.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        // Ctrl-C in the terminal is for the demo alone, which then stops the town in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().context("starting a process")?;
        let lifeline = child.stdin.take();
        Ok(Self {
            child,
            _lifeline: lifeline,
            readiness: readiness(spec, address),
        })
    }

    /// Its number.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it says whether it is ready.
    pub(super) fn readiness(&self) -> (String, &'static str) {
        self.readiness.clone()
    }

    /// Waits for it to end.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Tells it to stop, waits, and says how it went.
    pub(super) async fn stop(mut self) -> String {
        self.terminate();
        match timeout(GRACE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => "clean".to_owned(),
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                // What cannot be killed is beyond us; dropping the child tries once more.
                let _ = self.child.kill().await;
                format!("killed after {GRACE:?}")
            }
        }
    }

    #[cfg(unix)]
    fn terminate(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // It fails where the process is gone already, which is what we want.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }

    #[cfg(not(unix))]
    fn terminate(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Whether the process behind this readiness page is ready.
pub(super) async fn is_ready((authority, path): &(String, &'static str)) -> bool {
    let answer = timeout(PROBE, plain::get(authority, path)).await;
    matches!(answer, Ok(Ok(answer)) if answer.status.is_success())
}

fn readiness(spec: &PodSpec, address: Ipv4Addr) -> (String, &'static str) {
    match &spec.program {
        Program::Service(name) if name == "client" => (format!("{address}:{}", caller::CONTROL), "/ready"),
        _ => (format!("{address}:{ADMIN}"), "/healthz/ready"),
    }
}

fn arguments(shared: &Shared, spec: &PodSpec, address: Ipv4Addr, credentials: &Path) -> Vec<String> {
    match &spec.program {
        Program::Service(name) => vec![name.clone()],
        Program::Gateway { name, http } => {
            let mut arguments = vec!["waypoint".to_owned(), "run".to_owned()];
            let mut flag = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
            flag("--gateway", format!("{}/{name}", spec.namespace));
            shared
                .folder
                .sources()
                .into_iter()
                .for_each(|source| flag("--config", source));
            flag("--credentials", credentials.display().to_string());
            flag("--address", address.to_string());
            http.iter()
                .for_each(|(port, bound)| flag("--listen-port", format!("{port}={bound}")));
            arguments
        }
    }
}

/// What a pod's process learns from its environment, by the names that inmesh reads.
fn environment(
    shared: &Shared,
    spec: &PodSpec,
    address: Ipv4Addr,
    credentials: &Path,
) -> Vec<(&'static str, String)> {
    let version = spec
        .labels
        .get("version")
        .cloned()
        .unwrap_or_else(|| "v1".to_owned());
    let rust_log = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,inmesh::access=warn".to_owned());
    vec![
        ("INMESH_CONFIG", shared.folder.sources().join(",")),
        ("INMESH_CREDENTIALS", credentials.display().to_string()),
        ("INMESH_ADMIN", format!("{address}:{ADMIN}")),
        ("POD_NAME", spec.name.clone()),
        ("POD_NAMESPACE", spec.namespace.clone()),
        ("POD_IP", address.to_string()),
        ("SERVICE_ACCOUNT", spec.account.clone()),
        ("SERVICE_VERSION", version),
        ("OTEL_SERVICE_NAME", spec.owner.clone()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", shared.collector.clone()),
        // A line for every request of the load would be most of what the logs hold.
        ("RUST_LOG", rust_log),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        // Waypoints send what Prometheus scrapes besides.
        ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000".to_owned()),
    ]
}
