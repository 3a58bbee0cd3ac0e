//! What the environment says: the names of Kubernetes' downward API and a few of our own.

use std::net::IpAddr;
use std::time::Duration;

use super::{Error, ErrorKind, MeshBuilder};
use crate::hbone::Settings;
use crate::telemetry::Propagation;

/// Reads an environment; a function so that tests need not change the process's.
pub(super) fn read(var: impl Fn(&str) -> Option<String>) -> Result<MeshBuilder, Error> {
    let bad = |name: &str, value: &str, wants: &str| {
        Err(Error::new(
            ErrorKind::Settings,
            format!("{name}=`{value}` is not {wants}"),
        ))
    };
    let mut mesh = MeshBuilder::new();
    let config = var("INMESH_CONFIG").filter(|value| !value.is_empty());
    let Some(config) = config else {
        return Err(Error::new(
            ErrorKind::Settings,
            "INMESH_CONFIG is not set; it lists the directories or files to read: [NAMESPACE=]PATH, comma separated",
        ));
    };
    for spec in config.split(',').filter(|spec| !spec.is_empty()) {
        mesh = mesh.source(dir_of(spec));
    }
    match var("INMESH_CREDENTIALS").filter(|value| !value.is_empty()) {
        Some(dir) => mesh = mesh.credentials_dir(dir),
        None => {
            return Err(Error::new(
                ErrorKind::Settings,
                "INMESH_CREDENTIALS is not set; it names a directory with cert-chain.pem, key.pem and root-cert.pem",
            ));
        }
    }
    if let Some(namespace) = var("POD_NAMESPACE") {
        mesh = mesh.namespace(namespace);
    }
    if let Some(name) = var("POD_NAME") {
        mesh = mesh.pod(name);
    }
    if let Some(addr) = var("POD_IP") {
        match addr.parse::<IpAddr>() {
            Ok(addr) => mesh = mesh.address(addr),
            Err(_) => return bad("POD_IP", &addr, "an IP address"),
        }
    }
    if let Some(domains) = var("INMESH_TRUST_DOMAIN_ALIASES") {
        for domain in domains.split(',').filter(|domain| !domain.is_empty()) {
            mesh = mesh.trust_domain_alias(domain)?;
        }
    }
    if let Some(namespace) = var("INMESH_ROOT_NAMESPACE") {
        mesh = mesh.root_namespace(namespace);
    }
    if let Some(strict) = var("INMESH_STRICT") {
        match strict.as_str() {
            "1" | "true" => mesh = mesh.strict(true),
            "" | "0" | "false" => {}
            _ => return bad("INMESH_STRICT", &strict, "true or false"),
        }
    }
    if let Some(name) = var("INMESH_DEADLINE_HEADER").filter(|value| !value.is_empty()) {
        match name.parse() {
            Ok(name) => mesh = mesh.deadline_header(name),
            Err(_) => return bad("INMESH_DEADLINE_HEADER", &name, "the name of a header"),
        }
    }
    let mut hbone = Settings::default();
    for (name, time) in [
        ("INMESH_TUNNEL_KEEPALIVE_INTERVAL", &mut hbone.ping_every),
        ("INMESH_TUNNEL_KEEPALIVE_TIMEOUT", &mut hbone.ping_timeout),
    ] {
        let Some(seconds) = var(name).filter(|value| !value.is_empty()) else {
            continue;
        };
        match seconds.parse() {
            Ok(seconds @ 1..) => *time = Duration::from_secs(seconds),
            _ => return bad(name, &seconds, "a number of seconds"),
        }
    }
    mesh = mesh.hbone(hbone);
    if let Some(propagation) = propagation(&var)? {
        mesh = mesh.propagation(propagation);
    }
    if let Some(addr) = var("INMESH_ADMIN").filter(|value| !value.is_empty()) {
        match addr.parse() {
            Ok(addr) => mesh = mesh.admin(addr),
            Err(_) => return bad("INMESH_ADMIN", &addr, "an address with a port"),
        }
    }
    Ok(mesh)
}

/// Which headers carry traces, if the environment says so.
pub(crate) fn propagation(var: impl Fn(&str) -> Option<String>) -> Result<Option<Propagation>, Error> {
    const NAME: &str = "OTEL_PROPAGATORS";
    let Some(names) = var(NAME).filter(|names| !names.trim().is_empty()) else {
        return Ok(None);
    };
    match Propagation::named(&names) {
        Ok(propagation) => Ok(Some(propagation)),
        Err(why) => Err(Error::new(
            ErrorKind::Settings,
            format!("{NAME}=`{names}`: {why}"),
        )),
    }
}

/// The directory source that `[NAMESPACE=]PATH` means.
pub(crate) fn dir_of(spec: &str) -> crate::source::DirSource {
    match spec.split_once('=') {
        Some((namespace, path)) => crate::source::dir(path).namespace(namespace),
        None => crate::source::dir(spec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<MeshBuilder, Error> {
        read(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = with(&[]).unwrap_err();
        assert!(error.to_string().contains("INMESH_CONFIG"), "{error}");
        let error = with(&[("INMESH_CONFIG", "a=/tmp,/etc")]).unwrap_err();
        assert!(error.to_string().contains("INMESH_CREDENTIALS"), "{error}");
    }

    #[test]
    fn what_is_malformed_is_named() {
        let base = [("INMESH_CONFIG", "/tmp"), ("INMESH_CREDENTIALS", "/tmp")];
        for (name, value) in [
            ("POD_IP", "10.0.0"),
            ("INMESH_STRICT", "maybe"),
            ("INMESH_ADMIN", "15000"),
            ("INMESH_DEADLINE_HEADER", "a b"),
            ("INMESH_TUNNEL_KEEPALIVE_INTERVAL", "0"),
            ("INMESH_TUNNEL_KEEPALIVE_TIMEOUT", "1s"),
            ("OTEL_PROPAGATORS", "tracecontext,jaeger"),
        ] {
            let vars = [base[0], base[1], (name, value)];
            let error = with(&vars).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(with(&base).is_ok());
    }
}
