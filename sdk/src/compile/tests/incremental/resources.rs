//! The resources of a town, each kind in a few ways that what is compiled tells apart.

use super::Step;
use crate::name::Kind;

/// A resource as it can be written: the kind, and the text by its name and number.
pub(super) type Write = (Kind, fn(&Step) -> Option<String>);

pub(super) const KINDS: &[Write] = &[
    (Kind::Service, service),
    (Kind::Service, service),
    (Kind::Pod, pod),
    (Kind::Pod, pod),
    (Kind::EndpointSlice, slice),
    (Kind::HTTPRoute, http_route),
    (Kind::HTTPRoute, http_route),
    (Kind::GRPCRoute, grpc_route),
    (Kind::TCPRoute, tcp_route),
    (Kind::TLSRoute, tls_route),
    (Kind::VirtualService, virtual_service),
    (Kind::DestinationRule, destination_rule),
    (Kind::AuthorizationPolicy, authorization_policy),
    (Kind::AuthorizationPolicy, authorization_policy),
    (Kind::RequestAuthentication, request_authentication),
    (Kind::PeerAuthentication, peer_authentication),
    (Kind::Namespace, namespace),
    (Kind::Gateway, gateway_of_kubernetes),
    (Kind::GatewayClass, gateway_class),
    (Kind::ListenerSet, listener_set),
    (Kind::IstioGateway, gateway_of_istio),
    (Kind::ReferenceGrant, reference_grant),
    (Kind::Telemetry, telemetry),
    (Kind::ServiceEntry, service_entry),
    (Kind::WorkloadEntry, workload_entry),
    (Kind::Deployment, deployment),
    (Kind::Node, node_of_kubernetes),
    (Kind::XBackendTrafficPolicy, traffic_policy),
    (Kind::BackendTLSPolicy, backend_tls_policy),
    (Kind::ConfigMap, config_map),
];

/// The namespace of the nth resource.
fn home(which: usize) -> &'static str {
    if which % 3 == 2 { "shop" } else { "default" }
}

fn one(api: &str, kind: &str, name: &str, which: usize, rest: &str) -> Option<String> {
    let home = home(which);
    Some(format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}{which}, namespace: {home}}}\n{rest}\n"
    ))
}

fn service(it: &Step) -> Option<String> {
    let n = it.which;
    let labels = [
        "",
        "labels: {istio.io/use-waypoint: wp}",
        "annotations: {networking.istio.io/exportTo: .}",
    ];
    let spec = match it.how {
        0 => return None,
        1 => format!("{{selector: {{app: a{n}}}, ports: [{{name: http, port: 80}}]}}"),
        2 => format!(
            "{{selector: {{app: a{n}}}, ports: [{{name: http, port: 80}}, {{name: grpc, port: 81}}]}}"
        ),
        3 => format!(
            "{{selector: {{app: a{n}}}, clusterIP: 10.96.0.{n}, ports: [{{name: tcp-db, port: 80}}]}}"
        ),
        4 => {
            "{selector: {app: a0}, ports: [{name: tls, port: 80, targetPort: http}, {port: 82, protocol: UDP}]}".to_owned()
        }
        5 => format!(
            "{{selector: {{app: a{n}}}, clusterIP: 10.96.0.1, trafficDistribution: PreferClose, ports: [{{name: http, port: 80, targetPort: 8080}}]}}"
        ),
        6 => "{type: ExternalName}".to_owned(),
        _ => format!("{{selector: {{app: a{n}}}, ports: [{{name: https, port: 80}}]}}"),
    };
    let (home, labels) = (home(n), labels[(it.how + n) % 3]);
    Some(format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: {home}, {labels}}}\nspec: {spec}\n"
    ))
}

fn pod(it: &Step) -> Option<String> {
    let n = it.which;
    let (labels, ready, ip) = match it.how {
        0 => return None,
        1 => ("app: a0", "True", n + 1),
        2 => (
            "app: a1, version: v1, networking.istio.io/tunnel: http",
            "True",
            n + 1,
        ),
        3 => (
            "app: a1, version: v2, networking.istio.io/tunnel: http",
            "False",
            n + 1,
        ),
        4 => ("gateway.networking.k8s.io/gateway-name: wp", "True", n + 1),
        5 => (
            "app: a2, istio-locality: r1.z1, istio.io/use-waypoint: wp",
            "True",
            1,
        ),
        6 => ("app: a0, version: v2", "True", n + 1),
        _ => ("app: a2", "True", 9),
    };
    let home = home(n);
    Some(format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: d{n}-1, namespace: {home}, labels: {{{labels}}}}}\n\
         spec: {{serviceAccountName: a{n}, nodeName: n{n}, containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}\n\
         status: {{phase: Running, podIP: 10.0.0.{ip}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
    ))
}

