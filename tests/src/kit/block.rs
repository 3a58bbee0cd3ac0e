//! Loopback addresses that no other test uses at this moment.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Result, bail};
use inmesh::hbone::HBONE_PORT;

/// 127.X.Y.0/24: each pod gets an address of its own, because the HBONE port is the same everywhere.
#[derive(Debug)]
pub struct Block {
    net: [u8; 2],
    next: AtomicU8,
    /// Held so that tests in other processes find the block taken.
    _claim: TcpListener,
}

impl Block {
    /// Takes a free block.
    pub fn take() -> Result<Self> {
        let seed = std::process::id() as usize * 7919;
        static TRIED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        for _ in 0..2000 {
            let n = seed + TRIED.fetch_add(1, Ordering::Relaxed);
            // 127.0 and 127.1 are left to everybody else.
            let net = [20 + (n / 250 % 200) as u8, 1 + (n % 250) as u8];
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, net[0], net[1], 254), HBONE_PORT)) {
                return Ok(Self {
                    net,
                    next: AtomicU8::new(1),
                    _claim: claim,
                });
            }
        }
        bail!("no free block of loopback addresses; does this platform have 127.0.0.0/8?")
    }

    /// An address that was not given out yet.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(
            127,
            self.net[0],
            self.net[1],
            self.next.fetch_add(1, Ordering::Relaxed),
        )
    }
}
