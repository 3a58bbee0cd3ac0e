//! How telemetry reaches collectors that the mesh configuration names: through the mesh, as any other request.

use std::sync::Weak;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Limited};

use super::Inner;
use crate::layer::MeshBody;
use crate::telemetry::TraceContext;
use crate::telemetry::export::Carrier;

/// An answer says at most how many were refused, and why.
const ANSWER: usize = 64 * 1024;

/// The way there. Weak, because the mesh keeps the queues that keep this.
pub(super) fn carrier(mesh: Weak<Inner>) -> Carrier {
    Carrier::new(move |request| {
        let mesh = Weak::clone(&mesh);
        Box::pin(async move {
            let asker = mesh.upgrade().map(|mesh| mesh.asker.clone());
            let asker = asker.ok_or("the mesh is gone")?;
            // What tells of traces must not become part of one, or each would bring the next.
            let asked = TraceContext::unrecorded().scope(async move {
                let response = asker.ask(request.map(MeshBody::full)).await;
                collected(response.map_err(|refusal| refusal.to_string())?).await
            });
            asked.await
        })
    })
}

/// The whole of an answer, trailers among its header fields.
async fn collected(response: Response<MeshBody>) -> Result<Response<Bytes>, String> {
    let (mut head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    if let Some(trailers) = body.trailers() {
        head.headers.extend(trailers.clone());
    }
    Ok(Response::from_parts(head, body.to_bytes()))
}
