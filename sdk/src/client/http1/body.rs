//! The body of an answer that is read here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::direct::Direct;
use super::framing::{Error, Framing, Piece};
use super::head::Head;
use super::{Kind, Standing};
use crate::layer::{BoxError, MeshBody};
use crate::policy::balance::Endpoint;

/// An answer with its body; the connection goes back to the endpoint's lane when that has been read.
///
/// Small ones come with their heads, and need nobody to read on.
pub(super) fn answered(
    mut direct: Box<Direct>,
    head: Head,
    standing: Standing,
    endpoint: &Arc<Endpoint>,
) -> Response<MeshBody> {
    let Head {
        response,
        framing,
        keeps,
    } = head;
    let whole = match framing {
        Framing::Length(0) => Some(Bytes::new()),
        Framing::Length(size) if direct.arrived.len() as u64 >= size && direct.is_sent() => {
            usize::try_from(size).ok().map(|size| direct.arrived.take(size))
        }
        _ => None,
    };
    let body = match whole {
        Some(bytes) => {
            if keeps && direct.is_settled() {
                standing.give_back(Kind::Direct(direct), endpoint);
            }
            MeshBody::full(bytes)
        }
        None => MeshBody::driven(Box::pin(DirectBody {
            framing,
            keeps,
            rest: Some((direct, standing, Arc::clone(endpoint))),
        })),
    };
    response.map(|()| body)
}

/// A body that is read from its connection and gives it back at the end. Dropping it closes the connection.
struct DirectBody {
    framing: Framing,
    /// Whether the connection may be used again.
    keeps: bool,
    /// Until the body has ended.
    rest: Option<(Box<Direct>, Standing, Arc<Endpoint>)>,
}

impl DirectBody {
    fn end(&mut self) {
        if let Some((direct, standing, endpoint)) = self.rest.take()
            && self.keeps
            && direct.is_settled()
        {
            standing.give_back(Kind::Direct(direct), &endpoint);
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        let Some((direct, ..)) = &mut self.rest else {
            return Poll::Ready(Ok(Piece::End));
        };
        direct.send_on(cx);
        loop {
            match self.framing.next(&mut direct.arrived)? {
                Piece::More => {}
                piece => return Poll::Ready(Ok(piece)),
            }
            match ready!(direct.poll_chunk(cx)) {
                Some(chunk) => direct.arrived.push(chunk?),
                None if self.framing == Framing::Close => return Poll::Ready(Ok(Piece::End)),
                None => return Poll::Ready(Err(Error::Early)),
            }
        }
    }
}

impl Body for DirectBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let piece = ready!(this.poll_piece(cx));
        Poll::Ready(match piece {
            Ok(Piece::Data(data)) => {
                if this.framing.is_ended() {
                    this.end();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => {
                this.end();
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(Piece::End | Piece::More) => {
                this.end();
                None
            }
            Err(error) => {
                this.rest = None;
                Some(Err(error.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::Close => SizeHint::default(),
        }
    }
}
