//! `Gateway` of `networking.istio.io`.

use serde::Deserialize;

use crate::config::{Labels, ObjectMeta};

/// `Gateway`: what the workloads listen on that carry its labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioGateway {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: IstioGatewaySpec,
}

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioGatewaySpec {
    /// What is listened on.
    pub servers: Vec<Server>,
    /// Labels of the pods that listen, of whichever namespace; all gateways if there are none.
    pub selector: Labels,
}

/// One port and the hosts that are served there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    pub port: ServerPort,
    /// The address, in place of all of the pod's.
    pub bind: Option<String>,
    /// Hosts, each with the namespace of the VirtualServices that may have it in front: `ns/host`, `*/host`, `./host`.
    pub hosts: Vec<String>,
    /// How TLS is terminated, or whether it is demanded.
    pub tls: Option<ServerTLSSettings>,
    /// Where requests without a route go; not implemented upstream either.
    pub default_endpoint: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// A port to listen on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerPort {
    /// The number.
    pub number: u16,
    /// `HTTP`, `HTTPS`, `HTTP2`, `GRPC`, `GRPC-WEB`, `TLS`, `TCP`, `MONGO`.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// Not read by Istio any more.
    pub target_port: Option<u16>,
}

/// What TLS a server speaks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTLSSettings {
    /// Whether callers in the clear are sent to HTTPS.
    pub https_redirect: bool,
    /// How TLS is treated; passed on if absent.
    pub mode: Option<ServerTLSmode>,
    /// A file.
    pub server_certificate: Option<String>,
    /// A file.
    pub private_key: Option<String>,
    /// A file, for `MUTUAL`.
    pub ca_certificates: Option<String>,
    /// A file with revoked certificates.
    pub ca_crl: Option<String>,
    /// A Secret of the gateway pod's namespace, in place of files.
    pub credential_name: Option<String>,
    /// Several of them.
    pub credential_names: Vec<String>,
    /// Several pairs of files.
    pub tls_certificates: Vec<TLSCertificate>,
    /// Where the roots for clients are, in place of the Secret with the certificate.
    pub ca_cert_credential_name: Option<String>,
    /// Names of which a client must prove one.
    pub subject_alt_names: Vec<String>,
    /// Hashes of keys of which a client must have one.
    pub verify_certificate_spki: Vec<String>,
    /// Hashes of certificates of which a client must have one.
    pub verify_certificate_hash: Vec<String>,
    /// The oldest version.
    pub min_protocol_version: Option<String>,
    /// The newest version.
    pub max_protocol_version: Option<String>,
    /// The only ciphers.
    pub cipher_suites: Vec<String>,
}

/// A certificate and its key as files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TLSCertificate {
    /// A file.
    pub server_certificate: Option<String>,
    /// A file.
    pub private_key: Option<String>,
    /// A file.
    pub ca_certificates: Option<String>,
}

/// How a server treats TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // named as upstream
pub enum ServerTLSmode {
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}
