//! The YAML of the town: the sample's own, what surrounds it, and what the acts apply.

/// The sample: services, accounts, deployments.
pub(crate) const BOOKINFO: &str = include_str!("../mesh/bookinfo/bookinfo.yaml");
/// The sample: a service per version.
pub(crate) const VERSIONS: &str = include_str!("../mesh/bookinfo/bookinfo-versions.yaml");
/// The sample: where the browser comes in.
pub(crate) const GATEWAY: &str = include_str!("../mesh/bookinfo/gateway-api/bookinfo-gateway.yaml");
/// The callers.
pub(crate) const CLIENTS: &str = include_str!("../mesh/clients.yaml");
/// The classes of Gateway that the town knows.
pub(crate) const CLASSES: &str = include_str!("../mesh/gateway-classes.yaml");

/// The guide's waypoint.
pub(crate) const WAYPOINT: &str = include_str!("../acts/waypoint.yaml");
/// The same, for traffic addressed to pods.
pub(crate) const WAYPOINT_FOR_WORKLOAD: &str = include_str!("../acts/waypoint-for-workload.yaml");
/// A waypoint in another namespace that lets bookinfo use it.
pub(crate) const WAYPOINT_FOO: &str = include_str!("../acts/waypoint-foo.yaml");
/// The same, for a namespace that is not bookinfo.
pub(crate) const WAYPOINT_FOO_FOR_OTHERS: &str = include_str!("../acts/waypoint-foo-for-others.yaml");
/// 90 % to reviews-v1, 10 % to reviews-v2.
pub(crate) const ROUTE: &str = include_str!("../acts/reviews-90-10.yaml");
/// Lets `curl` GET productpage, and nobody do anything else.
pub(crate) const POLICY: &str = include_str!("../acts/productpage-waypoint.yaml");
/// Mutual TLS demanded.
pub(crate) const STRICT: &str = include_str!("../acts/mtls-strict.yaml");
/// Mutual TLS accepted.
pub(crate) const PERMISSIVE: &str = include_str!("../acts/mtls-permissive.yaml");
/// Mutual TLS switched off, which ambient ignores.
pub(crate) const DISABLE: &str = include_str!("../acts/mtls-disable.yaml");
