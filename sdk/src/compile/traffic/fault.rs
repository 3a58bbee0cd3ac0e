//! `fault` of a VirtualService's route.

use http::StatusCode;

use crate::config::istio::grpc_status;
use crate::config::istio::virtual_service::{FaultAbort, FaultDelay, HTTPFaultInjection, Percent};
use crate::policy::fault::{Abort, Delay, FaultPolicy, PerMillion};

/// The faults of a route; `None` where nobody would ever see one.
pub fn fault(written: &HTTPFaultInjection) -> Option<FaultPolicy> {
    let policy = FaultPolicy {
        delay: written.delay.as_ref().and_then(delay),
        abort: written.abort.as_ref().and_then(abort),
        by_header: false,
    };
    (policy != FaultPolicy::default()).then_some(policy)
}

fn delay(written: &FaultDelay) -> Option<Delay> {
    let share = match (written.percentage, written.percent) {
        (None, Some(percent)) => PerMillion::percent(f64::from(percent)),
        (percentage, _) => share(percentage),
    };
    Some(Delay {
        share,
        time: written.fixed_delay?.0,
    })
    .filter(|it| it.share != PerMillion::NOBODY)
}

fn abort(written: &FaultAbort) -> Option<Abort> {
    let share = share(written.percentage);
    let grpc = written.grpc_status.as_deref().and_then(grpc_status);
    let status = match (written.http_status, grpc) {
        (Some(status), _) => StatusCode::from_u16(status).ok()?,
        // What a gRPC status is told in.
        (None, Some(_)) => StatusCode::OK,
        (None, None) => return None,
    };
    Some(Abort {
        share,
        status,
        grpc_status: grpc,
    })
    .filter(|it| it.share != PerMillion::NOBODY)
}

/// Nobody where nothing is said.
fn share(percentage: Option<Percent>) -> PerMillion {
    percentage.map_or(PerMillion::NOBODY, |it| PerMillion::percent(it.value))
}
