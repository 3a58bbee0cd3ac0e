//! Client: what an application calls others with.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::{Connection, Opened, PodDirectory, Upstream, Wire};
use crate::layer::labels::{self, Onward};
use crate::layer::{
    Ask, Asking, BoxError, Destination, Directory, MeshBody, Outbound, Reason, Refusal, lead,
};
use crate::name::Host;
use crate::policy::connection::Opening;
use crate::snapshot::{Live, ServiceId, Snapshot};
use crate::telemetry::access::Entry;
use crate::telemetry::{Meter, Protocol, RequestLabels, TcpSeries};

/// An HTTP client on the mesh: routes, retries, balances, authenticates and encrypts in this process.
///
/// Cheap to clone. It is a [`tower_service::Service`] too, which is what gRPC stubs want.
#[derive(Clone, Debug)]
pub struct Client {
    stack: Outbound<PodDirectory, Upstream>,
    live: Arc<Live>,
    directory: PodDirectory,
    wire: Wire,
    meter: Meter,
}

impl Client {
    pub(crate) fn new(
        stack: Outbound<PodDirectory, Upstream>,
        live: Arc<Live>,
        directory: PodDirectory,
        wire: Wire,
        meter: Meter,
    ) -> Self {
        Self {
            stack,
            live,
            directory,
            wire,
            meter,
        }
    }