fn slice(it: &Step) -> Option<String> {
    let n = it.which;
    let endpoints = match it.how {
        0 => return None,
        1 => "[]".to_owned(),
        2 => format!("[{{addresses: [10.0.0.{}], conditions: {{ready: true}}}}]", n + 1),
        3 => format!(
            "[{{addresses: [10.0.0.{}], conditions: {{ready: false}}}}, {{addresses: [10.9.9.9], zone: z1}}]",
            n + 1
        ),
        4 => format!("[{{addresses: [10.0.0.9], targetRef: {{kind: Pod, name: d{n}-1}}}}]"),
        _ => "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]".to_owned(),
    };
    let home = home(n);
    Some(format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: e{n}, namespace: {home}, labels: {{kubernetes.io/service-name: s{n}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: {endpoints}\n"
    ))
}

/// A parent of routes.
fn parent(it: &Step) -> String {
    match (it.how + it.which) % 4 {
        0 => "{group: '', kind: Service, name: s0, port: 80}".to_owned(),
        1 => "{group: '', kind: Service, name: s1}".to_owned(),
        2 => "{group: '', kind: Service, name: s2, namespace: shop}".to_owned(),
        _ if it.how == 6 => "{kind: ListenerSet, name: z0}".to_owned(),
        _ => "{name: edge}".to_owned(),
    }
}

fn http_route(it: &Step) -> Option<String> {
    let rules = match it.how {
        0 => return None,
        1 => "[{backendRefs: [{name: s0, port: 80}]}]",
        2 => {
            "[{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: s1, port: 80, weight: 3}, {name: s0, port: 80}]}]"
        }
        3 => {
            "[{matches: [{headers: [{name: x, value: y}]}], backendRefs: [{name: s2, namespace: shop, port: 80}]}]"
        }
        4 => {
            "[{backendRefs: [{name: nobody, port: 80}]}, {matches: [{path: {type: RegularExpression, value: '['}}]}]"
        }
        5 => {
            "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s1, port: 81}}}], backendRefs: [{name: s0, port: 80}]}]"
        }
        6 => "[{backendRefs: [{group: networking.istio.io, kind: ServiceEntry, name: x0, port: 80}]}]",
        _ => {
            "[{matches: [{path: {type: Exact, value: /b}}], filters: [{type: RequestRedirect, requestRedirect: {port: 8080}}]}]"
        }
    };
    let rest = format!("spec: {{parentRefs: [{}], rules: {rules}}}", parent(it));
    one("gateway.networking.k8s.io/v1", "HTTPRoute", "h", it.which, &rest)
}

fn grpc_route(it: &Step) -> Option<String> {
    let rules = match it.how {
        0..4 => return None,
        4 => "[{backendRefs: [{name: s1, port: 81}]}]",
        _ => "[{matches: [{method: {service: a.B}}], backendRefs: [{name: s0, port: 80}]}]",
    };
    let rest = format!("spec: {{parentRefs: [{}], rules: {rules}}}", parent(it));
    one("gateway.networking.k8s.io/v1", "GRPCRoute", "g", it.which, &rest)
}

fn tcp_route(it: &Step) -> Option<String> {
    let backends = match it.how {
        0..3 => return None,
        3 | 4 => "[{name: s0, port: 80}]",
        _ => "[{name: s1, port: 80}, {name: s2, namespace: shop, port: 80}]",
    };
    let rest = format!(
        "spec: {{parentRefs: [{}], rules: [{{backendRefs: {backends}}}]}}",
        parent(it)
    );
    one(
        "gateway.networking.k8s.io/v1alpha2",
        "TCPRoute",
        "t",
        it.which,
        &rest,
    )
}

fn tls_route(it: &Step) -> Option<String> {
    if it.how < 4 {
        return None;
    }
    let rest = format!(
        "spec: {{parentRefs: [{}], hostnames: [a.example.com], rules: [{{backendRefs: [{{name: s0, port: 80}}]}}]}}",
        parent(it)
    );
    one("gateway.networking.k8s.io/v1", "TLSRoute", "l", it.which, &rest)
}

fn virtual_service(it: &Step) -> Option<String> {
    let spec = match it.how {
        0 => return None,
        1 => "{hosts: [s0], http: [{route: [{destination: {host: s1, subset: v1}}]}]}",
        2 => {
            "{hosts: [s0, '*.example.com'], http: [{match: [{uri: {prefix: /v}}], route: [{destination: {host: s0}}]}, \
             {route: [{destination: {host: s1}}]}]}"
        }
        3 => "{hosts: [s1.default.svc.cluster.local], exportTo: ['.'], http: [{delegate: {name: v1}}]}",
        4 => {
            "{http: [{match: [{uri: {prefix: /d}}], route: [{destination: {host: s2.shop.svc.cluster.local}}]}]}"
        }
        5 => {
            "{hosts: [s0], gateways: [mesh, default/i0, default/i1], tcp: [{route: [{destination: {host: s1, port: {number: 80}}}]}], \
             tls: [{match: [{sniHosts: [s0.default.svc.cluster.local]}], route: [{destination: {host: s0}}]}]}"
        }
        6 => {
            "{hosts: ['*'], gateways: [default/i0, mesh], http: [{match: [{sourceLabels: {app: a0}}], \
             route: [{destination: {host: s1}}]}]}"
        }
        _ => {
            "{hosts: [s1, nobody], http: [{route: [{destination: {host: nobody}}]}, {route: [{destination: {host: s0}}]}]}"
        }
    };
    one(
        "networking.istio.io/v1",
        "VirtualService",
        "v",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn destination_rule(it: &Step) -> Option<String> {
    let spec = match it.how {
        0 => return None,
        1 => "{host: s1, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}",
        2 => {
            "{host: s1, trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 2}}}"
        }
        3 => {
            "{host: '*.svc.cluster.local', trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 1}}}}"
        }
        4 => "{host: s0, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /nowhere}}}",
        5 => {
            "{host: s0.default.svc.cluster.local, exportTo: ['.'], workloadSelector: {matchLabels: {app: a0}}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"
        }
        6 => {
            "{host: '*', subsets: [{name: all, labels: {}}], trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}, outlierDetection: {}}}"
        }
        _ => {
            "{host: s1, subsets: [{name: v1, labels: {version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}}]}"
        }
    };
    one(
        "networking.istio.io/v1",
        "DestinationRule",
        "r",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn authorization_policy(it: &Step) -> Option<String> {
    let spec = match it.how {
        0 => return None,
        1 => "{action: ALLOW, rules: [{from: [{source: {namespaces: [default]}}]}]}",
        2 => {
            "{action: DENY, selector: {matchLabels: {app: a0}}, rules: [{to: [{operation: {paths: [/x]}}]}]}"
        }
        3 => {
            "{targetRefs: [{group: '', kind: Service, name: s0}], rules: [{to: [{operation: {methods: [GET]}}]}]}"
        }
        4 => "{action: CUSTOM, provider: {name: nobody}, rules: [{}]}",
        5 => "{action: DENY, rules: [{from: [{sauce: {}}]}]}",
        6 => {
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}, {group: '', kind: Service, name: s9}], rules: [{}]}"
        }
        _ => "{rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
    };
    one(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        "p",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn request_authentication(it: &Step) -> Option<String> {
    let spec = match it.how {
        0..5 => return None,
        5 => "{jwtRules: [{issuer: me, jwks: '{\"keys\":[]}'}]}",
        _ => {
            "{targetRefs: [{group: '', kind: Service, name: s0}], jwtRules: [{issuer: you, jwksUri: 'http://keys'}]}"
        }
    };
    one(
        "security.istio.io/v1",
        "RequestAuthentication",
        "q",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn peer_authentication(it: &Step) -> Option<String> {
    let mode = ["", "", "", "STRICT", "PERMISSIVE", "STRICT", "NONSENSE", "UNSET"][it.how];
    let rest = format!("spec: {{mtls: {{mode: {mode}}}}}");
    (!mode.is_empty()).then(|| one("security.istio.io/v1", "PeerAuthentication", "m", it.which, &rest))?
}

fn namespace(it: &Step) -> Option<String> {
    let home = home(it.which);
    let meta = match it.how {
        0 => return None,
        1 => "labels: {istio.io/use-waypoint: wp}",
        2 => "labels: {istio.io/use-waypoint: none}",
        3 => "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: default}",
        4 => "annotations: {networking.istio.io/traffic-distribution: PreferClose}",
        5 => "labels: {team: a, istio.io/ingress-use-waypoint: 'true', istio.io/use-waypoint: wp}",
        _ => "labels: {team: b}",
    };
    Some(format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {home}, {meta}}}\n"
    ))
}

fn gateway_of_kubernetes(it: &Step) -> Option<String> {
    let (name, spec) = match (it.which % 2, it.how) {
        (_, 0) => return None,
        (0, 1..5) => (
            "wp",
            "{gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}",
        ),
        (0, 5) => (
            "wp",
            "{gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}",
        ),
        (0, _) => (
            "wp",
            "{gatewayClassName: other, listeners: [{name: mesh, port: 80, protocol: HTTP}]}",
        ),
        (_, 1) => (
            "edge",
            "{gatewayClassName: istio, allowedListeners: {namespaces: {from: Same}}, listeners: [{name: web, port: 80, protocol: HTTP}]}",
        ),
        (_, 2 | 3) => (
            "edge",
            "{gatewayClassName: istio, listeners: [{name: web, port: 80, protocol: HTTP}]}",
        ),
        (_, 4) => (
            "edge",
            "{gatewayClassName: istio, allowedListeners: {namespaces: {from: All}}, listeners: [{name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: db, port: 81, protocol: TCP}]}",
        ),
        _ => (
            "edge",
            "{gatewayClassName: istio, listeners: [{name: safe, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}]}",
        ),
    };
    Some(format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    ))
}

fn gateway_class(it: &Step) -> Option<String> {
    let label = ["", "all", "service", "workload", "none", "all", "nonsense", "all"][it.how];
    (!label.is_empty()).then(|| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: istio-waypoint, labels: {{istio.io/waypoint-for: {label}}}}}\n\
             spec: {{controllerName: istio.io/mesh-controller}}\n"
        )
    })
}

