//! What is spoken on a port: `appProtocol`, else the prefix of the port's name.

use crate::snapshot::AppProtocol;

/// The protocol a Kubernetes Service port declares (Istio "Protocol Selection": `appProtocol` wins over the name).
pub(crate) fn of_port(app_protocol: Option<&str>, name: Option<&str>) -> AppProtocol {
    match app_protocol {
        Some(declared) => of_word(declared),
        None => {
            let prefix = name.map(|name| name.split_once('-').map_or(name, |(prefix, _)| prefix));
            // `grpc-web` is the one protocol whose name has a dash of its own; both speak HTTP/2.
            prefix.map_or(AppProtocol::Unknown, of_word)
        }
    }
}

/// Whether a Kubernetes Service port declares HTTP over TLS.
pub(crate) fn is_https(app_protocol: Option<&str>, name: Option<&str>) -> bool {
    let prefix = || name.map(|name| name.split_once('-').map_or(name, |(prefix, _)| prefix));
    let word = app_protocol.or_else(prefix).unwrap_or_default();
    ["https", "kubernetes.io/wss"]
        .iter()
        .any(|it| word.eq_ignore_ascii_case(it))
}

/// Whether a Kubernetes Service port declares TLS that is not opened on the way: its connections say whom they are for.
pub(crate) fn is_tls(app_protocol: Option<&str>, name: Option<&str>) -> bool {
    let prefix = || name.map(|name| name.split_once('-').map_or(name, |(prefix, _)| prefix));
    let word = app_protocol.or_else(prefix).unwrap_or_default();
    word.eq_ignore_ascii_case("tls") || is_https(app_protocol, name)
}

/// The protocol a ServiceEntry port declares: `protocol`, else the name's prefix.
pub(crate) fn of_entry_port(protocol: Option<&str>, name: &str) -> AppProtocol {
    match protocol.filter(|it| !it.is_empty()) {
        Some(protocol) => of_word(protocol),
        None => of_port(None, Some(name)),
    }
}

fn of_word(word: &str) -> AppProtocol {
    match word.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => AppProtocol::Http1,
        "http2" | "grpc" | "grpc-web" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "tcp" | "tls" | "https" | "kubernetes.io/wss" | "mongo" | "mysql" | "redis" | "hbone" => {
            AppProtocol::Tcp
        }
        _ => AppProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name() {
        for (declared, name, expected) in [
            (None, None, AppProtocol::Unknown),
            (None, Some("http"), AppProtocol::Http1),
            (None, Some("http-web"), AppProtocol::Http1),
            (None, Some("grpc-web"), AppProtocol::Http2),
            (None, Some("tcp-db"), AppProtocol::Tcp),
            (None, Some("web"), AppProtocol::Unknown),
            (Some("kubernetes.io/h2c"), Some("http"), AppProtocol::Http2),
            (Some("kubernetes.io/ws"), None, AppProtocol::Http1),
            (Some("HTTP2"), None, AppProtocol::Http2),
            (Some("example.com/own"), Some("http"), AppProtocol::Unknown),
        ] {
            assert_eq!(of_port(declared, name), expected, "{declared:?} {name:?}");
        }
    }
}
