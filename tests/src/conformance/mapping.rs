//! Gateway-style tests on a mesh: Gateways become Services, and waypoints serve them where that is the shape.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::case::Id;
use super::manifest::{Objects, name, namespace};

/// The waypoint of every namespace that has one.
pub const WAYPOINT: &str = "waypoint";

/// Turns every Gateway into a Service of its name with a port per listener port, and routes' parents with them.
///
/// Whoever attaches to a listener attaches to the port of its name afterwards; listeners that share a port share the
/// name of the first.
///
/// # Errors
/// If an object cannot be added.
pub fn rewrite(objects: &mut Objects) -> Result<()> {
    let grpc = objects.of_kind("GRPCRoute").next().is_some();
    let gateways: Vec<Value> = objects.of_kind("Gateway").cloned().collect();
    objects.retain(|it| it["kind"] != "Gateway");
    for gateway in &gateways {
        objects.add(service_of(gateway, grpc))?;
    }
    for route in objects.iter_mut() {
        let home = namespace(route).to_owned();
        let parents = route
            .pointer_mut("/spec/parentRefs")
            .and_then(Value::as_array_mut);
        for parent in parents.into_iter().flatten() {
            let kind = parent["kind"].as_str().unwrap_or("Gateway");
            let at = parent["namespace"].as_str().unwrap_or(&home);
            let known = gateways
                .iter()
                .any(|it| parent["name"] == name(it) && namespace(it) == at);
            if kind == "Gateway" && known {
                parent["group"] = json!("");
                parent["kind"] = json!("Service");
            }
        }
    }
    Ok(())
}

fn service_of(gateway: &Value, grpc: bool) -> Value {
    let mut ports: Vec<Value> = Vec::new();
    for listener in gateway["spec"]["listeners"].as_array().into_iter().flatten() {
        if ports.iter().any(|it| it["port"] == listener["port"]) {
            continue;
        }
        let mut port = json!({ "name": listener["name"], "port": listener["port"] });
        // A Gateway finds out what its clients speak; a Service says it.
        port["appProtocol"] = json!(if grpc { "kubernetes.io/h2c" } else { "http" });
        ports.push(port);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": namespace(gateway), "name": name(gateway) },
        "spec": { "ports": ports },
    })
}

/// Gives each of these namespaces a waypoint that all its Services are bound to.
///
/// # Errors
/// If an object cannot be added.
pub fn bind(objects: &mut Objects, namespaces: &BTreeSet<String>) -> Result<Vec<Id>> {
    for object in objects.iter_mut().filter(|it| it["kind"] == "Namespace") {
        if namespaces.contains(name(object)) {
            object["metadata"]["labels"]["istio.io/use-waypoint"] = json!(WAYPOINT);
        }
    }
    for namespace in namespaces {
        objects.add(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {
                "namespace": namespace,
                "name": WAYPOINT,
                "labels": { "istio.io/waypoint-for": "service" },
            },
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
            },
        }))?;
    }
    let id = |namespace: &String| Id {
        namespace: namespace.clone(),
        name: WAYPOINT.to_owned(),
    };
    Ok(namespaces.iter().map(id).collect())
}

/// Gives every Service without an address one, as an API server does.
pub fn allocate(objects: &mut Objects) {
    let mut next = 0u16;
    for service in objects.iter_mut().filter(|it| it["kind"] == "Service") {
        let spec = &mut service["spec"];
        if spec["clusterIP"].is_null() && spec["type"] != "ExternalName" {
            next += 1;
            spec["clusterIP"] = json!(format!("10.96.{}.{}", next >> 8, next & 255));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_become_services_and_their_routes_follow() {
        let mut objects = Objects::default();
        let gateway = json!({ "kind": "Gateway", "metadata": { "namespace": "a", "name": "g" }, "spec": { "listeners": [
            { "name": "one", "port": 80, "protocol": "HTTP" }, { "name": "two", "port": 80, "protocol": "HTTP" },
            { "name": "three", "port": 8080, "protocol": "HTTP" }] } });
        let route = json!({ "kind": "HTTPRoute", "metadata": { "namespace": "a", "name": "r" }, "spec": { "parentRefs": [
            { "name": "g", "port": 80 }, { "name": "elsewhere" }] } });
        objects.add(gateway).unwrap();
        objects.add(route).unwrap();
        rewrite(&mut objects).unwrap();
        allocate(&mut objects);
        assert_eq!(objects.of_kind("Gateway").count(), 0);
        let service = objects.of_kind("Service").next().unwrap();
        assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 2);
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        let route = objects.of_kind("HTTPRoute").next().unwrap();
        assert_eq!(
            route["spec"]["parentRefs"][0],
            json!({ "name": "g", "port": 80, "group": "", "kind": "Service" })
        );
        assert_eq!(route["spec"]["parentRefs"][1], json!({ "name": "elsewhere" }));
    }
}
