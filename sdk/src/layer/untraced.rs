//! What is done about a request's trace where nothing can be exported: its context is handed on.

use std::time::Instant;

use http::Request;
use tracing::Span;

use super::call::Served;
use super::notes::Notes;
use super::{MeshBody, Origin, Refusal};
use crate::snapshot::Snapshot;
use crate::telemetry::access::{Entry, Wanted};
use crate::telemetry::{Meter, TraceContext};

#[derive(Debug, Default)]
pub(super) struct Traced;

pub(super) struct Opening {
    pub(super) caller: TraceContext,
}

#[allow(dead_code, reason = "read where traces are recorded")]
pub(super) struct Whole<'a> {
    pub(super) origin: Option<&'a Origin>,
    pub(super) view: &'a Snapshot,
    pub(super) notes: Option<&'a Notes>,
    pub(super) grpc: bool,
    pub(super) started: Instant,
}

impl Opening {
    pub(super) fn received(request: &mut Request<MeshBody>, _: &Origin, _: &Snapshot) -> Self {
        Self {
            caller: TraceContext::extract(request.headers()),
        }
    }

    pub(super) fn sent(_: &mut Request<MeshBody>, _: &Snapshot) -> Self {
        Self {
            caller: TraceContext::default(),
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        false
    }

    pub(super) fn settle(self, _: &Span, _: &Meter) -> (TraceContext, Traced) {
        (self.caller, Traced)
    }
}

impl Traced {
    pub(super) fn is_recorded(&self) -> bool {
        false
    }

    pub(super) fn wanted(&self) -> Option<&Wanted> {
        None
    }

    pub(super) fn trace_id(&self) -> Option<[u8; 16]> {
        None
    }

    pub(super) fn answered(&mut self, _: Option<&Served>) {}

    pub(super) fn refused(&mut self, _: &Refusal) {}

    pub(super) fn finish(self, _: &Entry<'_>, whole: &Whole<'_>, _: &Span, _: &Meter) {
        // What would be told.
        let Whole {
            origin: _,
            view: _,
            notes: _,
            grpc: _,
            started: _,
        } = whole;
    }
}
