//! What a request is hashed by.

use std::net::IpAddr;

use anyhow::Result;
use http::Method;
use inmesh::compile::traffic::balance;
use inmesh::config::istio::destination_rule::{ConsistentHashLB, LoadBalancerSettings};
use inmesh::policy::RequestHead;
use inmesh::policy::balance::{Hashed, hash_of};
use serde::Deserialize;

use super::world::headers;
use super::{Row, Seen, read};

/// `consistentHash` and a request, to the key.
pub(super) fn key(row: Row) -> Result<Seen> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Case {
        consistent_hash: ConsistentHashLB,
        request: Request,
        key: Option<String>,
        #[serde(rename = "set_cookie")]
        set_cookie: Option<bool>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Request {
        #[serde(default)]
        headers: Vec<(String, String)>,
        path: Option<String>,
        src_ip: Option<IpAddr>,
        #[allow(dead_code)] // not part of the key, which is the point
        src_port: Option<u16>,
    }
    let case: Case = read(row)?;
    let policy = balance(&LoadBalancerSettings {
        consistent_hash: Some(case.consistent_hash),
        ..LoadBalancerSettings::default()
    });
    let headers = headers(&case.request.headers)?;
    let path = case.request.path.as_deref().unwrap_or("/");
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let head = RequestHead::unsent(&Method::GET, "svc", path, query, &headers);
    let source = case.request.src_ip.unwrap_or_else(|| IpAddr::from([10, 0, 0, 5]));
    let hashed = policy
        .hash
        .as_ref()
        .map_or(Hashed::Nothing, |key| key.of(&head, source, 7));
    let (observed, made) = match &hashed {
        Hashed::Nothing => ("none".to_owned(), false),
        Hashed::Made(..) => ("generated".to_owned(), true),
        Hashed::To(hash) => match &case.key {
            Some(key) if *hash == hash_of(key) => (key.clone(), false),
            _ => (format!("hash {hash:016x}"), false),
        },
    };
    let expected = case.key.as_deref().unwrap_or("none");
    let cookie = case.set_cookie.unwrap_or(made);
    Ok(Seen::new(
        format!("{expected}, cookie made: {cookie}"),
        format!("{observed}, cookie made: {made}"),
    ))
}