fn gateway_of_istio(it: &Step) -> Option<String> {
    let server = match it.how {
        0 | 1 => return None,
        2 => "{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}",
        3 => "{port: {number: 8080, name: http, protocol: HTTP}, hosts: [s0.default.svc.cluster.local]}",
        4 => "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}",
        5 => {
            "{port: {number: 8443, name: tls, protocol: TLS}, hosts: ['*.default.svc.cluster.local'], tls: {mode: PASSTHROUGH}}"
        }
        6 => {
            "{port: {number: 8443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: none}}"
        }
        _ => "{port: {number: 8080, name: http, protocol: HTTP}, hosts: [shop/*]}",
    };
    let rest = format!("spec: {{selector: {{app: a0}}, servers: [{server}]}}");
    one("networking.istio.io/v1", "Gateway", "i", it.which, &rest)
}

fn listener_set(it: &Step) -> Option<String> {
    let listeners = match it.how {
        0 | 1 => return None,
        2 => "[{name: web, port: 80, protocol: HTTP, hostname: a.example.com}]",
        3 => "[{name: web, port: 80, protocol: HTTP}]",
        4 => "[{name: other, port: 81, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}]",
        5 => "[{name: safe, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}]",
        _ => "[{name: web, port: 82, protocol: HTTP}, {name: web, port: 83, protocol: HTTP}]",
    };
    let rest = format!("spec: {{parentRef: {{name: edge, namespace: default}}, listeners: {listeners}}}");
    one(
        "gateway.networking.k8s.io/v1",
        "ListenerSet",
        "z",
        it.which,
        &rest,
    )
}

