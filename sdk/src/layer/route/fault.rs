//! Fault: delays requests, and answers them with errors, where their rule asks for it.
//!
//! Once for a request, however many attempts it may take, and before anything else that the rule does: a preflight of
//! another origin is delayed too, and no copy is made of what is aborted (as in Istio, whose Envoys have the fault filter
//! before CORS and router). A delay is no part of the time that the rule gives the request.

use http::Response;
use tower_service::Service;

use super::settle::Decided;
use super::{Asking, vet};
use crate::layer::call::{Delayed, Routed};
use crate::layer::{MeshBody, Refusal};
use crate::policy::fault::Fault;

type Answer = Result<Response<MeshBody>, Refusal>;

pub(super) async fn inflict<S>(fault: Fault, decided: Decided, asking: Asking, inner: S) -> Answer
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    if let Some(time) = fault.delay {
        tokio::time::sleep(time).await;
    }
    let answer = match fault.abort {
        Some((status, grpc_status)) => Err(Refusal::fault(status, grpc_status)),
        None => match decided.choose() {
            Ok(choice) => vet::send(choice, asking, inner).await,
            Err(answer) => *answer,
        },
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
