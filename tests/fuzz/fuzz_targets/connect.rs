//! The head of a CONNECT: the first line is its authority, each further one a header.
#![no_main]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Uri};
use inmesh::hbone::{Baggage, ConnectHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(authority) = Authority::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let Ok(uri) = Uri::builder().authority(authority).build() else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let Ok(head) = ConnectHead::from_request(&Method::CONNECT, &uri, &mut headers) else {
        return;
    };
    assert_ne!(head.authority.port(), 0);
    assert_eq!(
        inmesh::hbone::Authority::parse(&head.authority.to_string()).as_ref(),
        Ok(&head.authority)
    );
    let _ = head.forwarded_host();
    if let Some(baggage) = &head.baggage {
        let read = Baggage::parse(baggage);
        for value in [
            &read.cluster,
            &read.namespace,
            &read.workload,
            &read.service,
            &read.revision,
        ]
        .into_iter()
        .flatten()
        {
            assert!(
                value.len() <= 253 && !value.contains([',', ';', '"', '\n']),
                "{value:?}"
            );
        }
    }
    if let Some(parent) = &head.traceparent {
        assert_eq!(parent.len(), 55);
    }
});
