//! The ports and listeners of the Gateway that this process serves.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Gate, Place};
use crate::matcher::{HostMap, HostPattern};
use crate::name::{Host, with_lower_host};
use crate::policy::authz::AuthzEngine;
use crate::policy::connection::ConnectionTable;
use crate::policy::route::RouteTable;
use crate::policy::tls::{Certificate, Made};

/// What the Gateway that this process serves listens on.
#[derive(Debug, Default)]
pub struct GatewayView {
    ports: HashMap<u16, PortView>,
    listeners: HashMap<Arc<str>, Arc<ListenerView>>,
}

/// One port and the listeners that share it.
#[derive(Debug, Default)]
pub struct PortView {
    /// Whether TLS is spoken here: on one port all listeners do, or none.
    pub secure: bool,
    /// Whether some of that is passed on unopened.
    pub passes: bool,
    hosts: HostMap<Arc<ListenerView>>,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerView {
    /// The listener's name.
    pub name: Arc<str>,
    /// The port that the Gateway declares.
    pub port: u16,
    /// The hosts that it serves: of requests, and of TLS connections by their server name.
    pub host: HostPattern,
    /// How TLS is terminated; `None` where none is spoken, or it is passed on unopened.
    pub tls: Option<Arc<TlsTerms>>,
    /// Whether TLS is passed on unopened.
    pub passes_tls: bool,
    /// Routes of requests, by the listener's host names.
    pub routes: Arc<RouteTable>,
    /// What becomes of connections, where the listener is none of requests.
    pub connections: Option<PassedOn>,
    /// What is enforced on it (policies that target the Gateway).
    pub gate: Arc<Gate>,
    /// The listener as a place, for every request that it serves.
    pub place: Arc<Place>,
}

/// What becomes of connections that are passed on as bytes.
#[derive(Debug)]
pub struct PassedOn {
    /// Where they lead.
    pub routes: ConnectionTable,
    /// Who may make them (policies that target the Gateway, as far as they speak of connections).
    pub authz: Arc<AuthzEngine>,
}

/// Why no listener serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// No listener of the port serves the host.
    Nowhere,
    /// Another listener than the one that the TLS connection was made for.
    Misdirected,
}

impl GatewayView {
    /// Adds a listener that can be served.
    pub fn add(&mut self, listener: Arc<ListenerView>) {
        let port = self.ports.entry(listener.port).or_default();
        let passes = listener.passes_tls;
        port.passes |= passes;
        port.secure |= passes || listener.tls.is_some();
        port.hosts.add(&listener.host, Arc::clone(&listener));
        self.listeners.insert(Arc::clone(&listener.name), listener);
    }

    /// Every port with its number.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &PortView)> {
        self.ports.iter().map(|(port, view)| (*port, view))
    }

    /// One port.
    pub fn port(&self, port: u16) -> Option<&PortView> {
        self.ports.get(&port)
    }

    /// One listener.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerView>> {
        self.listeners.get(name)
    }

    /// Every listener.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<ListenerView>> {
        self.listeners.values()
    }
}

impl PortView {
    /// The listener for a host (or for a server name; empty if a client gives none): the one with the most specific host
    /// name and no other, whether or not it has a route (Gateway API, "Listener Isolation").
    pub fn listener(&self, host: &str) -> Option<&Arc<ListenerView>> {
        self.hosts.best(host)
    }

    /// The listener for a request on a connection that was made for `sni` under the terms `admitted`.
    ///
    /// # Errors
    /// If there is none, or if the connection was not made for it: then its client has to make another one (RFC 9110
    /// §15.5.20), since the listener's certificate and its demands on clients were not negotiated here.
    pub fn request(
        &self,
        authority: &str,
        sni: Option<&Host>,
        admitted: Option<&Arc<ClientTerms>>,
    ) -> Result<&Arc<ListenerView>, Misfit> {
        let asked = with_lower_host(authority, |host| self.listener(host));
        if !self.secure {
            return asked.ok_or(Misfit::Nowhere);
        }
        let made_for = self.listener(sni.map_or("", Host::as_str));
        match (asked, made_for) {
            (Some(asked), Some(made_for)) if Arc::ptr_eq(asked, made_for) => {
                let demanded = asked.tls.as_ref().and_then(|tls| tls.clients.as_ref());
                match demanded == admitted {
                    true => Ok(asked),
                    false => Err(Misfit::Misdirected),
                }
            }
            (None, _) => Err(Misfit::Nowhere),
            (Some(_), _) => Err(Misfit::Misdirected),
        }
    }
}

/// How a listener terminates TLS.
#[derive(Debug)]
pub struct TlsTerms {
    /// The certificates to choose from by the server name that a client asks for; at least one.
    pub certificates: Vec<Arc<Certificate>>,
    /// How clients prove who they are; they are not asked if absent.
    pub clients: Option<Arc<ClientTerms>>,
    /// Whether HTTP is spoken inside, whose versions are then offered (ALPN).
    pub http: bool,
    /// What whoever terminates TLS made of this, once.
    made: Made,
}

/// How clients of a listener prove who they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientTerms {
    /// Who must have signed their certificates, in DER.
    pub roots: Vec<Box<[u8]>>,
    /// Whether those are served too who prove nothing.
    pub optional: bool,
}

impl TlsTerms {
    /// Terms with these certificates.
    pub fn new(certificates: Vec<Arc<Certificate>>, clients: Option<Arc<ClientTerms>>) -> Self {
        Self {
            certificates,
            clients,
            http: true,
            made: Made::default(),
        }
    }

    /// The same terms, for whatever is spoken inside.
    #[must_use]
    pub fn of_bytes(mut self) -> Self {
        self.http = false;
        self
    }

    /// What the terminating end makes of the terms, once.
    pub fn made<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.made.get(make)
    }
}

impl PartialEq for TlsTerms {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates && self.clients == other.clients && self.http == other.http
    }
}

impl fmt::Debug for ClientTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTerms")
            .field("roots", &self.roots.len())
            .field("optional", &self.optional)
            .finish()
    }
}
