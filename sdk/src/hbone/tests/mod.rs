//! The room as a whole, over loopback sockets.

mod limits;
mod peers;
mod pool;
mod raw;
mod streams;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::identity::dev_ca::DevCa;
use crate::identity::{Credential, CredentialProvider, Fixed, Trust, fixed};
use crate::name::SpiffeId;

/// One root for all tests of the room.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new_in_memory().unwrap());

const HOUR: Duration = Duration::from_secs(3600);

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

fn credential(account: &str) -> Credential {
    CA.issue(&id(account), HOUR)
        .and_then(|pems| pems.credential())
        .unwrap()
}

fn provider(account: &str) -> Fixed {
    fixed(credential(account))
}

fn head() -> ConnectHead {
    ConnectHead::new(Authority::parse("10.0.0.7:9080").unwrap())
}

/// A server that hands out what arrives, and counts the tunnels it accepted.
struct Server {
    addr: SocketAddr,
    provider: Fixed,
    accepted: Arc<AtomicUsize>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    failures: mpsc::UnboundedReceiver<Error>,
    /// At every change, the tunnels that stand send GOAWAY.
    leave: watch::Sender<()>,
}

impl Server {
    async fn start(settings: Settings) -> Self {
        Self::with(provider("server"), Trust::own(), settings).await
    }

    async fn with(provider: Fixed, trust: Trust, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, leave) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(()));
        let (found, incoming) = mpsc::unbounded_channel();
        let (failed, failures) = mpsc::unbounded_channel();
        let acceptor = Arc::new(Acceptor::new(provider.subscribe(), trust, settings));
        let (count, leaving) = (accepted.clone(), leave.subscribe());
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, found, failed) = (acceptor.clone(), found.clone(), failed.clone());
                let leaving = leaving.clone();
                tokio::spawn(async move {
                    match acceptor.handshake(tcp).await {
                        Ok(inbound) => serve(inbound, found, leaving).await,
                        Err(error) => drop(failed.send(error)),
                    }
                });
            }
        });
        Self {
            addr,
            provider,
            accepted,
            incoming,
            failures,
            leave,
        }
    }

    /// A server that sends back whatever comes.
    async fn echo(settings: Settings) -> Self {
        let mut server = Self::start(settings).await;
        let (_, none) = mpsc::unbounded_channel();
        let mut incoming = std::mem::replace(&mut server.incoming, none);
        tokio::spawn(async move {
            while let Some(incoming) = incoming.recv().await {
                tokio::spawn(echo(incoming.accept(None).unwrap()));
            }
        });
        server
    }

    fn target(&self) -> TunnelTarget {
        TunnelTarget::new(self.addr, [id("server")])
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut inbound: Inbound,
    found: mpsc::UnboundedSender<Incoming>,
    mut leaving: watch::Receiver<()>,
) {
    let mut told = false;
    leaving.mark_unchanged();
    loop {
        tokio::select! {
            next = inbound.next() => match next {
                Some(incoming) => drop(found.send(incoming)),
                None => return,
            },
            Ok(()) = leaving.changed(), if !told => {
                told = true;
                inbound.graceful_shutdown(());
            }
        }
    }
}

async fn echo(stream: TunnelStream) {
    let (mut read, mut write) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

fn pool(account: &str, settings: Settings) -> TunnelPool {
    // The provider may go: its subscribers keep the last credential.
    TunnelPool::new(provider(account).subscribe(), settings)
}

/// Sends a text and waits until it came back.
async fn ask(stream: &mut TunnelStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text);
}

/// Waits until something holds, and fails if it does not within ten seconds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true");
}
