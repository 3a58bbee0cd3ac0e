//! What a TLS client says before anything is secret: its ClientHello (RFC 8446 §4.1.2), and the server name in it
//! (RFC 6066 §3).

use super::Opening;
use crate::name::Host;

/// So many bytes of a connection may pass before the end of a ClientHello; what is longer is not waited for.
///
/// Post-quantum key shares take some 1.2 kB; certificates are not among it.
pub const LONGEST_HELLO: usize = 64 << 10;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest record of plaintext (RFC 8446 §5.1), and what old servers add to it.
const LONGEST_RECORD: usize = (1 << 14) + 2048;

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Not enough to tell.
    More,
    /// It is not TLS.
    Plain,
    /// TLS, and the server name that is asked for. A ClientHello that is malformed or too long names none.
    Tls(Option<Host>),
}

impl Heard {
    /// How the connection opens, if nothing more is heard of it.
    pub fn as_opening(&self) -> Opening<'_> {
        match self {
            Self::More | Self::Plain => Opening::Plain,
            Self::Tls(name) => Opening::Tls(name.as_ref()),
        }
    }
}

/// Reads the beginning of a connection piece by piece, each byte once. Whatever the bytes, it ends: at the latest after
/// [`LONGEST_HELLO`] of them.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// Type, version and length of the record that is being read.
    header: [u8; 5],
    /// How much of that is known.
    known: usize,
    /// What is left of the record.
    left: usize,
    /// What the records held so far.
    message: Vec<u8>,
    /// How many bytes were read.
    read: usize,
    /// What was heard, once that is settled.
    heard: Option<Heard>,
}

impl HelloReader {
    /// Reads on. Once it is settled what was heard, more bytes change nothing.
    pub fn read(&mut self, bytes: &[u8]) -> Heard {
        if self.heard.is_none() {
            self.heard = self.settle(bytes);
        }
        self.heard.clone().unwrap_or(Heard::More)
    }

    fn settle(&mut self, mut bytes: &[u8]) -> Option<Heard> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.message.extend_from_slice(part);
                self.left -= part.len();
                self.read += part.len();
                bytes = rest;
                if let Some(heard) = self.judge() {
                    return Some(heard);
                }
            } else {
                self.header[self.known] = *first;
                self.known += 1;
                self.read += 1;
                bytes = rest;
                if let Some(heard) = self.begin() {
                    return Some(heard);
                }
            }
            if self.read >= LONGEST_HELLO {
                return Some(Heard::Tls(None));
            }
        }
        None
    }

    /// Looks at as much of a record's header as there is.
    fn begin(&mut self) -> Option<Heard> {
        // What does not begin like TLS is none; what goes on unlike TLS was cut short.
        let unlike = match self.message.is_empty() {
            true => Heard::Plain,
            false => Heard::Tls(None),
        };
        match self.header[..self.known] {
            [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => None,
            [HANDSHAKE, 3, _, high, low] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                (self.known, self.left) = (0, length);
                // An empty record says nothing; who sends such is not waited for.
                (length == 0 || length > LONGEST_RECORD).then_some(unlike)
            }
            _ => Some(unlike),
        }
    }

    /// Looks at as much of the message as there is.
    fn judge(&self) -> Option<Heard> {
        let (kind, rest) = self.message.split_first()?;
        if *kind != CLIENT_HELLO {
            return Some(Heard::Plain);
        }
        let ([a, b, c], body) = rest.split_first_chunk::<3>()?;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if length > LONGEST_HELLO {
            return Some(Heard::Tls(None));
        }
        let hello = body.get(..length)?;
        Some(Heard::Tls(server_name(hello)))
    }
}

fn server_name(hello: &[u8]) -> Option<Host> {
    const SERVER_NAME: usize = 0;
    const HOST_NAME: u8 = 0;
    // Version and random, then session id, cipher suites, compression methods.
    let rest = hello.get(34..)?;
    let (_, rest) = block8(rest)?;
    let (_, rest) = block16(rest)?;
    let (_, rest) = block8(rest)?;
    let (mut extensions, _) = block16(rest)?;
    loop {
        let (kind, rest) = number(extensions)?;
        let (body, rest) = block16(rest)?;
        extensions = rest;
        if kind != SERVER_NAME {
            continue;
        }
        let (mut names, _) = block16(body)?;
        loop {
            let (kind, rest) = names.split_first()?;
            let (name, rest) = block16(rest)?;
            names = rest;
            if *kind == HOST_NAME {
                return Host::parse(std::str::from_utf8(name).ok()?).ok();
            }
        }
    }
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*number)), rest))
}

fn block8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn block16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(length)
}
