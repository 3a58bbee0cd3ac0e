//! Fault: delays requests, and answers them with errors, where their rule asks for it.
//!
//! Once for a request, however many attempts it may take, and before anything else that the rule does: a preflight of
//! another origin is delayed too, and no copy is made of what is aborted (as in Istio, whose Envoys have the fault filter
//! before CORS and router). A delay is no part of the time that the rule gives the request.

use std::pin::Pin;

use http::Response;
use tower_service::Service;

use super::RouteFuture;
use super::settle::Decided;
use crate::layer::call::{Delayed, Routed};
use crate::layer::{MeshBody, Refusal};
use crate::policy::fault::Fault;

type Answer = Result<Response<MeshBody>, Refusal>;

/// Boxed: a fault is the rare case.
pub(super) type Inflicted = Pin<Box<dyn Future<Output = Answer> + Send>>;

pub(super) async fn inflict<S>(fault: Fault, decided: Decided, mut inner: S) -> Answer
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    if let Some(time) = fault.delay {
        tokio::time::sleep(time).await;
    }
    let answer = match fault.abort {
        Some((status, grpc_status)) => Err(Refusal::fault(status, grpc_status)),
        None => RouteFuture::of(decided.settle(), &mut inner).await,
    };
    match fault.delay {
        Some(_) => delayed(answer),
        None => answer,
    }
}

/// Says of the answer that its request was delayed.
fn delayed(answer: Answer) -> Answer {
    match answer {
        Ok(mut response) => {
            response.extensions_mut().insert(Delayed);
            Ok(response)
        }
        Err(mut refusal) => {
            refusal.delayed = true;
            Err(refusal)
        }
    }
}
