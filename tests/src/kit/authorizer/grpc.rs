//! `envoy.service.auth.v3.Authorization/Check`, one unary call.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use inmesh::Body;
use prost::Message;

use super::message::{
    Allowed, Bool, CheckRequest, CheckResponse, Denied, Header, HeaderOption, HttpResponse, HttpStatus,
    QueryParameter, RpcStatus,
};
use super::{Authorizer, Fault, SAW, SCRIPT, Saw, Script};
use crate::kit::echo::with_trailers;

pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const INTERNAL: &str = "13";
/// `google.rpc.Code.PERMISSION_DENIED`
const PERMISSION_DENIED: i32 = 7;

pub(super) async fn answer(authorizer: &Authorizer, request: Request<Body>) -> Response<Body> {
    let bytes = request.into_body().collect().await.map(|body| body.to_bytes());
    let asked = bytes
        .ok()
        .as_ref()
        .and_then(unframed)
        .and_then(|message| CheckRequest::decode(message).ok());
    let Some(saw) = asked.and_then(saw) else {
        return reply(Bytes::new(), INVALID_ARGUMENT);
    };
    let script = authorizer.script(saw.headers.get(SCRIPT).map(String::as_str));
    tokio::time::sleep(Duration::from_millis(script.pause)).await;
    match script.fault {
        Some(Fault::Status) => reply(Bytes::new(), INTERNAL),
        Some(Fault::Garbage) => reply(framed(b"\xff\xff\xff"), OK),
        Some(Fault::Bare) => reply(framed(&bare().encode_to_vec()), OK),
        None => reply(framed(&response(&script, &saw).encode_to_vec()), OK),
    }
}

fn saw(request: CheckRequest) -> Option<Saw> {
    let attributes = request.attributes?;
    let http = attributes.request?.http?;
    Some(Saw {
        method: http.method,
        path: http.path,
        host: http.host,
        scheme: http.scheme,
        protocol: http.protocol,
        size: http.size,
        body: http.body,
        raw: String::from_utf8_lossy(&http.raw_body).into_owned(),
        source: attributes.source.unwrap_or_default().principal,
        headers: http.headers.into_iter().collect(),
    })
}

fn bare() -> CheckResponse {
    CheckResponse {
        status: Some(RpcStatus {
            code: PERMISSION_DENIED,
        }),
        http: None,
    }
}

fn response(script: &Script, saw: &Saw) -> CheckResponse {
    let set = script.set.iter().map(|pair| option(pair, false));
    let append = script.append.iter().map(|pair| option(pair, true));
    let mut headers: Vec<_> = set.chain(append).collect();
    headers.push(option(&(SAW.to_owned(), saw.text()), false));
    if script.status > 200 {
        return CheckResponse {
            http: Some(HttpResponse::Denied(Denied {
                status: Some(HttpStatus {
                    code: script.status.into(),
                }),
                headers,
                body: script.body.clone(),
            })),
            ..bare()
        };
    }
    let (query_set, query_removed) = &script.query;
    CheckResponse {
        status: Some(RpcStatus { code: 0 }),
        http: Some(HttpResponse::Ok(Allowed {
            headers,
            headers_to_remove: script.remove.clone(),
            response_headers_to_add: script.respond.iter().map(|pair| option(pair, false)).collect(),
            query_parameters_to_set: query_set
                .iter()
                .map(|(key, value)| QueryParameter {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            query_parameters_to_remove: query_removed.clone(),
        })),
    }
}

fn option((key, value): &(String, String), append: bool) -> HeaderOption {
    HeaderOption {
        header: Some(Header {
            key: key.clone(),
            value: value.clone(),
        }),
        append: Some(Bool { value: append }),
    }
}

fn reply(message: Bytes, status: &'static str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let mut response = Response::new(Body::new(with_trailers(message, trailers)));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn unframed(bytes: &Bytes) -> Option<Bytes> {
    (bytes.len() >= 5 && bytes[0] == 0).then(|| bytes.slice(5..))
}