fn reference_grant(it: &Step) -> Option<String> {
    if it.how < 3 {
        return None;
    }
    Some(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: grant, namespace: shop}\n\
         spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}\n"
            .to_owned(),
    )
}

fn telemetry(it: &Step) -> Option<String> {
    let spec = match it.how {
        0..3 => return None,
        3 => "{metrics: [{overrides: [{disabled: true}]}]}",
        4 => "{selector: {matchLabels: {app: a0}}, tracing: [{randomSamplingPercentage: 10}]}",
        5 => "{targetRefs: [{group: '', kind: Service, name: s0}], accessLogging: [{disabled: true}]}",
        _ => "{accessLogging: [{providers: [{name: envoy}]}]}",
    };
    one(
        "telemetry.istio.io/v1",
        "Telemetry",
        "y",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn service_entry(it: &Step) -> Option<String> {
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let spec = match it.how {
        0 => return None,
        1 => format!(
            "{{hosts: [x.example.com], {ports}, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}]}}"
        ),
        2 => format!(
            "{{hosts: ['*.example.com'], {ports}, resolution: STATIC, endpoints: [{{address: 10.0.0.77, labels: {{version: v1}}}}]}}"
        ),
        3 => format!("{{hosts: [x.example.com, y.example.com], {ports}, resolution: DNS}}"),
        4 => format!(
            "{{hosts: [x.example.com], {ports}, resolution: STATIC, workloadSelector: {{labels: {{app: a0}}}}}}"
        ),
        5 => format!(
            "{{hosts: [z.example.com], {ports}, exportTo: ['.'], resolution: DNS, endpoints: [{{address: db.example.com}}]}}"
        ),
        6 => format!(
            "{{hosts: [s0.default.svc.cluster.local], addresses: [10.96.0.1], {ports}, resolution: NONE}}"
        ),
        _ => format!(
            "{{hosts: [x.example.com], {ports}, resolution: DNS, workloadSelector: {{labels: {{app: a1}}}}, subjectAltNames: ['spiffe://cluster.local/ns/default/sa/a1']}}"
        ),
    };
    one(
        "networking.istio.io/v1",
        "ServiceEntry",
        "x",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn workload_entry(it: &Step) -> Option<String> {
    let spec = match it.how {
        0..3 => return None,
        3 => "{address: 10.0.0.1, labels: {app: a0}}",
        4 => "{address: 10.0.1.1, labels: {app: a0, version: v1}, weight: 2, ports: {http: 7070}}",
        5 => "{address: vm.example.com, labels: {app: a1}}",
        _ => "{address: 10.0.1.2, labels: {app: a1}, locality: r1/z1, serviceAccount: vm}",
    };
    one(
        "networking.istio.io/v1",
        "WorkloadEntry",
        "w",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn deployment(it: &Step) -> Option<String> {
    let labels = [
        "",
        "",
        "",
        "app: a0",
        "app: a1",
        "app: a0",
        "app: a1, version: v1",
        "app: a2",
    ][it.how];
    let rest = format!(
        "spec: {{selector: {{matchLabels: {{app: a0}}}}, template: {{metadata: {{labels: {{{labels}}}}}}}}}"
    );
    (!labels.is_empty()).then(|| one("apps/v1", "Deployment", "d", it.which, &rest))?
}

fn node_of_kubernetes(it: &Step) -> Option<String> {
    let zone = ["", "", "", "z1", "z2", "z1", "z2", "z3"][it.how];
    (!zone.is_empty()).then(|| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n{}, labels: {{topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: {zone}}}}}\n",
            it.which
        )
    })
}

fn traffic_policy(it: &Step) -> Option<String> {
    let spec = match it.how {
        0..4 => return None,
        4 => "{targetRefs: [{group: '', kind: Service, name: s0}], retryConstraint: {budget: {percent: 10}}}",
        5 => "{targetRefs: [{group: '', kind: Service, name: s1}], sessionPersistence: {sessionName: c}}",
        _ => {
            "{targetRefs: [{group: '', kind: Service, name: s1}], retryConstraint: {budget: {percent: 20, interval: 5s}}}"
        }
    };
    one(
        "gateway.networking.x-k8s.io/v1alpha1",
        "XBackendTrafficPolicy",
        "b",
        it.which,
        &format!("spec: {spec}"),
    )
}

fn backend_tls_policy(it: &Step) -> Option<String> {
    if it.how < 5 {
        return None;
    }
    let rest = "spec: {targetRefs: [{group: '', kind: Service, name: s0}], validation: {hostname: a.example.com, wellKnownCACertificates: System}}";
    one(
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
        "k",
        it.which,
        rest,
    )
}

fn config_map(it: &Step) -> Option<String> {
    let mesh = [
        "",
        "",
        "",
        "",
        "",
        "accessLogFile: /dev/stdout",
        "trustDomain: other.local",
        "rootNamespace: default",
    ][it.how];
    (!mesh.is_empty()).then(|| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n")
    })
}
