//! `loadBalancer`, but for localities.

use std::time::Duration;

use http::HeaderName;

use crate::config::istio::destination_rule::{
    ConsistentHashLB, HTTPCookie, LoadBalancerSettings, SimpleLB, WarmupConfiguration,
};
use crate::policy::balance::{Algorithm, BalancePolicy, HashCookie, HashKey, Warmup, is_prime};

/// Who is chosen. `PASSTHROUGH` means the address that the caller meant: whoever dials an endpoint gets that one anyway,
/// and whoever dials a service gets any, as from whoever else serves the service's address (kube-proxy).
pub fn balance(written: &LoadBalancerSettings) -> BalancePolicy {
    let mut policy = BalancePolicy {
        algorithm: match written.simple {
            None | Some(SimpleLB::Unspecified | SimpleLB::LeastConn | SimpleLB::LeastRequest) => {
                Algorithm::LeastRequest
            }
            Some(SimpleLB::RoundRobin) => Algorithm::RoundRobin,
            Some(SimpleLB::Random | SimpleLB::Passthrough) => Algorithm::Random,
        },
        warmup: warmup(written),
        ..BalancePolicy::default()
    };
    if let Some(hash) = &written.consistent_hash {
        policy.algorithm = table(hash);
        policy.hash = key(hash);
    }
    policy
}

fn table(written: &ConsistentHashLB) -> Algorithm {
    match (&written.maglev, &written.ring_hash) {
        (Some(maglev), _) => match maglev.table_size {
            // Whatever else is written does not get past admission.
            Some(size) if is_prime(size) => Algorithm::Maglev { size },
            _ => Algorithm::MAGLEV,
        },
        (None, Some(ring)) => ring_of(ring.minimum_ring_size),
        (None, None) => ring_of(written.minimum_ring_size),
    }
}

fn ring_of(min: Option<u64>) -> Algorithm {
    match min {
        None | Some(0) => Algorithm::RING,
        Some(min) => Algorithm::RingHash { min },
    }
}

fn key(written: &ConsistentHashLB) -> Option<HashKey> {
    if let Some(name) = &written.http_header_name {
        return HeaderName::from_bytes(name.as_bytes()).ok().map(HashKey::Header);
    }
    if let Some(cookie) = &written.http_cookie {
        return Some(HashKey::Cookie(self::cookie(cookie)));
    }
    if written.use_source_ip == Some(true) {
        return Some(HashKey::SourceIp);
    }
    let query = written.http_query_parameter_name.as_deref();
    query.map(|it| HashKey::Query(it.into()))
}

fn cookie(written: &HTTPCookie) -> HashCookie {
    let attribute = |it: &crate::config::istio::destination_rule::CookieAttribute| {
        let value = it.value.as_deref().unwrap_or_default();
        (it.name.as_str().into(), value.into())
    };
    HashCookie {
        name: written.name.as_str().into(),
        path: written.path.as_deref().unwrap_or_default().into(),
        ttl: written.ttl.map(|it| it.0),
        attributes: written.attributes.iter().map(attribute).collect(),
    }
}

fn warmup(written: &LoadBalancerSettings) -> Option<Warmup> {
    let aged = |duration: Duration| (!duration.is_zero()).then(|| Warmup::new(duration));
    match &written.warmup {
        Some(WarmupConfiguration {
            duration,
            minimum_percent,
            aggression,
        }) => {
            let warmup = aged(duration.as_ref()?.0)?;
            Some(Warmup {
                min_percent: minimum_percent.unwrap_or(warmup.min_percent),
                aggression: aggression.unwrap_or(warmup.aggression),
                ..warmup
            })
        }
        None => aged(written.warmup_duration_secs?.0),
    }
}