    /// Opens a connection that is not HTTP to a service port (`db:5432`) or a workload: bytes both ways, authenticated
    /// and encrypted, judged by the destination's L4 policy.
    ///
    /// TCPRoutes, TLSRoutes and the `tcp` and `tls` routes of VirtualServices decide where it leads. Where the server name
    /// that a TLS client asks for matters to them, nothing is dialled before it was written: then errors come from the
    /// connection, with the [`Refusal`] as their source.
    ///
    /// # Errors
    /// If the authority is no destination of the mesh, no route takes the connection, nobody can be reached, or the
    /// destination refuses.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect(&self, authority: &str) -> Result<Connection, Refusal> {
        let view = self.live.pin();
        let (host, port) = match Host::parse_authority(authority) {
            Ok((host, Some(port))) => (host, port),
            Ok((_, None)) => return Err(Refusal::new(Reason::BadRequest, "the authority has no port")),
            Err(error) => {
                return Err(Refusal::new(
                    Reason::BadRequest,
                    format!("the authority is unusable: {error}"),
                ));
            }
        };
        let Some(id) = view.service_by_host(&host) else {
            let Some(ip) = host.ip() else {
                let text = format!("{host} is no service of the mesh");
                return Err(Refusal::new(Reason::NoRoute, text));
            };
            let to = self.directory.pod(&view, ip, port)?;
            return self.open(&view, &to).await.map(Connection::opened);
        };
        let Some(found) = view.service(id).and_then(|service| service.port(port)) else {
            let text = format!("service {host} has no port {port}");
            return Err(Refusal::new(Reason::NoRoute, text));
        };
        if found.connections.wants_opening() {
            let client = self.clone();
            return Ok(Connection::unheard(Box::new(move |heard| {
                Box::pin(async move { client.follow(&view, id, port, heard.as_opening()).await })
            })));
        }
        self.follow(&view, id, port, Opening::Plain)
            .await
            .map(Connection::opened)
    }

    /// Opens a connection where the routes of a service port lead it.
    async fn follow(
        &self,
        view: &Snapshot,
        id: ServiceId,
        number: u16,
        opening: Opening<'_>,
    ) -> Result<Opened, Refusal> {
        let found = view.service(id).and_then(|it| Some((it, it.port(number)?)));
        let Some((service, port)) = found else {
            let text = format!("the service has no port {number}");
            return Err(Refusal::new(Reason::NoRoute, text));
        };
        match lead(view, &port.connections, Some(port.cluster), opening) {
            Ok(to) => self.open(view, &to).await,
            Err(refusal) => {
                let mut labels = labels::sent(view, None, Protocol::Tcp);
                labels.service = labels::service(&service.name, &service.host);
                self.series(view, &labels, None).failed(refusal.flags());
                let (service, why) = (&service.name, &refusal.detail);
                tracing::info!(target: "inmesh::denied", %service, port = number, %why, "connection not made");
                Err(refusal)
            }
        }
    }

    /// Where a connection to this address is counted.
    fn series(&self, view: &Snapshot, labels: &RequestLabels, to: Option<SocketAddr>) -> Arc<TcpSeries> {
        let plan = &view.metrics.clients;
        let me = view.my_identity.as_ref().map(|me| me.as_str());
        let tags = plan.tags(&Entry::of_connection([to, None], me, None, labels));
        self.meter.tcp_as(labels, plan, &tags)
    }

    /// Opens a connection to a destination, and counts what passes.
    async fn open(&self, view: &Snapshot, to: &Destination) -> Result<Opened, Refusal> {
        let cluster = match to {
            Destination::Cluster(cluster) => Some(&**cluster),
            Destination::Endpoint(_) => None,
        };
        match self.wire.connect(view, to).await {
            Ok((connection, endpoint)) => {
                let endpoint = &*endpoint;
                let labels = labels::sent(view, Some(Onward { endpoint, cluster }), Protocol::Tcp);
                let series = self.series(view, &labels, Some(endpoint.addr));
                Ok(connection.counted(series.open()))
            }
            Err(refusal) => {
                let mut labels = labels::sent(view, None, Protocol::Tcp);
                if let Some(cluster) = cluster {
                    labels.service = labels::service(&cluster.service, &cluster.host);
                }
                self.series(view, &labels, None).failed(ztunnel_flags(&refusal));
                Err(refusal)
            }
        }
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// Only where no response exists: [`Refusal::status`] is what a proxy would have answered. A response with an
    /// error status is `Ok`. So is the refusal of a gRPC call: it has the form that a stub makes a status of.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request.
    pub async fn get<U>(&self, uri: U) -> Result<Response<MeshBody>, Refusal>
    where
        U: TryInto<Uri>,
        U::Error: Into<BoxError>,
    {
        let mut request = Request::new(MeshBody::empty());
        *request.uri_mut() = parse(uri)?;
        self.request(request).await
    }

    /// Sends a POST.
    ///
    /// # Errors
    /// As [`Client::get`].
    ///
    /// # Cancel safety
    /// As [`Client::get`].
    pub async fn post<U>(&self, uri: U, body: impl Into<MeshBody>) -> Result<Response<MeshBody>, Refusal>
    where
        U: TryInto<Uri>,
        U::Error: Into<BoxError>,
    {
        let mut request = Request::new(body.into());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = parse(uri)?;
        self.request(request).await
    }

    /// Sends a request. Its URI must be absolute (`http://reviews:9080/…`), or it must have a `Host` header.
    ///
    /// Where it has both, the URI says which service is dialled, by name or by address, and the `Host` header is what
    /// the server is told: a `Host` that names another service does not switch to that service or to its routes.
    ///
    /// # Errors
    /// As [`Client::get`].
    ///
    /// # Cancel safety
    /// As [`Client::get`].
    pub async fn request<B>(&self, request: Request<B>) -> Result<Response<MeshBody>, Refusal>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.stack.clone().call(request.map(MeshBody::new)).await
    }
}

impl Ask for Client {
    fn ask(&self, request: Request<MeshBody>) -> Asking {
        let client = self.clone();
        Box::pin(async move { client.request(request).await })
    }
}

/// What ztunnel calls a connection that was not made.
fn ztunnel_flags(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        Reason::Identity => "TLS_FAILURE",
        _ => "CONNECT",
    }
}

fn parse<U>(uri: U) -> Result<Uri, Refusal>
where
    U: TryInto<Uri>,
    U::Error: Into<BoxError>,
{
    uri.try_into()
        .map_err(|error| Refusal::new(Reason::BadRequest, "the URI does not parse").caused_by(error))
}

impl<B> Service<Request<B>> for Client
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<MeshBody>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Response<MeshBody>, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut stack = self.stack.clone();
        let request = request.map(MeshBody::new);
        Box::pin(async move { stack.call(request).await })
    }
}

/// Prunes idle connections of every endpoint in force; run now and then by the mesh.
pub(crate) fn sweep(view: &Arc<Snapshot>, directory: &PodDirectory, epoch: u64) {
    let remembered = directory.endpoints();
    for endpoint in view.endpoints().chain(&remembered) {
        if let Some(lane) = endpoint.cell.connections(super::lane::Lane::default) {
            lane.sweep(epoch);
        }
    }
}
