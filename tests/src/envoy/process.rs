//! One Envoy process: its bootstrap file, its log, its admin port, its end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

/// How long Envoy may take from its start to being ready; it is there within a second on an idle machine.
const START: Duration = Duration::from_secs(30);

/// A running Envoy; dropping it kills it.
#[derive(Debug)]
pub struct EnvoyProcess {
    child: Child,
    admin: SocketAddr,
    dir: TempDir,
}

impl EnvoyProcess {
    /// Starts `binary` with one worker thread on the given bootstrap and waits until it is ready.
    ///
    /// # Errors
    /// With the end of Envoy's log, where it did not become ready.
    pub fn start(binary: &Path, bootstrap: &Value) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("envoy-").tempdir()?;
        let config = dir.path().join("bootstrap.json");
        fs::write(&config, serde_json::to_vec_pretty(bootstrap)?)?;
        let log = File::create(dir.path().join("log"))?;
        let child = Command::new(binary)
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(dir.path().join("admin"))
            // Hot restart shares memory by a number all Envoys of a machine would have to agree on.
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut envoy = Self {
            child,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir,
        };
        envoy.wait_until_ready()?;
        Ok(envoy)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of the admin endpoint.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What Envoy logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The value of a counter or gauge, by its full name.
    pub fn stat(&self, name: &str) -> io::Result<Option<u64>> {
        let stats = get(
            self.admin,
            &format!("/stats?filter=^{}$", name.replace('.', "\\.")),
        )?;
        Ok(stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok()))
    }

    /// The address a listener is bound to.
    pub fn listener(&self, name: &str) -> io::Result<SocketAddr> {
        get(self.admin, "/listeners")?
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix("::")?.trim().parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("Envoy has no listener {name}")))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("Envoy ended with {status}:\n{}", self.log());
            }
            if self.is_ready() {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("Envoy was not ready after {START:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&mut self) -> bool {
        let written = fs::read_to_string(self.dir.path().join("admin")).unwrap_or_default();
        let Ok(admin) = written.trim().parse() else {
            return false;
        };
        self.admin = admin;
        get(admin, "/ready").is_ok_and(|body| body.trim() == "LIVE")
    }
}

impl Drop for EnvoyProcess {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an HTTP/1.0 answer with status 200.
fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer has no head"))?;
    if !head.starts_with("HTTP/1.1 200") {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{path} answered {line}")));
    }
    Ok(unchunk(head, body))
}

/// Joins the chunks of a body of text, where the head says that there are some.
fn unchunk(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut rest, mut joined) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let (Some(chunk), true) = (after.get(..size), size > 0) else {
            break;
        };
        joined.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    joined
}
