//! HTTP/1.1 by hand: what is written is what was said, byte for byte, and what comes back is taken apart.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::wait::PATIENCE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, joined.
    pub body: String,
}

impl Answered {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .with_context(|| format!("no answer: {text:?}"))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .with_context(|| format!("no status: {head:?}"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        Ok(Self {
            status,
            body: if chunked { joined(body) } else { body.to_owned() },
            headers,
        })
    }
}

/// A request's head; the connection is to be closed after it.
pub fn head(method: &str, path: &str, host: &str, headers: &[(String, String)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text
}

/// Sends a whole request and reads its answer, to its own end: some servers are in no hurry to close.
///
/// # Errors
/// If no answer comes, or what comes is none.
pub async fn exchange<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, request: &[u8]) -> Result<Answered> {
    let is_head = request.starts_with(b"HEAD ");
    let asked = async {
        // A server that refuses need not read on: what it said counts, not whether everything could be written.
        let written = io.write_all(request).await;
        let mut bytes = Vec::new();
        while !is_whole(&bytes, is_head) {
            match io.read_buf(&mut bytes).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if bytes.windows(4).any(|it| it == b"\r\n\r\n") => break,
                Err(error) => bail!("no answer: {error}"),
            }
        }
        match written {
            Err(error) if bytes.is_empty() => bail!("no answer: {error}"),
            _ => Answered::parse(&bytes),
        }
    };
    timeout(PATIENCE, asked).await.context("no answer in time")?
}

/// Whether an answer is there to its end, as far as it says where that is.
fn is_whole(bytes: &[u8], is_head: bool) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let Some(after) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return false;
    };
    let body = &bytes[after + 4..];
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length:").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
    match length {
        _ if is_head || head.starts_with("http/1.1 204") || head.starts_with("http/1.1 304") => true,
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

/// Joins the chunks of a body.
fn joined(body: &str) -> String {
    let (mut rest, mut joined) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let (Some(chunk), true) = (after.get(..size), size > 0) else {
            break;
        };
        joined.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    joined
}
