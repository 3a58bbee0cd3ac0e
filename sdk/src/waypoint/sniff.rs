//! Tells HTTP from other protocols by the first bytes of a stream.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::server::Ahead;

/// How long a caller may keep silent before its stream is taken for a protocol in which the server speaks first.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest method that is looked for, and its space.
const LONGEST: usize = 20;

/// What a stream seems to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Other,
}

/// Reads as much as is needed to tell.
pub(super) async fn sniff<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(Spoken, Ahead<I>)> {
    let mut read = BytesMut::with_capacity(256);
    loop {
        if let Some(spoken) = judge(&read) {
            return Ok((spoken, Ahead::new(read, io)));
        }
        match tokio::time::timeout(PATIENCE, io.read_buf(&mut read)).await {
            Ok(Ok(0)) if read.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(0)) | Err(_) => return Ok((Spoken::Other, Ahead::new(read, io))),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// `None` while more bytes are needed. A method is upper-case letters and a space, which the preface of HTTP/2
/// (`PRI * HTTP/2.0`, RFC 9113 §3.4) begins with too.
fn judge(read: &[u8]) -> Option<Spoken> {
    let letters = read
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    match read.get(letters) {
        Some(b' ') if letters > 0 => match read.get(letters + 1) {
            Some(b'/' | b'*' | b'h' | b'H') => Some(Spoken::Http),
            Some(_) => Some(Spoken::Other),
            None => None,
        },
        Some(_) => Some(Spoken::Other),
        None if letters > LONGEST => Some(Spoken::Other),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for http in [
            "GET / HTTP/1.1",
            "PRI * HTTP/2.0",
            "M-SEARCH * HTTP/1.1",
            "POST http://a/",
            "OPTIONS *",
        ] {
            assert_eq!(judge(http.as_bytes()), Some(Spoken::Http), "{http}");
        }
        for other in [
            "\x16\x03\x01",
            "*1\r\n$4\r\nPING",
            "get /",
            "SSH-2.0-x",
            "GET x",
            &"A".repeat(40),
        ] {
            assert_eq!(judge(other.as_bytes()), Some(Spoken::Other), "{other:?}");
        }
        for short in ["", "GE", "GET", "GET "] {
            assert_eq!(judge(short.as_bytes()), None, "{short:?}");
        }
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_read_again() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b"GET / HT").await.unwrap();
        let (spoken, mut stream) = sniff(near).await.unwrap();
        assert_eq!(spoken, Spoken::Http);
        far.write_all(b"TP/1.1\r\n").await.unwrap();
        drop(far);
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "GET / HTTP/1.1\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_caller_speaks_something_else() {
        let (_far, near) = tokio::io::duplex(64);
        let (spoken, _) = sniff(near).await.unwrap();
        assert_eq!(spoken, Spoken::Other);
    }
}
