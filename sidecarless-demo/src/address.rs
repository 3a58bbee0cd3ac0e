//! Addresses for pods: a block of the loopback network that nobody else uses.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// The port that says whether an address is in use: every pod has it.
const HBONE: u16 = 15008;
/// The address of a block that keeps the block ours while the town stands.
const RESERVED: u8 = 254;

/// The pods' network, `127.x.0.0/24`.
#[derive(Debug)]
pub(crate) struct Block {
    second: u8,
    used: Mutex<Used>,
    _reservation: TcpListener,
}

/// Which addresses are in use.
#[derive(Debug)]
struct Used {
    taken: [bool; 256],
    /// The last one handed out. An address rests as long as possible before another pod gets it, so that nobody
    /// mistakes the new pod for the old one.
    last: u8,
}

impl Block {
    /// Finds a block in which nobody listens.
    ///
    /// # Errors
    /// Where the platform has no addresses beside 127.0.0.1.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let start = fastrand::u16(1..=250);
        let mut last = None;
        for offset in 0..20u16 {
            let second = u8::try_from(1 + (start + offset) % 250)?;
            let probe = TcpListener::bind((Ipv4Addr::new(127, second, 0, 1), HBONE));
            let reservation = TcpListener::bind((Ipv4Addr::new(127, second, 0, RESERVED), HBONE));
            match (probe, reservation) {
                (Ok(_), Ok(reservation)) => {
                    return Ok(Self {
                        second,
                        used: Mutex::new(Used {
                            taken: [false; 256],
                            last: 0,
                        }),
                        _reservation: reservation,
                    });
                }
                (Err(error), _) | (_, Err(error)) => last = Some(error),
            }
        }
        Err(last.context("no block of addresses was tried")?).context(
            "every pod needs a loopback address of its own, such as 127.1.0.1, and none could be bound. Linux has them \
             all; elsewhere run the demo in a Linux container or virtual machine",
        )
    }

    /// An address for a pod.
    ///
    /// # Errors
    /// If all 253 are taken.
    pub(crate) fn take(&self) -> anyhow::Result<Ipv4Addr> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.last + 1..RESERVED;
        let free = after
            .chain(1..RESERVED)
            .find(|last| !used.taken[usize::from(*last)]);
        let free = free.context("no address is left for a pod")?;
        used.taken[usize::from(free)] = true;
        used.last = free;
        Ok(Ipv4Addr::new(127, self.second, 0, free))
    }

    /// Takes an address back.
    pub(crate) fn give_back(&self, address: Ipv4Addr) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.taken[usize::from(address.octets()[3])] = false;
    }
}
