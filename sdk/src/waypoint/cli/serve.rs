//! `waypoint run`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{FINE, Named, WRONG, runtime};
use crate::mesh::{Error, ErrorKind, Mesh, admin};
use crate::snapshot::Role;
use crate::telemetry::{LogFilter, export};
use crate::waypoint::Waypoint;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The Gateway to serve.
    #[arg(long, env = "INMESH_GATEWAY", value_name = "NAMESPACE/NAME")]
    gateway: Named,

    /// Directory or file with YAML; may be given several times.
    #[arg(
        long,
        env = "INMESH_CONFIG",
        value_name = "[NAMESPACE=]PATH",
        value_delimiter = ',',
        required = true
    )]
    config: Vec<String>,

    /// Directory with cert-chain.pem, key.pem and root-cert.pem; re-read on change.
    #[arg(long, env = "INMESH_CREDENTIALS", value_name = "DIR")]
    credentials: PathBuf,

    /// Own address: where HBONE (15008) and the Gateway's listeners are bound.
    #[arg(long, env = "POD_IP", value_name = "IP")]
    address: Option<IpAddr>,

    /// Own pod name, by which the configuration knows this instance.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod: Option<String>,

    /// Bind another port for a listener of the Gateway, for instance 80=8080; may be given several times.
    #[arg(long, value_name = "LISTENER=PORT", value_parser = port_pair, value_delimiter = ',')]
    listen_port: Vec<(u16, u16)>,

    /// Address of the admin ports 15000 (configuration, problems, /explain), 15020 (metrics) and 15021 (readiness).
    /// By default 15020 and 15021 are on --address, and 15000 on 127.0.0.1 unless --address is a loopback address.
    #[arg(long, value_name = "IP")]
    admin_address: Option<IpAddr>,

    /// Serve the live view, the configuration and what is logged to whoever can reach an admin port, not to this machine
    /// alone.
    #[arg(long, env = "INMESH_ADMIN_REMOTE")]
    admin_remote: bool,

    /// Refuse configuration that is not enforced in full, instead of reporting it.
    #[arg(long, env = "INMESH_STRICT")]
    strict: bool,

    /// A further trust domain whose workloads may connect; may be given several times.
    #[arg(
        long,
        env = "INMESH_TRUST_DOMAIN_ALIASES",
        value_name = "DOMAIN",
        value_delimiter = ','
    )]
    trust_domain_alias: Vec<String>,

    /// Istio's root namespace.
    #[arg(
        long,
        env = "INMESH_ROOT_NAMESPACE",
        default_value = "istio-system",
        value_name = "NAMESPACE"
    )]
    root_namespace: String,

    /// How old a tunnel may become before its peer makes another, in seconds: so that callers find new instances.
    #[arg(long, env = "INMESH_TUNNEL_MAX_AGE", value_name = "SECONDS")]
    tunnel_max_age: Option<u64>,

    /// How long a tunnel is quiet before its peer is asked whether it is still there, in seconds.
    #[arg(
        long,
        env = "INMESH_TUNNEL_KEEPALIVE_INTERVAL",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "SECONDS"
    )]
    tunnel_keepalive_interval: u64,

    /// How long the peer may take to answer before the tunnel is given up, in seconds.
    #[arg(
        long,
        env = "INMESH_TUNNEL_KEEPALIVE_TIMEOUT",
        default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "SECONDS"
    )]
    tunnel_keepalive_timeout: u64,

    /// Header that carries deadlines from hop to hop, in milliseconds, for instance x-request-deadline-ms.
    #[arg(long, env = "INMESH_DEADLINE_HEADER", value_name = "NAME")]
    deadline_header: Option<http::HeaderName>,

    /// How long requests under way may take after SIGTERM, in seconds.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    drain: u64,

    /// Threads that carry requests.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    concurrency: usize,
}

fn port_pair(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text
        .split_once('=')
        .ok_or("expected LISTENER=PORT, for instance 80=8080")?;
    let port = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a port"));
    Ok((port(from)?, port(to)?))
}

impl Run {
    pub(super) fn main(self) -> Result<u8, Error> {
        let runtime = runtime(self.concurrency)?;
        let (exporter, filter) = runtime.block_on(async { telemetry() })?;
        let result = runtime.block_on(self.serve(filter));
        if let Some(exporter) = exporter {
            exporter.shutdown(Duration::from_secs(2));
        }
        result
    }

