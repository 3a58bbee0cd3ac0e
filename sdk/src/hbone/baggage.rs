//! What a peer says of itself: labels for telemetry, never proof.

use http::HeaderValue;

/// Who sends a stream, in the words of the `baggage` header of a `CONNECT` and of its answer.
///
/// A peer may write here whatever it likes, so nothing is ever decided by it; see [`crate::name::Peer`] for what is proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// `k8s.<kind>.name`, whatever the kind of workload.
    pub workload: Option<String>,
    /// The kind in that key: `deployment`, `cronjob`, `pod` or `job`.
    pub workload_kind: Option<&'static str>,
    /// `service.name`: Istio's canonical name.
    pub service: Option<String>,
    /// `service.version`: Istio's canonical revision.
    pub revision: Option<String>,
    /// `cloud.region`.
    pub region: Option<String>,
    /// `cloud.availability_zone`.
    pub zone: Option<String>,
}

/// The longest value that is taken for a label; Kubernetes names end at 253.
const LONGEST: usize = 253;
/// How many members are looked at.
const MEMBERS: usize = 64;
/// The kinds of workload that a key may name.
const KINDS: [&str; 4] = ["deployment", "cronjob", "pod", "job"];

impl Baggage {
    /// Reads the header as ztunnel writes it: members split at `,`, key from value at the first `=`, nothing decoded.
    ///
    /// Unknown keys, and values that cannot be names, are passed over; of a key given twice, the first counts.
    pub fn parse(header: &HeaderValue) -> Self {
        let mut found = Self::default();
        let members = header.as_bytes().split(|byte| *byte == b',').take(MEMBERS);
        for member in members.filter_map(|member| std::str::from_utf8(member).ok()) {
            let Some((key, value)) = member.split_once('=') else {
                continue;
            };
            // Properties after `;` belong to the member in W3C baggage and mean nothing here.
            let value = value.split(';').next().unwrap_or_default().trim();
            if is_label(value) {
                found.set(key.trim(), value);
            }
        }
        found
    }

    fn set(&mut self, key: &str, value: &str) {
        let place = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service,
            "service.version" => &mut self.revision,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            other => {
                let kind = other
                    .strip_prefix("k8s.")
                    .and_then(|rest| rest.strip_suffix(".name"));
                let Some(kind) = kind.and_then(|kind| KINDS.into_iter().find(|known| *known == kind)) else {
                    return;
                };
                if self.workload.is_none() {
                    self.workload_kind = Some(kind);
                }
                &mut self.workload
            }
        };
        place.get_or_insert_with(|| value.to_owned());
    }

    /// The header, in ztunnel's order and without the members that are not known; `None` if none is.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let workload_key = match self.workload_kind {
            Some("deployment") => "k8s.deployment.name",
            Some("cronjob") => "k8s.cronjob.name",
            Some("job") => "k8s.job.name",
            _ => "k8s.pod.name",
        };
        let members = [
            ("k8s.cluster.name", &self.cluster),
            ("k8s.namespace.name", &self.namespace),
            (workload_key, &self.workload),
            ("service.name", &self.service),
            ("service.version", &self.revision),
            ("cloud.region", &self.region),
            ("cloud.availability_zone", &self.zone),
        ];
        let mut text = String::new();
        for (key, value) in members {
            let Some(value) = value.as_deref().filter(|value| is_label(value)) else {
                continue;
            };
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(key);
            text.push('=');
            text.push_str(value);
        }
        if text.is_empty() {
            None
        } else {
            HeaderValue::try_from(text).ok()
        }
    }
}

/// Whether a value may stand as a label: printable, no separators, of sane length.
fn is_label(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':');
    !value.is_empty() && value.len() <= LONGEST && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Baggage {
        Baggage::parse(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn what_ztunnel_writes_is_read_and_written_again() {
        let text = "k8s.cluster.name=Kubernetes,k8s.namespace.name=bookinfo,k8s.deployment.name=reviews-v1,\
                    service.name=reviews,service.version=v1,cloud.region=r1,cloud.availability_zone=z1";
        let read = parse(text);
        assert_eq!(read.workload.as_deref(), Some("reviews-v1"));
        assert_eq!(read.workload_kind, Some("deployment"));
        assert_eq!(read.to_header().unwrap(), text);
        assert_eq!(Baggage::default().to_header(), None);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let read = parse(
            "service.name=a,service.name=b, service.version = v1 ;p=1,x,=,k8s.evil.name=q,cloud.region=%00",
        );
        assert_eq!(read.service.as_deref(), Some("a"));
        assert_eq!(read.revision.as_deref(), Some("v1"));
        assert_eq!(read.workload, None);
        assert_eq!(read.region, None);
        assert_eq!(parse(&format!("service.name={}", "a".repeat(9000))).service, None);
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(32u8..=255, 0..200)) {
            if let Ok(header) = HeaderValue::from_bytes(&bytes) {
                let read = Baggage::parse(&header);
                if let Some(written) = read.to_header() {
                    proptest::prop_assert_eq!(Baggage::parse(&written), read);
                }
            }
        }
    }
}
