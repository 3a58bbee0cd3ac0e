//! Vet: asks the authorizers that a rule names before its requests go anywhere (Gateway API, HTTPExternalAuthFilter).

#[cfg(feature = "extauthz")]
use std::sync::Arc;

use http::{HeaderMap, Response};
use tower_service::Service;

use super::settle::{Choice, Chosen, Settled};
use super::{Answer, Asking, RouteFuture};
use crate::layer::call::Routed;
use crate::layer::{MeshBody, Reason, Refusal};

/// Sends a call on once everybody has allowed it who must.
pub(super) async fn send<S>(
    choice: Choice,
    asking: Asking,
    mut inner: S,
) -> Result<Response<MeshBody>, Refusal>
where
    S: Service<Routed, Response = Response<MeshBody>, Error = Refusal>,
{
    let settled = match choice {
        Choice::Ruled(chosen) if chosen.authorizers().next().is_some() => vet(chosen, asking).await,
        choice => choice.settle(HeaderMap::new()),
    };
    RouteFuture::of(settled, &mut inner).await
}

/// Settles where a call goes once everybody has allowed it. Whatever stands in the way of asking is a no.
#[cfg(feature = "extauthz")]
async fn vet(mut chosen: Chosen, asking: Asking) -> Result<Settled, Answer> {
    let Asking { asker, meter } = asking;
    let (Some(route), Some(asker)) = (chosen.resource().cloned(), asker) else {
        return Err(nobody(chosen));
    };
    let asked = chosen.authorizers();
    let asked: Vec<_> = asked.map(|it| (Arc::clone(it), route.clone())).collect();
    match crate::layer::consult::vet(&mut chosen.call, asked, &asker, &meter).await {
        Ok(granted) => Choice::Ruled(chosen).settle(granted),
        Err(refusal) => Err(Box::new(Err(chosen.refused(refusal)))),
    }
}

/// Without the means to ask every answer is no.
#[cfg(not(feature = "extauthz"))]
async fn vet(chosen: Chosen, asking: Asking) -> Result<Settled, Answer> {
    let Asking { asker, meter } = asking;
    drop((asker, meter));
    Err(nobody(chosen))
}

fn nobody(chosen: Chosen) -> Answer {
    let refusal = Refusal::new(Reason::Authorizer, "the rule's authorizer cannot be asked");
    Box::new(Err(chosen.refused(refusal)))
}
