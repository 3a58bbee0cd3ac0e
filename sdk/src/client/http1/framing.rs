//! Where an answer's body ends (RFC 9112 §6 and §7), and what of it has come.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use httparse::Status;

use super::head::read_field;

/// Why an answer cannot be had, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The stream below.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// It ended, or said something, while nothing was asked.
    #[error("the peer has left")]
    Left,
    /// It ended before the answer did.
    #[error("the connection ended in the middle of an answer")]
    Early,
    /// What came is no head, or no trailers.
    #[error("the answer cannot be read")]
    Head(#[from] httparse::Error),
    /// A head, trailers or the head of a chunk that have no end.
    #[error("the answer's head is too large")]
    Large,
    /// It does not say where it ends, or says so in two ways.
    #[error("the answer's length cannot be told")]
    Framing,
}

/// The largest head of a chunk, with all the extensions that nobody reads.
const MOST_OF_CHUNK_HEAD: usize = 1 << 10;

/// The largest trailer section, and how many fields it may have.
const MOST_TRAILERS: usize = 16 << 10;
const MOST_TRAILER_FIELDS: usize = 64;

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked(Chunked),
    /// With the connection's.
    Close,
}

/// What comes next of a chunked body (RFC 9112 §7.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

/// A part of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// Nothing, until more has come.
    More,
}

impl Framing {
    /// The next part of the body in what has arrived.
    pub(super) fn next(&mut self, arrived: &mut Arrived) -> Result<Piece, Error> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(data(left, arrived)),
            Self::Close => {
                let mut no_end = u64::MAX;
                Ok(data(&mut no_end, arrived))
            }
            Self::Chunked(chunked) => chunked.next(arrived),
        }
    }

    /// Whether there is nothing left to come.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Ended))
    }
}

fn data(left: &mut u64, arrived: &mut Arrived) -> Piece {
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
    if size == 0 {
        return Piece::More;
    }
    *left -= size as u64;
    Piece::Data(arrived.take(size))
}

impl Chunked {
    fn next(&mut self, arrived: &mut Arrived) -> Result<Piece, Error> {
        loop {
            match self {
                Self::Size => match httparse::parse_chunk_size(arrived.as_slice()) {
                    Ok(Status::Complete((size, left))) => {
                        arrived.skip(size);
                        *self = match left {
                            0 => Self::Trailers,
                            _ => Self::Data(left),
                        };
                    }
                    Ok(Status::Partial) if arrived.len() > MOST_OF_CHUNK_HEAD => return Err(Error::Large),
                    Ok(Status::Partial) => return Ok(Piece::More),
                    Err(_) => return Err(Error::Framing),
                },
                Self::Data(left) => {
                    let piece = data(left, arrived);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(piece);
                }
                Self::DataEnd => match arrived.as_slice() {
                    [b'\r', b'\n', ..] => {
                        arrived.skip(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Error::Framing),
                },
                Self::Trailers => {
                    let Some(trailers) = arrived.section(MOST_TRAILERS, trailers)? else {
                        return Ok(Piece::More);
                    };
                    *self = Self::Ended;
                    if !trailers.is_empty() {
                        return Ok(Piece::Trailers(trailers));
                    }
                }
                Self::Ended => return Ok(Piece::End),
            }
        }
    }
}

fn trailers(bytes: &Bytes) -> Result<Option<(HeaderMap, usize)>, Error> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILER_FIELDS];
    let Status::Complete((size, fields)) = httparse::parse_headers(bytes, &mut fields)? else {
        return Ok(None);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let (name, value) = read_field(bytes, field)?;
        trailers.append(name, value);
    }
    Ok(Some((trailers, size)))
}

/// What has come and was not taken yet. Mostly one piece, which is handed on as it lies in memory.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    latest: Bytes,
    /// What had to be joined, because a head came in pieces. Never at the same time as the other.
    joined: BytesMut,
    /// Up to where no section ends.
    scanned: usize,
}

impl Arrived {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.latest = chunk;
            return;
        }
        if !self.latest.is_empty() {
            self.joined = BytesMut::from(&*std::mem::take(&mut self.latest));
        }
        self.joined.extend_from_slice(&chunk);
    }

    pub(super) fn len(&self) -> usize {
        self.latest.len() + self.joined.len()
    }

    pub(super) fn take(&mut self, size: usize) -> Bytes {
        match self.joined.is_empty() {
            true => self.latest.split_to(size),
            false => self.joined.split_to(size).freeze(),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self.joined.is_empty() {
            true => &self.latest,
            false => &self.joined,
        }
    }

    fn skip(&mut self, size: usize) {
        match self.joined.is_empty() {
            true => self.latest.advance(size),
            false => self.joined.advance(size),
        }
    }

    /// Reads a section that ends with an empty line, of `most` bytes, once it has come.
    ///
    /// What is there is tried once; after that nothing is read before the end of a section has come, or a peer that
    /// sends byte by byte would have us read the same again and again.
    pub(super) fn section<T>(
        &mut self,
        most: usize,
        read: impl FnOnce(&Bytes) -> Result<Option<(T, usize)>, Error>,
    ) -> Result<Option<T>, Error> {
        if self.scanned == 0 || self.is_section() {
            if !self.joined.is_empty() {
                self.latest = self.joined.split().freeze();
            }
            if let Some((value, size)) = read(&self.latest)? {
                self.latest.advance(size);
                self.scanned = 0;
                return Ok(Some(value));
            }
        }
        self.scanned = self.len();
        match self.scanned > most {
            true => Err(Error::Large),
            false => Ok(None),
        }
    }

    /// Whether an empty line is in what was not looked at yet.
    fn is_section(&self) -> bool {
        let all = self.as_slice();
        // The line before it may have ended in what was.
        let new = &all[self.scanned.saturating_sub(2).min(all.len())..];
        new.windows(2).any(|two| two == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n")
            || all.starts_with(b"\r\n")
    }
}
