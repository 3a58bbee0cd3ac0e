//! Load balancing.

use std::collections::BTreeSet;

use super::super::Faults;
use super::super::common::at_least_a_millisecond;
use crate::config::istio::destination_rule::{
    ConsistentHashLB, LoadBalancerSettings, LocalityFailover, LocalityLoadBalancerSetting,
};

pub(super) fn check(it: &LoadBalancerSettings, has_outlier: bool, at: &str, faults: &mut Faults) {
    if it.simple.is_some() && it.consistent_hash.is_some() {
        faults.error(
            format!("{at}.simple"),
            "simple and consistentHash exclude each other",
            "remove one of them",
        );
    }
    if let Some(hash) = &it.consistent_hash {
        consistent_hash(hash, &format!("{at}.consistentHash"), faults);
    }
    if it.locality_lb_setting.is_some() && it.zone_aware_lb_setting.is_some() {
        faults.error(
            format!("{at}.zoneAwareLbSetting"),
            "localityLbSetting and zoneAwareLbSetting exclude each other",
            "remove one of them",
        );
    }
    if let Some(locality) = &it.locality_lb_setting {
        self::locality(locality, has_outlier, &format!("{at}.localityLbSetting"), faults);
    }
    if let Some(zone) = &it.zone_aware_lb_setting {
        failover(&zone.failover, &format!("{at}.zoneAwareLbSetting"), faults);
    }
    at_least_a_millisecond(
        it.warmup_duration_secs,
        || format!("{at}.warmupDurationSecs"),
        faults,
    );
    if let Some(warmup) = &it.warmup {
        let at = format!("{at}.warmup");
        if warmup.duration.is_none() {
            faults.error(format!("{at}.duration"), "is required", "write a duration");
        }
        at_least_a_millisecond(warmup.duration, || format!("{at}.duration"), faults);
        if warmup
            .minimum_percent
            .is_some_and(|it| !(0.0..=100.0).contains(&it))
        {
            faults.error(format!("{at}.minimumPercent"), "not a percentage", "use 0 to 100");
        }
        if warmup.aggression.is_some_and(|it| it.is_nan() || it <= 0.0) {
            faults.error(
                format!("{at}.aggression"),
                "must be greater than 0",
                "use 1 for linear growth",
            );
        }
    }
}

fn consistent_hash(it: &ConsistentHashLB, at: &str, faults: &mut Faults) {
    let keys = [
        it.http_header_name.is_some(),
        it.http_cookie.is_some(),
        it.use_source_ip.is_some(),
        it.http_query_parameter_name.is_some(),
    ];
    if keys.into_iter().filter(|it| *it).count() > 1 {
        faults.error(at, "only one thing can be hashed on", "name one key");
    }
    if let Some(cookie) = &it.http_cookie {
        let at = format!("{at}.httpCookie");
        if cookie.name.is_empty() {
            faults.error(format!("{at}.name"), "is required", "name the cookie");
        }
        let mut names = BTreeSet::new();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            if attribute.name.is_empty() || !names.insert(&attribute.name) {
                faults.error(
                    format!("{at}.attributes[{index}].name"),
                    "empty, or given twice",
                    "name every attribute once",
                );
            }
        }
    }
    let older = it.minimum_ring_size.is_some_and(|it| it != 0);
    if older {
        faults.warning(
            format!("{at}.minimumRingSize"),
            "an older form",
            "use ringHash.minimumRingSize",
        );
    }
    if it.ring_hash.is_some() && it.maglev.is_some()
        || older && (it.ring_hash.is_some() || it.maglev.is_some())
    {
        faults.error(at, "only one algorithm can be used", "name ringHash or maglev");
    }
    if let Some(maglev) = &it.maglev {
        let size = maglev.table_size.unwrap_or(0);
        if size >= 5_000_011 || !is_prime(size) {
            faults.error(
                format!("{at}.maglev.tableSize"),
                format!("{size} is not a prime below 5000011"),
                "use a prime such as 65537",
            );
        }
    }
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|it| it * it <= number)
            .all(|it| !number.is_multiple_of(it))
}

fn locality(it: &LocalityLoadBalancerSetting, has_outlier: bool, at: &str, faults: &mut Faults) {
    if !it.distribute.is_empty() && !it.failover.is_empty() {
        faults.error(
            format!("{at}.failover"),
            "distribute and failover exclude each other",
            "remove one of them",
        );
    }
    let topology =
        |label: &String| label.starts_with("topology.kubernetes.io/") || label == "topology.istio.io/subzone";
    if !it.failover.is_empty() && it.failover_priority.iter().any(topology) {
        faults.error(
            format!("{at}.failoverPriority"),
            "failover excludes labels of topology here",
            "remove one of them",
        );
    }
    for (index, distribute) in it.distribute.iter().enumerate() {
        let at = format!("{at}.distribute[{index}]");
        let shares = distribute.to.values();
        if shares.clone().any(|it| !(1..=100).contains(it))
            || shares.map(|it| u64::from(*it)).sum::<u64>() != 100
        {
            faults.error(
                format!("{at}.to"),
                "the shares are not 1 to 100 with the sum 100",
                "make them 100 together",
            );
        }
    }
    if (!it.failover.is_empty() || !it.failover_priority.is_empty()) && !has_outlier {
        faults.warning(
            at,
            "failover needs outlierDetection beside it",
            "add outlierDetection",
        );
    }
    failover(&it.failover, at, faults);
}

fn failover(list: &[LocalityFailover], at: &str, faults: &mut Faults) {
    for (index, it) in list.iter().enumerate() {
        let odd = |text: &str| text.contains(['/', '*']);
        if it.from == it.to || odd(&it.from) || odd(&it.to) {
            faults.error(
                format!("{at}.failover[{index}]"),
                "fails over from one region to another",
                "name two different regions, without zone and `*`",
            );
        }
    }
}
