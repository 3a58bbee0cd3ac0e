//! What is written and read here, against hyper, which does the same more generally.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::framing::{Arrived, Framing, Piece};
use super::head::{Head, encode, parse};
use super::*;

/// An answer as a client sees it; what it says where the body does not come to its end.
#[derive(Debug, PartialEq)]
struct Seen {
    status: StatusCode,
    version: Version,
    reason: Option<Vec<u8>>,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
    is_whole: bool,
}

impl Seen {
    fn of<B>(response: &Response<B>) -> Self {
        let mut headers = response.headers().clone();
        if headers.contains_key(TRANSFER_ENCODING) {
            // hyper hands on both and believes the right one.
            headers.remove(CONTENT_LENGTH);
        }
        Self {
            status: response.status(),
            version: response.version(),
            reason: response
                .extensions()
                .get()
                .map(|it: &ReasonPhrase| it.as_bytes().to_vec()),
            headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
            is_whole: true,
        }
    }
}

/// As [`Direct`](super::direct::Direct) and its body read; `None` if there is no answer.
fn read_here(method: &Method, pieces: &[&[u8]]) -> Option<(Seen, bool)> {
    let mut pieces = pieces.iter();
    let mut arrived = Arrived::default();
    let mut more = |arrived: &mut Arrived| {
        let piece = pieces.next()?;
        arrived.push(bytes::Bytes::copy_from_slice(piece));
        Some(())
    };
    let Head {
        response,
        mut framing,
        keeps,
    } = loop {
        match arrived.section(1 << 20, |bytes| parse(bytes, method)).ok()? {
            Some(head) if head.is_interim() => {}
            Some(head) => break head,
            None => more(&mut arrived)?,
        }
    };
    let mut seen = Seen::of(&response);
    loop {
        match framing.next(&mut arrived) {
            Ok(Piece::Data(data)) => seen.body.extend_from_slice(&data),
            Ok(Piece::Trailers(trailers)) => seen.trailers = trailers,
            Ok(Piece::End) => break,
            Ok(Piece::More) if more(&mut arrived).is_some() => {}
            Ok(Piece::More) => {
                seen.is_whole = framing == Framing::Close;
                break;
            }
            Err(_) => {
                seen.is_whole = false;
                break;
            }
        }
    }
    Some((seen, keeps))
}

async fn read_by_hyper(method: &Method, answer: &'static [u8]) -> Option<Seen> {
    let (near, mut far) = duplex(64 << 10);
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let server = tokio::spawn(async move {
        request_of(&mut far).await;
        let _ = far.write_all(answer).await;
    });
    let request = Request::builder()
        .method(method)
        .uri("/")
        .body(Empty::<bytes::Bytes>::new());
    let response = sender.send_request(request.unwrap()).await;
    server.await.unwrap();
    let mut response = response.ok()?;
    let mut seen = Seen::of(&response);
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(frame) = frame else {
            seen.is_whole = false;
            break;
        };
        match frame.into_data() {
            Ok(data) => seen.body.extend_from_slice(&data),
            Err(frame) => seen.trailers = frame.into_trailers().unwrap(),
        }
    }
    connection.abort();
    Some(seen)
}

async fn request_of(far: &mut DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.windows(4).any(|four| four == b"\r\n\r\n") && far.read_buf(&mut all).await.unwrap() > 0 {}
    all
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\nx:  y \r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 200 Fine by me\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    // interim answers
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 100 Continue\r\n\r\n",
    // lengths
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 4\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: x\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 4\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nhello",
    // codings
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n000\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    // no heads
    "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "",
];

#[tokio::test]
async fn an_answer_is_read_as_hyper_reads_it_however_it_comes_in_pieces() {
    for answer in ANSWERS {
        let bytes = answer.as_bytes();
        for method in [Method::GET, Method::HEAD] {
            let expected = read_by_hyper(&method, bytes).await;
            let here = |pieces: &[&[u8]]| read_here(&method, pieces).map(|(seen, _)| seen);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(here(&single), expected, "{method} {answer:?}, byte by byte");
            for at in 0..=bytes.len() {
                let (one, other) = bytes.split_at(at);
                assert_eq!(
                    here(&[one, other]),
                    expected,
                    "{method} {answer:?}, split at {at}"
                );
            }
        }
    }
}

