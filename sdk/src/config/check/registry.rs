//! ServiceEntries and EndpointSlices that declare less than they seem to.

use std::net::IpAddr;

use super::Faults;
use crate::config::core::EndpointSlice;
use crate::config::istio::ServiceEntry;

/// What a port of a ServiceEntry may speak ("ServicePort.protocol").
const PROTOCOLS: [&str; 13] = [
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "MONGO",
    "REDIS",
    "MYSQL",
    "TCP",
    "TLS",
    "HBONE",
    "UDP",
    "HTTP_PROXY",
];

pub(super) fn service_entry(entry: &ServiceEntry, faults: &mut Faults) {
    let spec = &entry.spec;
    if spec.hosts.is_empty() {
        faults.warning("spec.hosts", "no host, so nothing is declared", "name one");
    }
    if spec.ports.is_empty() {
        faults.warning(
            "spec.ports",
            "no port, so nothing can be called",
            "list the ports, each with a name",
        );
    }
    if let Some(location) = spec.location.as_deref()
        && !matches!(location, "MESH_EXTERNAL" | "MESH_INTERNAL")
    {
        faults.warning(
            "spec.location",
            format!(
                "`{}` is no location, which a cluster refuses",
                location.escape_debug()
            ),
            "write MESH_EXTERNAL or MESH_INTERNAL",
        );
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        if port.name.is_empty() {
            faults.warning(
                format!("{at}.name"),
                "the port has no name, which a cluster refuses",
                "name it",
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if !protocol.is_empty() && !PROTOCOLS.iter().any(|it| it.eq_ignore_ascii_case(protocol)) {
            faults.warning(
                format!("{at}.protocol"),
                format!(
                    "`{}` is no protocol that is known; what is spoken is found out",
                    protocol.escape_debug()
                ),
                "write HTTP, HTTP2, GRPC, HTTPS, TLS or TCP",
            );
        }
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let strange = endpoint.ports.keys();
        for name in strange.filter(|name| spec.ports.iter().all(|it| it.name != **name)) {
            faults.warning(
                format!("spec.endpoints[{index}].ports.{name}"),
                "the entry has no port of that name",
                "use the names of spec.ports",
            );
        }
    }
}

pub(super) fn endpoint_slice(slice: &EndpointSlice, faults: &mut Faults) {
    match slice.address_type.as_deref() {
        // Names are told where the Service is compiled.
        None | Some("IPv4" | "IPv6" | "FQDN") => {}
        Some(other) => faults.warning(
            "addressType",
            format!(
                "`{}` is no type of address, which a cluster refuses",
                other.escape_debug()
            ),
            "write IPv4 or IPv6",
        ),
    }
    if slice.address_type.as_deref() == Some("FQDN") {
        return;
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        for (nth, address) in endpoint.addresses.iter().enumerate() {
            if address.parse::<IpAddr>().is_err() {
                faults.warning(
                    format!("endpoints[{index}].addresses[{nth}]"),
                    format!(
                        "`{}` is no address; nobody is called there",
                        address.escape_debug()
                    ),
                    "write an IP address",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: impl FnOnce(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn an_entry_that_declares_less_than_it_seems_to_is_told() {
        let of = |spec: &str| {
            let entry = ServiceEntry {
                spec: serde_saphyr::from_str(spec).unwrap(),
                ..ServiceEntry::default()
            };
            told(|faults| service_entry(&entry, faults))
        };
        let ports = "ports: [{number: 80, name: web, protocol: http}]";
        assert_eq!(of(&format!("hosts: [a.b]\n{ports}")), [""; 0]);
        assert_eq!(
            of(&format!(
                "hosts: [a.b]\n{ports}\nendpoints: [{{address: 1.1.1.1, ports: {{web: 81}}}}]"
            )),
            [""; 0]
        );
        assert_eq!(of("{}"), ["spec.hosts", "spec.ports"]);
        assert_eq!(
            of(&format!("hosts: [a.b]\n{ports}\nlocation: INSIDE")),
            ["spec.location"]
        );
        assert_eq!(
            of("hosts: [a.b]\nports: [{number: 80, protocol: QUIC}]"),
            ["spec.ports[0].name", "spec.ports[0].protocol"]
        );
        assert_eq!(
            of(&format!(
                "hosts: [a.b]\n{ports}\nendpoints: [{{address: 1.1.1.1, ports: {{wbe: 81}}}}]"
            )),
            ["spec.endpoints[0].ports.wbe"]
        );
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        let of = |text: &str| {
            let slice: EndpointSlice = serde_saphyr::from_str(text).unwrap();
            told(|faults| endpoint_slice(&slice, faults))
        };
        assert_eq!(
            of("{addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}"),
            [""; 0]
        );
        assert_eq!(
            of("{addressType: FQDN, endpoints: [{addresses: [a.b]}]}"),
            [""; 0]
        );
        assert_eq!(
            of("{addressType: IP, endpoints: [{addresses: [10.0.0.1, 10.0.0]}]}"),
            ["addressType", "endpoints[0].addresses[1]"]
        );
    }
}
