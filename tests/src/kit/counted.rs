//! A backend outside of the mesh that speaks HTTP in the clear, and counts its connections.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A running backend; it ends when this is dropped. `/sleep/MS` is answered later; every answer says which HTTP was
/// spoken, on which of its connections.
#[derive(Debug)]
pub struct Counted {
    counts: Arc<Counts>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    open: AtomicUsize,
    served: AtomicUsize,
}

impl Counted {
    /// Starts on a port of an address.
    pub async fn start(ip: Ipv4Addr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((ip, port))).await?;
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.made.fetch_add(1, Ordering::SeqCst) + 1;
                shared.open.fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, number, Arc::clone(&counts)));
                    // A caller that closes early is not this server's concern.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self {
            counts,
            task: task.abort_handle(),
        })
    }

    /// How many connections were made.
    pub fn made(&self) -> usize {
        self.counts.made.load(Ordering::SeqCst)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// How many requests came.
    pub fn served(&self) -> usize {
        self.counts.served.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    number: usize,
    counts: Arc<Counts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    counts.served.fetch_add(1, Ordering::SeqCst);
    if let Some(pause) = request.uri().path().strip_prefix("/sleep/")
        && let Ok(pause) = pause.parse()
    {
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    }
    let text = format!("{:?} on {number}", request.version());
    Ok(Response::new(Full::new(Bytes::from(text))))
}