#[test]
fn a_connection_is_used_again_only_after_an_answer_that_says_where_it_ends() {
    let keeps = |head: &str| {
        let answer = format!("HTTP/1.{head}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        read_here(&Method::GET, &[answer.as_bytes()]).unwrap().1
    };
    assert!(keeps("1 200 OK\r\ncontent-length: 2"));
    assert!(keeps("1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive"));
    assert!(keeps("1 200 OK\r\ntransfer-encoding: chunked"));
    assert!(!keeps("1 200 OK"));
    assert!(!keeps("0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive"));
    assert!(!keeps("1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close"));
    assert!(!keeps(
        "1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\nconnection: keep-alive"
    ));
    assert!(!keeps(
        "1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked"
    ));
    assert!(!keeps("1 101 Switching Protocols\r\nupgrade: x"));
}

#[test]
fn what_has_no_end_is_not_kept() {
    let mut arrived = Arrived::default();
    let mut read = |piece: &'static str| {
        arrived.push(piece.into());
        arrived.section(1 << 10, |bytes| parse(bytes, &Method::GET))
    };
    assert!(read("HTTP/1.1 200 OK\r\n").unwrap().is_none());
    let ended = (0..100).find_map(|_| read("x: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").err());
    assert!(matches!(ended, Some(framing::Error::Large)));

    let endless = ["2;", &"x".repeat(2 << 10)].concat();
    let mut arrived = Arrived::default();
    arrived.push(endless.into());
    let mut chunked = Framing::Chunked(framing::Chunked::Size);
    assert!(matches!(chunked.next(&mut arrived), Err(framing::Error::Large)));
}

#[test]
fn an_answer_has_at_most_a_hundred_fields() {
    for (fields, is_read) in [(99, true), (100, false)] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
            "x: y\r\n".repeat(fields)
        );
        assert_eq!(read_here(&Method::GET, &[answer.as_bytes()]).is_some(), is_read);
    }
}

#[tokio::test]
async fn a_request_is_written_as_hyper_writes_it() {
    for (method, uri, headers, body) in [
        ("GET", "/", &[("host", "a")][..], ""),
        (
            "GET",
            "/a?b=%20c",
            &[("host", "a:80"), ("x", "1"), ("x", "2"), ("cookie", "c")],
            "",
        ),
        ("OPTIONS", "*", &[("host", "a")], ""),
        ("POST", "/", &[("host", "a")], ""),
        ("POST", "/", &[("host", "a")], "hello"),
        ("PUT", "/", &[("host", "a"), ("content-length", "5")], "hello"),
        ("DELETE", "/", &[("host", "a"), ("content-length", "0")], ""),
    ] {
        let request = || {
            let mut request = Request::builder().method(method).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request
        };
        let written = encode(&request().body(MeshBody::full(body)).unwrap()).unwrap();
        let (near, mut far) = duplex(64 << 10);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        let connection = tokio::spawn(connection);
        let sent = sender.send_request(request().body(Full::new(bytes::Bytes::from(body))).unwrap());
        let read = async {
            let mut all = request_of(&mut far).await;
            while all.len() < written.len() && far.read_buf(&mut all).await.unwrap() > 0 {}
            drop(far);
            all
        };
        let (_, expected) = tokio::join!(sent, read);
        assert_eq!(
            String::from_utf8(written.to_vec()).unwrap(),
            String::from_utf8(expected).unwrap(),
        );
        connection.abort();
    }
}

#[test]
fn what_is_not_written_in_one_go_is_left_to_hyper() {
    let stream = || {
        MeshBody::new(http_body_util::StreamBody::new(futures_util::stream::empty::<
            Result<http_body::Frame<bytes::Bytes>, std::io::Error>,
        >()))
    };
    let post = || Request::post("/").header("host", "a");
    for request in [
        post().body(stream()),
        post().body(MeshBody::full(vec![0; 1 << 20])),
        post().header("content-length", "4").body(MeshBody::full("hello")),
        post().header("content-length", "4").body(MeshBody::empty()),
        post()
            .header("transfer-encoding", "chunked")
            .body(MeshBody::full("hello")),
        post().header("upgrade", "websocket").body(MeshBody::empty()),
        Request::builder()
            .method("CONNECT")
            .uri("a:80")
            .body(MeshBody::empty()),
        Request::get("http://a/").body(MeshBody::empty()),
    ] {
        assert!(encode(&request.unwrap()).is_none());
    }
}
