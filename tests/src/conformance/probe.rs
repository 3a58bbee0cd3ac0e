//! One request of a case, made anew for every time it is sent.

use anyhow::{Context, Result};
use bytes::Bytes;

use super::case::{BackendSees, Protocol, Style, Traffic};
use super::client::Sent;
use super::echo::SET_HEADER;
use super::echo::grpc;
use super::ledger::PROBE;

/// A method of the service that the suite's mesh backends have.
const MESH_METHOD: &str = "/proto.EchoTestService/Echo";

/// One request, and what identifies it everywhere.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The value of the header [`PROBE`].
    pub id: String,
    /// What is sent.
    pub sent: Sent,
    /// What of it must arrive, with placeholders filled in like those of the request.
    pub arrives: Option<BackendSees>,
}

impl Probe {
    /// Makes one; `host` stands where the case names none.
    ///
    /// # Errors
    /// If a placeholder is not in the path, or the case's request is none.
    pub fn new(traffic: &Traffic, style: Style, host: &str) -> Result<Self> {
        let request = &traffic.request;
        let id = token();
        let grpc_call = request.protocol == Protocol::Grpc;
        let path = match (&request.grpc_method, &request.path) {
            (Some(method), _) if grpc_call => method.clone(),
            (_, Some(path)) => path.clone(),
            (_, None) if grpc_call && style == Style::Mesh => MESH_METHOD.to_owned(),
            (_, None) if grpc_call => format!("/{}/Echo", grpc::SERVICE),
            (_, None) => "/".to_owned(),
        };
        let mut filled = Filled::of(traffic);
        let path = filled.path(&path).context("in the request's path")?;
        let mut arrives = traffic.expect.backend_sees.clone();
        if let Some(sees) = arrives.as_mut().and_then(|it| it.path.as_mut()) {
            *sees = filled.path(sees).context("in the path that must arrive")?;
        }
        let mut headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        headers.push((PROBE.to_owned(), id.clone()));
        let wanted = request.backend_adds_response_headers.iter();
        let wanted: Vec<String> = wanted.map(|(name, value)| format!("{name}:{value}")).collect();
        // The suite's clients of Gateways always say it, even if there is nothing to say.
        if !wanted.is_empty() || (style == Style::Gateway && !grpc_call) {
            headers.push((SET_HEADER.to_owned(), wanted.join(",")));
        }
        let mut body = Bytes::from(request.body.clone().unwrap_or_default());
        if grpc_call {
            headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
            headers.push(("te".to_owned(), "trailers".to_owned()));
            body = grpc::frame("");
        }
        let method = if grpc_call { "POST" } else { "GET" };
        Ok(Self {
            id,
            sent: Sent {
                protocol: request.protocol,
                scheme: request.scheme,
                method: request.method.clone().unwrap_or_else(|| method.to_owned()),
                path,
                host: request.host.clone().unwrap_or_else(|| host.to_owned()),
                sni: request.sni.clone(),
                headers,
                body,
            },
            arrives,
        })
    }
}

/// A word that nobody else has.
fn token() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Values for the placeholders of one probe.
struct Filled<'t> {
    traffic: &'t Traffic,
    values: Vec<(String, String)>,
    unique: String,
}

impl<'t> Filled<'t> {
    fn of(traffic: &'t Traffic) -> Self {
        let value = |kind: &str| match kind.contains("number") || kind.contains("integer") {
            true => fastrand::u32(..).to_string(),
            false => uuid(),
        };
        let templates = traffic.request.template.iter();
        Self {
            traffic,
            values: templates
                .map(|(name, kind)| (name.clone(), value(kind)))
                .collect(),
            unique: token(),
        }
    }

    fn path(&mut self, path: &str) -> Result<String> {
        let mut path = path.to_owned();
        for (name, value) in &self.values {
            path = fill(&path, name, value).with_context(|| format!("`{path}` has no place for `{name}`"))?;
        }
        if let Some(name) = &self.traffic.request.unique_query_param {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("{name}={}", self.unique));
        }
        Ok(path)
    }
}

/// Puts a value where a placeholder is: `{name}`, `${name}`, `<name>`, `$name`, or the name itself as a whole word.
fn fill(path: &str, name: &str, value: &str) -> Option<String> {
    let brackets = [
        format!("${{{name}}}"),
        format!("{{{{{name}}}}}"),
        format!("{{{name}}}"),
        format!("<{name}>"),
    ];
    let marked = brackets
        .into_iter()
        .chain([format!("${name}")])
        .find(|it| path.contains(it.as_str()));
    if let Some(marked) = marked {
        return Some(path.replace(&marked, value));
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let (at, _) = path.match_indices(name).find(|(at, _)| {
        let (before, after) = (&path[..*at], &path[at + name.len()..]);
        // A parameter's name is not its value.
        !before.ends_with(word) && !after.starts_with(word) && !after.starts_with('=')
    })?;
    Some(format!("{}{value}{}", &path[..at], &path[at + name.len()..]))
}

/// A random UUID (RFC 9562 §5.4).
fn uuid() -> String {
    let random = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | (0x4 << 76 | 0x2 << 62);
    let hex = format!("{random:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_however_they_are_marked() {
        for path in [
            "/r?uuid={uuid}&n=1",
            "/r?uuid=${uuid}&n=1",
            "/r?uuid=<uuid>&n=1",
            "/r?uuid=uuid&n=1",
        ] {
            assert_eq!(
                fill(path, "uuid", "7").as_deref(),
                Some("/r?uuid=7&n=1"),
                "{path}"
            );
        }
        assert_eq!(
            fill("/r?uuid={uuid}", "{uuid}", "7").as_deref(),
            Some("/r?uuid=7")
        );
        assert_eq!(fill("/r?uuid=", "uuid", "7"), None);
    }

    #[test]
    fn uuids_are_of_version_4() {
        let uuid = uuid();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
    }
}
