//! An upgrade to WebSocket, and messages that come back.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Answer, PATIENCE, Sent, Way, send};
use crate::conformance::case;

/// The key of the handshake; RFC 6455's own example will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Asks for the upgrade and, where it is granted, exchanges the messages. Gives the answer, without a body.
///
/// # Errors
/// If no answer comes, or a message does not come back as it was.
pub async fn talk(way: &Way, sent: &Sent, frames: &[case::Frame]) -> Result<Answer> {
    let mut sent = sent.clone();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ] {
        sent.headers.push((name.to_owned(), value.to_owned()));
    }
    tokio::time::timeout(PATIENCE, exchange(way, &sent, frames))
        .await
        .with_context(|| format!("not over within {PATIENCE:?}"))?
}

async fn exchange(way: &Way, sent: &Sent, frames: &[case::Frame]) -> Result<Answer> {
    let mut response = send(way, sent).await?;
    let answer = Answer {
        status: response.status(),
        version: response.version(),
        headers: response.headers().clone(),
        trailers: HeaderMap::new(),
        body: Bytes::new(),
    };
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let accept = response
        .headers()
        .get(SEC_WEBSOCKET_ACCEPT)
        .map(|it| it.as_bytes());
    ensure!(
        accept == Some(derive_accept_key(KEY.as_bytes()).as_bytes()),
        "the answer's Sec-WebSocket-Accept is not that of our key"
    );
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .context("the connection was not upgraded")?;
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    for frame in frames {
        let message = message(&frame.send)?;
        socket.send(message.clone()).await?;
        if frame.expect_echo {
            let back = socket.next().await.context("the connection ended")??;
            ensure!(back == message, "sent {message:?}, came back as {back:?}");
        }
    }
    socket.close(None).await?;
    Ok(answer)
}

fn message(content: &case::Message) -> Result<Message> {
    Ok(match content {
        case::Message::Text(text) => Message::text(text),
        case::Message::Binary(hex) => {
            let digits = hex.as_bytes();
            if digits.len() % 2 != 0 || !hex.is_ascii() {
                bail!("`{hex}` is not hexadecimal");
            }
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
            Message::binary(bytes)
        }
    })
}
