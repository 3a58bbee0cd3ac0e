//! The machine: which cores there are, and what a process used of them.

use std::fs;

use serde::Serialize;

/// Which core does what; `None` where processes cannot be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cores {
    /// Of load and backend.
    pub(super) ends: usize,
    /// Of whatever is between them.
    pub(super) proxy: usize,
}

#[cfg(target_os = "linux")]
mod pin {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::Cores;

    /// The first two cores that this process may use.
    pub(in super::super) fn cores() -> Option<Cores> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        Some(Cores {
            ends: cores.next()?,
            proxy: cores.next()?,
        })
    }

    /// Runs `start` on one core only; processes that it starts stay there.
    pub(in super::super) fn pinned<T>(
        core: Option<usize>,
        start: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Some(core) = core else {
            return start();
        };
        let before = sched_getaffinity(None)?;
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only)?;
        let result = start();
        sched_setaffinity(None, &before)?;
        result
    }
}

#[cfg(not(target_os = "linux"))]
mod pin {
    /// Not known how to.
    pub(in super::super) fn cores() -> Option<super::Cores> {
        None
    }

    /// Just starts it.
    pub(in super::super) fn pinned<T>(
        _core: Option<usize>,
        start: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        start()
    }
}

pub(super) use pin::{cores, pinned};

/// What Linux counts processor time in: `USER_HZ`, 100 on every platform that Rust supports.
const TICK_MICROS: f64 = 10_000.0;

/// The processor time a process used until now in microseconds, user and system; `None` without `/proc`.
pub(super) fn cpu_micros(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, so count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_MICROS)
}

/// The resident memory of a process in MiB.
pub(super) fn resident_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The processor's name.
pub(super) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}