    async fn serve(self, filter: Option<LogFilter>) -> Result<u8, Error> {
        let signals = signals()?;
        let ip = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let ports: HashMap<u16, u16> = self.listen_port.iter().copied().collect();
        let mut mesh = Mesh::builder()
            .credentials_dir(&self.credentials)
            .namespace(&self.gateway.namespace)
            .root_namespace(&self.root_namespace)
            .strict(self.strict)
            .role(Role::Gateway {
                namespace: self.gateway.namespace.as_str().into(),
                name: self.gateway.name.as_str().into(),
            });
        if let Some(filter) = filter {
            mesh = mesh.log_filter(filter);
        }
        if let Some(propagation) = crate::mesh::propagation(|name| std::env::var(name).ok())? {
            mesh = mesh.propagation(propagation);
        }
        for spec in &self.config {
            mesh = mesh.source(crate::mesh::dir_of(spec));
        }
        for domain in &self.trust_domain_alias {
            mesh = mesh.trust_domain_alias(domain)?;
        }
        if let Some(address) = self.address {
            mesh = mesh.address(address);
        }
        if let Some(pod) = &self.pod {
            mesh = mesh.pod(pod);
        }
        let max_age = self.tunnel_max_age.filter(|seconds| *seconds > 0);
        mesh = mesh.hbone(crate::hbone::Settings {
            max_age: max_age.map(Duration::from_secs),
            ping_every: Duration::from_secs(self.tunnel_keepalive_interval),
            ping_timeout: Duration::from_secs(self.tunnel_keepalive_timeout),
            ..Default::default()
        });
        if let Some(name) = self.deadline_header {
            mesh = mesh.deadline_header(name);
        }
        let mesh = mesh.start().await?;
        let _metrics = metrics(&mesh)?;
        let waypoint = Waypoint::start(mesh.clone(), ports).await?;
        let local = if ip.is_loopback() {
            ip
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let near = self.admin_address.unwrap_or(local);
        let far = self.admin_address.unwrap_or(ip);
        for (ip, port) in [(near, 15000), (far, 15020), (far, 15021)] {
            let access = admin::Access {
                remote: self.admin_remote,
            };
            admin::listen(&mesh, SocketAddr::new(ip, port), access).await?;
        }
        tracing::info!(
            gateway = %format_args!("{}/{}", self.gateway.namespace, self.gateway.name),
            identity = %mesh.identity(), address = %ip, "serving",
        );
        let mut signals = signals;
        let name = signals.next(&mesh).await;
        tracing::info!(signal = name, grace = self.drain, "draining");
        let finished = tokio::select! {
            finished = waypoint.shutdown(Duration::from_secs(self.drain)) => finished,
            name = signals.next(&mesh) => {
                tracing::warn!(signal = name, "second signal: stopping at once");
                return Ok(WRONG);
            }
        };
        tracing::info!(finished, "stopped");
        Ok(FINE)
    }
}

/// Sends spans where the OTEL_* variables say, and logs to stderr.
fn telemetry() -> Result<(Option<export::Guard>, Option<LogFilter>), Error> {
    let failed = |error: export::Error| {
        Error::new(ErrorKind::Settings, "telemetry could not be set up").caused_by(error)
    };
    let Some(settings) = export::OtlpSettings::from_env().map_err(failed)? else {
        let filter = export::install_logs().map_err(failed)?;
        return Ok((None, Some(filter)));
    };
    let guard = export::install(&settings).map_err(failed)?;
    let filter = guard.log_filter();
    Ok((Some(guard), filter))
}

/// Sends metrics where the OTEL_* variables say, if they do.
fn metrics(mesh: &Mesh) -> Result<Option<export::MetricsGuard>, Error> {
    let failed =
        |error: export::Error| Error::new(ErrorKind::Settings, "metrics cannot be exported").caused_by(error);
    let Some(settings) = export::MetricsSettings::from_env().map_err(failed)? else {
        return Ok(None);
    };
    let guard = export::metrics(&settings, mesh.metered()).map_err(failed)?;
    Ok(Some(guard))
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

fn signals() -> Result<Signals, Error> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new(ErrorKind::Settings, "signals cannot be listened for").caused_by(error)
        })
    };
    Ok(Signals {
        terminate: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
        hangup: listen(SignalKind::hangup())?,
    })
}

impl Signals {
    /// The next signal to stop. Another, SIGHUP, has logs opened anew, as tools that move them away expect.
    async fn next(&mut self, mesh: &Mesh) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => mesh.reopen_logs(),
            }
        }
    }
}
