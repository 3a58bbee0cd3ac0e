//! Messages: how many of them a gRPC stream carried, told while it lasts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::Messages;

/// Finds the messages in a stream of bytes: each has five bytes before it, of which the last four say how long it is
/// (gRPC "Length-Prefixed-Message").
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    head: [u8; 5],
    /// How many bytes of the head there are.
    have: usize,
    /// How many bytes of the message are still to come.
    left: usize,
}

/// The messages of one request, which is on its way before it is known in which series they are counted.
#[derive(Debug, Default)]
pub(super) struct Sent {
    waiting: AtomicU64,
    told: OnceLock<Messages>,
}

impl Found {
    /// How many messages begin in these bytes, the next of the stream.
    pub(super) fn read(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skip = self.left.min(data.len());
                self.left -= skip;
                data = &data[skip..];
                continue;
            }
            let take = (self.head.len() - self.have).min(data.len());
            self.head[self.have..self.have + take].copy_from_slice(&data[..take]);
            self.have += take;
            data = &data[take..];
            if self.have == self.head.len() {
                let [_, length @ ..] = self.head;
                self.have = 0;
                self.left = u32::from_be_bytes(length) as usize;
                begun += 1;
            }
        }
        begun
    }
}

impl Sent {
    pub(super) fn add(&self, messages: u64) {
        if messages == 0 {
            return;
        }
        // What is added just when the series becomes known is taken by whichever of the two comes later.
        self.waiting.fetch_add(messages, Ordering::AcqRel);
        if let Some(told) = self.told.get() {
            told.requested(self.waiting.swap(0, Ordering::AcqRel));
        }
    }

    /// From now on it is known.
    pub(super) fn tell(&self, messages: &Messages) {
        let _ = self.told.set(messages.clone());
        messages.requested(self.waiting.swap(0, Ordering::AcqRel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, length];
        bytes.extend(std::iter::repeat_n(7, length.into()));
        bytes
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let stream: Vec<u8> = [3, 0, 200, 1].into_iter().flat_map(message).collect();
        for cut in 1..stream.len() {
            let mut found = Found::default();
            let begun: u64 = stream.chunks(cut).map(|chunk| found.read(chunk)).sum();
            assert_eq!(begun, 4, "cut at {cut}");
        }
        let mut found = Found::default();
        assert_eq!(found.read(&[0, 0, 0, 0]), 0, "half a head");
        assert_eq!(found.read(&[9, 1, 1]), 1, "half a message");
    }
}
