//! The heads of requests and answers, as HTTP/1.1 writes them (RFC 9112 §3 to §6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::framing::{Chunked, Error, Framing};
use crate::layer::MeshBody;

/// How many fields an answer may have; hyper's number.
const MOST_FIELDS: usize = 100;

/// Bodies up to this size go out in one piece with their head.
const JOINED: usize = 16 << 10;

/// A request as the bytes that are sent, body included; `None` if it is not one that is written in one go.
pub(super) fn encode(request: &Request<MeshBody>) -> Option<Bytes> {
    let (method, uri) = (request.method(), request.uri());
    let body = request.body().whole().filter(|body| body.len() <= JOINED)?;
    let is_ordinary = *method != Method::CONNECT && uri.authority().is_none();
    let target = uri.path_and_query().filter(|_| is_ordinary)?.as_str();
    let mut size =
        method.as_str().len() + target.len() + " ".len() + VERSION.len() + "\r\n".len() + body.len();
    let mut told = body.is_empty();
    for (name, value) in request.headers() {
        if *name == TRANSFER_ENCODING || *name == UPGRADE {
            return None;
        }
        if *name == CONTENT_LENGTH {
            // One that says something else is for hyper to deal with.
            content_length(value, None)
                .ok()
                .filter(|length| *length == body.len() as u64)?;
            told = true;
        }
        size += name.as_str().len() + ": ".len() + value.len() + "\r\n".len();
    }
    let length = (!told).then(|| format!("content-length: {}\r\n", body.len()));
    let length = length.as_deref().unwrap_or_default();
    // To the byte: then it becomes `Bytes` as it is.
    let mut out = Vec::with_capacity(size + length.len());
    for part in [method.as_str(), " ", target, VERSION] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(length.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Some(out.into())
}

const VERSION: &str = " HTTP/1.1\r\n";

/// The head of an answer, and what follows it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection may be used again, as far as the head says.
    pub(super) keeps: bool,
}

impl Head {
    /// Whether the answer itself is still to come (RFC 9110 §15.2).
    pub(super) fn is_interim(&self) -> bool {
        let status = self.response.status();
        status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads the head of an answer to a request of this method, and says how long it is; `None` if more must come first.
pub(super) fn parse(bytes: &Bytes, method: &Method) -> Result<Option<(Head, usize)>, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    // What begins otherwise is no answer, however much of it comes.
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err(Error::Head(httparse::Error::Version));
    }
    let status =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)?;
    let (Status::Complete(size), Some(code), Some(minor)) = (status, parsed.code, parsed.version) else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Error::Head(httparse::Error::Status))?;
    let is_http11 = minor == 1;
    let mut said = Said::default();
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let (name, value) = read_field(bytes, field)?;
        said.hear(&name, &value);
        headers.append(name, value);
    }
    let is_bodyless =
        status.is_informational() || matches!(status.as_u16(), 204 | 304) || *method == Method::HEAD;
    let framing = match said.coding {
        _ if is_bodyless => Framing::Length(0),
        Some(_) if !is_http11 => return Err(Error::Framing),
        Some(is_chunked) => {
            // Whoever comes next must not believe the other length (RFC 9112 §6.1).
            said.closes |= headers.remove(CONTENT_LENGTH).is_some();
            match is_chunked {
                true => Framing::Chunked(Chunked::Size),
                false => Framing::Close,
            }
        }
        None => match said.length {
            Some(length) => Framing::Length(length.map_err(|()| Error::Framing)?),
            None => Framing::Close,
        },
    };
    let keeps = is_http11
        && !said.closes
        && !matches!(framing, Framing::Close)
        && status != StatusCode::SWITCHING_PROTOCOLS;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = match is_http11 {
        true => Version::HTTP_11,
        false => Version::HTTP_10,
    };
    *response.headers_mut() = headers;
    if let Some(reason) = parsed
        .reason
        .filter(|reason| status.canonical_reason() != Some(*reason))
        && let Ok(reason) = ReasonPhrase::try_from(bytes.slice_ref(reason.as_bytes()))
    {
        response.extensions_mut().insert(reason);
    }
    let head = Head {
        response,
        framing,
        keeps,
    };
    Ok(Some((head, size)))
}

/// A field as it is kept: the value lies where it came.
pub(super) fn read_field(
    bytes: &Bytes,
    field: &httparse::Header<'_>,
) -> Result<(HeaderName, HeaderValue), Error> {
    let name = HeaderName::from_bytes(field.name.as_bytes())
        .map_err(|_| Error::Head(httparse::Error::HeaderName))?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
        .map_err(|_| Error::Head(httparse::Error::HeaderValue))?;
    Ok((name, value))
}

/// What the fields say of the answer's end.
#[derive(Default)]
struct Said {
    length: Option<Result<u64, ()>>,
    /// Whether the last transfer coding is `chunked`.
    coding: Option<bool>,
    closes: bool,
}

impl Said {
    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == CONTENT_LENGTH {
            self.length = Some(match self.length {
                Some(Err(())) => Err(()),
                before => content_length(value, before.and_then(Result::ok)),
            });
        } else if *name == TRANSFER_ENCODING {
            let last = tokens(value).last();
            self.coding = Some(last.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")));
        } else if *name == CONNECTION {
            self.closes |= tokens(value).any(|token| token.eq_ignore_ascii_case("close"));
        }
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = value.to_str().unwrap_or_default();
    text.split(',').map(str::trim)
}

/// The length that a field says, which must be the same wherever it is said (RFC 9112 §6.3).
fn content_length(value: &HeaderValue, mut before: Option<u64>) -> Result<u64, ()> {
    for part in value.as_bytes().split(|byte| *byte == b',') {
        let digits = part.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(digits).ok().filter(|_| is_number);
        let length = length.and_then(|text| text.parse().ok()).ok_or(())?;
        if before.is_some_and(|before| before != length) {
            return Err(());
        }
        before = Some(length);
    }
    before.ok_or(())
}
