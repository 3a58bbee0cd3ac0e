//! The ClientHello, read ahead: what is asked for decides who answers.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::name::Host;
use crate::server::Ahead;

/// How long a client may take to say hello.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a hello may be. Post-quantum key shares take some 1.2 kB, certificates are not among it.
const LONGEST: usize = 64 << 10;
/// A fatal alert `unrecognized_name` (RFC 6066 §3, RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Reads the ClientHello and tells which server name it asks for; the stream gives it again to whoever reads on.
///
/// # Errors
/// If what comes is no ClientHello, too long, or too slow; a client that can understand it is told by an alert.
pub(crate) async fn greet<I>(mut io: I) -> io::Result<(Option<Host>, Ahead<I>)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = BytesMut::with_capacity(2048);
    let mut acceptor = Acceptor::default();
    let hello = async {
        loop {
            let before = read.len();
            if io.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut new = &read[before..];
            while !new.is_empty() {
                acceptor.read_tls(&mut new)?;
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(Host::parse);
                    return name.transpose().map_err(io::Error::other);
                }
                Ok(None) if read.len() > LONGEST => {
                    return Err(io::Error::other("the ClientHello is too long"));
                }
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // Writing to a Vec cannot fail.
                    let _ = alert.write_all(&mut bytes);
                    let _ = io.write_all(&bytes).await;
                    return Err(io::Error::other(error));
                }
            }
        }
    };
    match tokio::time::timeout(PATIENCE, hello).await {
        Ok(Ok(name)) => Ok((name, Ahead::new(read, io))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Tells a client that nobody here has the name that it asked for, and closes.
pub(crate) async fn refuse<I: AsyncWrite + Unpin>(mut io: I) {
    // It may be gone already.
    let _ = io.write_all(&UNRECOGNIZED_NAME).await;
    let _ = io.shutdown().await;
}
