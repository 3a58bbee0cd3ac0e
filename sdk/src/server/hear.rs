//! How a connection opens, read ahead: with TLS, and for whom, or with something else.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::Ahead;
use crate::policy::connection::{Heard, HelloReader};

/// How long a caller may keep silent before its protocol is taken for one in which the server speaks first.
const SILENCE: Duration = Duration::from_millis(500);
/// How long a ClientHello may take from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads as much as is needed to tell how a connection opens; the stream gives it again to whoever reads on. Never
/// [`Heard::More`].
///
/// # Errors
/// If the connection ends or fails before it has said anything, or if a ClientHello does not come to its end in time.
pub(crate) async fn hear<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(Heard, Ahead<I>)> {
    let mut read = BytesMut::with_capacity(2048);
    let mut reader = HelloReader::default();
    let mut until = Instant::now() + SILENCE;
    loop {
        let before = read.len();
        match timeout_at(until, io.read_buf(&mut read)).await {
            Ok(Ok(0)) if before == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            // Whatever it was going to be, it is none.
            Ok(Ok(0)) => return Ok((Heard::Plain, Ahead::new(read, io))),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if before == 0 => return Ok((Heard::Plain, Ahead::new(read, io))),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        match reader.read(&read[before..]) {
            Heard::More if before == 0 => until = Instant::now() + PATIENCE,
            Heard::More => {}
            heard => return Ok((heard, Ahead::new(read, io))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_read_again() {
        for text in [&b"\x00hello"[..], b"\x16\x03\x01\x00\x02\x02\x00"] {
            let (mut far, near) = tokio::io::duplex(64);
            far.write_all(text).await.unwrap();
            let (heard, mut stream) = hear(near).await.unwrap();
            assert_eq!(heard, Heard::Plain);
            drop(far);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_caller_waits_for_the_server_and_a_slow_one_is_not_waited_for() {
        let (_far, near) = tokio::io::duplex(64);
        assert_eq!(hear(near).await.unwrap().0, Heard::Plain);
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(&[22, 3, 1, 0]).await.unwrap();
        assert_eq!(hear(near).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (far, near) = tokio::io::duplex(64);
        drop(far);
        assert_eq!(hear(near).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
