//! Real processes: a pod or a waypoint that can be told to stop, or killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cluster::{Cluster, PodSpec};

/// A child process; dropping it kills it.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a pod (the binary `test-pod`) that serves the echo application.
    pub fn pod(binary: &str, cluster: &Cluster, spec: &PodSpec, vars: &[(&str, &str)]) -> Result<Self> {
        let credentials = cluster.credentials(&spec.namespace, &spec.account)?;
        Self::spawn(
            Command::new(binary)
                .env("INMESH_CONFIG", format!("default={}", cluster.folder().display()))
                .env("INMESH_CREDENTIALS", credentials)
                .env("POD_NAME", &spec.name)
                .env("POD_NAMESPACE", &spec.namespace)
                .env("POD_IP", spec.ip.to_string())
                .envs(vars.iter().copied()),
            &log(cluster, &spec.name),
        )
    }

    /// Starts a waypoint (the binary `test-waypoint`).
    pub fn waypoint(binary: &str, cluster: &Cluster, spec: &PodSpec, vars: &[(&str, &str)]) -> Result<Self> {
        let credentials = cluster.credentials(&spec.namespace, &spec.account)?;
        Self::spawn(
            Command::new(binary)
                .arg("run")
                .args(["--gateway", &format!("{}/{}", spec.namespace, spec.account)])
                .args(["--config", &format!("default={}", cluster.folder().display())])
                .arg("--credentials")
                .arg(credentials)
                .args(["--address", &spec.ip.to_string(), "--pod", &spec.name])
                .envs(vars.iter().copied()),
            &log(cluster, &spec.name),
        )
    }

    /// Starts any command; what it prints goes to a file.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self(child))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let sent = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()?;
        anyhow::ensure!(sent.success(), "kill failed");
        Ok(())
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .status()?;
        anyhow::ensure!(sent.success(), "kill failed");
        Ok(())
    }

    /// Lets it have no more than so many files and connections open at once.
    pub fn limit_files(&self, most: u32) -> Result<()> {
        let set = Command::new("prlimit")
            .args([
                format!("--pid={}", self.0.id()),
                format!("--nofile={most}:{most}"),
            ])
            .status()?;
        anyhow::ensure!(set.success(), "prlimit failed");
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Waits for its end and gives its exit code.
    pub async fn ended(&mut self, within: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > end {
                bail!("the process has not ended within {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The files that it has open, where the platform tells.
    pub fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0.id()));
        let open = open.into_iter().flatten().flatten();
        open.filter_map(|file| std::fs::read_link(file.path()).ok())
    }

    /// Resident memory in KiB, where the platform tells.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.path().join(format!("{name}.log"))
}
