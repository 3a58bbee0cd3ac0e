//! The processes that a comparison consists of: this program again, in another role.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::machine::pinned;
use super::role::Role;

/// How long a process may take to say that it is ready; the compiled world is small.
const START: Duration = Duration::from_secs(20);

/// A process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this program in a role, on a core of its own, with the given environment besides the present one.
    pub(super) fn start(
        name: &'static str,
        core: Option<usize>,
        role: &Role,
        env: &[(String, String)],
    ) -> Result<Self> {
        let role = serde_json::to_string(role)?;
        let program = std::env::current_exe()?;
        let mut child = pinned(core, || {
            Command::new(program)
                .arg("--role")
                .arg(role)
                .envs(env.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("starting the {name}"))
        })?;
        let stdin = child.stdin.take().context("the process has no input")?;
        let stdout = child.stdout.take().context("the process has no output")?;
        let (sender, lines) = channel();
        // Ends with the process, whose output it reads.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            name,
            child,
            stdin,
            lines,
        })
    }

    /// Waits until it says that it is ready and returns what else it says there.
    pub(super) fn ready(&mut self) -> Result<String> {
        let line = self.line(START)?;
        match line.strip_prefix(super::role::READY) {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => bail!("the {} said {line:?} instead of being ready", self.name),
        }
    }

    /// The next line of its output.
    pub(super) fn line(&mut self, within: Duration) -> Result<String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the {} said nothing for {within:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the {} ended: {}", self.name, self.child.wait()?)
            }
        }
    }

    /// Writes a line to its input.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").with_context(|| format!("telling the {}", self.name))
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
