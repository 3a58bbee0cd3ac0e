//! Labels and annotations that ambient gives a meaning to.

/// Names the waypoint of what carries it; [`NONE`] opts out.
pub(crate) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The waypoint's namespace; read only from the object that also carries [`USE_WAYPOINT`].
pub(crate) const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// A second waypoint with a share of the connections; not enforced yet.
pub(crate) const USE_WAYPOINT_CANARY: &str = "istio.io/use-waypoint-canary";
/// The value of [`USE_WAYPOINT`] that opts out.
pub(crate) const NONE: &str = "none";
/// On a Gateway or its class: `service`, `workload`, `all` or `none`.
pub(crate) const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// On a Service or Namespace: ingress gateways go through the waypoint.
pub(crate) const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";
/// On a workload that itself accepts HBONE: a list that holds `http`.
pub(crate) const TUNNEL: &str = "networking.istio.io/tunnel";
/// Annotation of a pod that a node proxy serves: `enabled`.
pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";
/// On the pods of a Gateway: its name.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// On what a Gateway controller generated.
pub(crate) const GATEWAY_MANAGED: &str = "gateway.istio.io/managed";
/// Annotation of a Gateway: the service account of its pods.
pub(crate) const GATEWAY_ACCOUNT: &str = "gateway.istio.io/service-account";
/// Annotation of a Gateway: its waypoint names callers in `x-forwarded-client-cert`.
pub(crate) const XFCC: &str = "ambient.istio.io/xfcc-include-client-identity";
/// Annotation of a Service: the namespaces that see it, `.` being its own, `*` all and `~` none.
pub(crate) const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Annotation of a Service or Namespace: `PreferClose`, `PreferSameZone` or `PreferSameNode`.
pub(crate) const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// What all annotations begin with that are our own.
pub(crate) const OWN: &str = "inmesh.io/";
/// Annotation of a Gateway, Pod or Namespace: principals that are told why something was decided.
pub(crate) const EXPLAIN_TO: &str = "inmesh.io/explain-to";
/// Annotation of a Service, ServiceEntry or DestinationRule: how the least loaded endpoint is told, where the least loaded
/// is what is asked for; `peak-ewma` is by how long endpoints took of late.
pub(crate) const LOAD_BALANCER: &str = "inmesh.io/load-balancer";
/// The value of [`LOAD_BALANCER`] that there is.
pub(crate) const PEAK_EWMA: &str = "peak-ewma";
/// Annotation of an EnvoyFilter with adaptive concurrency: the header that says how important a request is.
pub(crate) const CRITICALITY_HEADER: &str = "inmesh.io/criticality-header";
/// Annotation of the same: how important a request is that does not say it.
pub(crate) const CRITICALITY: &str = "inmesh.io/criticality";
/// Annotation of a Telemetry: which traces are kept though they were not sampled: `failed`, `denied`, `slow=500ms`.
pub(crate) const KEEP_TRACES: &str = "inmesh.io/keep-traces";
/// On a workload: where it is, as `region.zone.subzone`.
pub(crate) const LOCALITY: &str = "istio-locality";
/// On a Node, or a workload: its region.
pub(crate) const REGION: &str = "topology.kubernetes.io/region";
/// On a Node, or a workload: its zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// On a Node, or a workload: its part of the zone.
pub(crate) const SUBZONE: &str = "topology.istio.io/subzone";
/// On a workload: its cluster.
pub(crate) const CLUSTER: &str = "topology.istio.io/cluster";
/// On a Node: its name.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// On an EndpointSlice: its Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On every namespace, set by Kubernetes: its name.
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Annotation of a VirtualService: callers that proved an identity may ask for faults by Envoy's headers.
pub(crate) const FAULT_HEADERS: &str = "inmesh/fault-headers";
