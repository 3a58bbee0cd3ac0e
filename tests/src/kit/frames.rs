//! HTTP/2 frames by hand, for what no library would send.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::door::Stream;
use super::wait::PATIENCE;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// The flag of a last frame of a stream.
pub const END_STREAM: u8 = 1;
/// The flag of a head's last frame.
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("tests send no frame of 4 GiB");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Header fields as HPACK literals that are not indexed (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// A number with a prefix of so many bits (RFC 7541 §5.1).
pub fn integer(block: &mut Vec<u8>, flags: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    if number < most {
        block.push(flags | number as u8);
        return;
    }
    block.push(flags | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The fields that every request begins with.
pub fn get<'a>(authority: &'a str, path: &'a str) -> [(&'static str, &'a [u8]); 4] {
    [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", authority.as_bytes()),
        (":path", path.as_bytes()),
    ]
}

/// What came of a stream, or of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// The head of an answer.
    Head {
        /// Of this status, if it is in the static table or spelled out.
        status: Option<u16>,
    },
    /// The stream was reset for this reason.
    Reset(u32),
    /// The connection ends for this reason.
    GoAway(u32),
    /// The connection has ended.
    Closed,
}

impl Came {
    /// Whether it means no: an error status, a reset, or an end.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Head { status } => status.is_some_and(|status| status >= 400),
            Self::Reset(_) | Self::GoAway(_) | Self::Closed => true,
        }
    }
}

/// A connection on which frames are written and read by hand.
pub struct Raw {
    read: tokio::io::ReadHalf<Box<dyn Stream>>,
    write: tokio::io::WriteHalf<Box<dyn Stream>>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl Raw {
    /// Says the preface.
    pub async fn begin(stream: Box<dyn Stream>) -> Result<Self> {
        let (read, write) = tokio::io::split(stream);
        let mut raw = Self { read, write };
        raw.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat())
            .await?;
        Ok(raw)
    }

    /// Writes bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.write.write_all(bytes).await?;
        Ok(self.write.flush().await?)
    }

    /// Writes on and on, at most so often, until the other side has had enough; returns how it ended the connection.
    ///
    /// # Errors
    /// If it is written to the end and nobody minds.
    pub async fn flood(
        self,
        most: usize,
        mut bytes: impl FnMut(usize) -> Vec<u8> + Send + 'static,
    ) -> Result<Came> {
        let Self { mut read, mut write } = self;
        let writing = tokio::spawn(async move {
            for n in 0..most {
                if write.write_all(&bytes(n)).await.is_err() || write.flush().await.is_err() {
                    break;
                }
            }
            // Not closed: that it ends shall be the other side's doing.
            std::future::pending::<()>().await;
        });
        let mut came = Came::Closed;
        let ended = timeout(PATIENCE, async {
            while let Some((frame, _, payload)) = next(&mut read).await {
                // A connection says goodbye once more when the last stream is gone, without a reason.
                if frame == kind::GOAWAY && came == Came::Closed {
                    came = Came::GoAway(code(&payload[4..8]));
                }
            }
        });
        let ended = ended.await;
        writing.abort();
        ended.context("the flood is not stopped")?;
        Ok(came)
    }

    /// Waits for what comes of a stream.
    pub async fn outcome(&mut self, stream: u32) -> Result<Came> {
        loop {
            let next = timeout(PATIENCE, next(&mut self.read))
                .await
                .with_context(|| format!("nothing comes of stream {stream}"))?;
            return Ok(match next {
                None => Came::Closed,
                Some((kind::GOAWAY, _, payload)) => Came::GoAway(code(&payload[4..8])),
                Some((kind::RST_STREAM, on, payload)) if on == stream => Came::Reset(code(&payload)),
                Some((kind::HEADERS, on, payload)) if on == stream => Came::Head {
                    status: status(&payload),
                },
                Some((kind::SETTINGS, _, payload)) if !payload.is_empty() => {
                    self.send(&frame(kind::SETTINGS, 1, 0, &[])).await?;
                    continue;
                }
                Some(_) => continue,
            });
        }
    }
}

/// The next frame: its type, stream and payload; `None` at the end.
pub async fn next(read: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    read.read_exact(&mut payload).await.ok()?;
    Some((
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    ))
}

fn code(payload: &[u8]) -> u32 {
    payload.try_into().map_or(0, u32::from_be_bytes)
}

/// The status is the first field of an answer: indexed, or a literal with an indexed name.
fn status(block: &[u8]) -> Option<u16> {
    // A server may first change the size of its table.
    let block = match block {
        [size, rest @ ..] if size & 0xe0 == 0x20 => rest,
        _ => block,
    };
    match block {
        [0x88, ..] => Some(200),
        [0x89, ..] => Some(204),
        [0x8a, ..] => Some(206),
        [0x8b, ..] => Some(304),
        [0x8c, ..] => Some(400),
        [0x8d, ..] => Some(404),
        [0x8e, ..] => Some(500),
        // `:status` (8) with a literal of three digits, plain or by Huffman's code, in which digits are 5 or 6 bits.
        [0x08 | 0x48, 3, digits @ ..] => std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok(),
        [0x08 | 0x48, length, coded @ ..] if length & 0x80 != 0 => {
            huffman(coded.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541 appendix B: 0 to 2 are 00000 to 00010, 3 to 9 are 011001 to 011111.
fn huffman(coded: &[u8]) -> Option<u16> {
    let mut bits = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut number = 0;
    for _ in 0..3 {
        let mut five = 0_u16;
        for _ in 0..5 {
            five = five << 1 | u16::from(bits.next()?);
        }
        let digit = if five < 3 {
            five
        } else {
            (five << 1 | u16::from(bits.next()?)).checked_sub(0b011_001)? + 3
        };
        number = number * 10 + digit;
    }
    Some(number)
}
