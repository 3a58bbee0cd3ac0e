//! The sockets that a process has, as its kernel sees them: what the product made of them is read back, not believed.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

/// A socket of a process: the same one, by another descriptor.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Its options.
    pub fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }
}

/// The TCP connections of a process of which one end, `near` or `far`, is this address; `None` where the system lets nobody
/// look (it may be told not to), which is said.
pub fn connections(
    of: u32,
    near: Option<SocketAddr>,
    far: Option<SocketAddr>,
) -> Result<Option<Vec<Socket>>> {
    let pid = Pid::from_raw(of.try_into()?).context("a process has a number")?;
    let skipped = |error: Errno| match error {
        Errno::NOSYS | Errno::PERM | Errno::ACCESS => {
            eprintln!("SKIPPED: sockets of {of} cannot be looked at: {error}");
            Ok(None)
        }
        _ => Err(error.into()),
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(error) => return skipped(error),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{of}/fd"))? {
        let entry = entry?;
        // Descriptors come and go while they are listed.
        let Ok(link) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let number = entry.file_name().to_string_lossy().parse()?;
        if !link.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(descriptor) => Socket(descriptor),
            Err(Errno::BADF) => continue,
            Err(error) => return skipped(error),
        };
        let options = socket.options();
        let here = options.local_addr().ok().and_then(|it| it.as_socket());
        let there = options.peer_addr().ok().and_then(|it| it.as_socket());
        let is = |wanted: Option<SocketAddr>, end| wanted.is_none() || wanted == end;
        if there.is_some() && is(near, here) && is(far, there) {
            found.push(socket);
        }
    }
    Ok(Some(found))
}
