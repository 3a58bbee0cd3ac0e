//! Whom a waypoint speaks for: the caller behind the direct peer, where the configuration lets that peer say so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};

use crate::identity::{Disbelief, Introduction};
use crate::name::{FORWARDED_CLIENT_CERT, INTRODUCTION, IntroducedBy, Original, Peer, SpiffeId, field};
use crate::snapshot::{Place, Snapshot};
use crate::telemetry::Meter;

/// How many checked introductions are remembered; each lasts about a minute.
const MAX_KNOWN: usize = 1024;

/// Reads introductions, and remembers those it has checked: a waypoint says the same words for as long as it can.
#[derive(Debug, Default)]
pub(crate) struct Introductions {
    known: ArcSwap<HashMap<Box<[u8]>, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    introduction: Introduction,
    /// The certificate whose key signed: the same words from somebody else are somebody else's words.
    certificate: Arc<[u8]>,
}

impl Introductions {
    /// The caller that the direct peer introduces; takes introductions off the request, and client certificates that
    /// nobody may forward.
    pub(crate) fn read(
        &self,
        headers: &mut HeaderMap,
        view: &Snapshot,
        place: &Place,
        peer: &Peer,
        meter: &Meter,
    ) -> Option<Original> {
        if field(headers, &INTRODUCTION).is_none() && field(headers, &FORWARDED_CLIENT_CERT).is_none() {
            return None;
        }
        let words = headers.remove(INTRODUCTION);
        let waypoint = peer
            .identity
            .as_ref()
            .filter(|identity| view.may_introduce(place, identity));
        let Some(waypoint) = waypoint else {
            headers.remove(FORWARDED_CLIENT_CERT);
            meter.introduction_refused("not_a_waypoint");
            tracing::debug!(
                target: "inmesh::denied",
                peer = ?peer.identity,
                ?place,
                "the peer claims to speak for somebody and is no waypoint that is bound here; the claim was removed",
            );
            return None;
        };
        let Some(words) = words else {
            let id = forwarded_by(headers.get_all(FORWARDED_CLIENT_CERT).iter().next_back()?)?;
            let by = IntroducedBy::ForwardedClientCert;
            return Some(Original { id, by });
        };
        let checked = match (&peer.certificate, &view.my_identity) {
            (Some(certificate), Some(audience)) => self.check(&words, waypoint, certificate, audience),
            _ => Err(Disbelief::Audience),
        };
        match checked {
            Ok(id) => Some(Original {
                id,
                by: IntroducedBy::Signature,
            }),
            Err(why) => {
                meter.introduction_refused("not_believed");
                tracing::warn!(target: "inmesh::denied", %waypoint, ?place, %why, "an introduction is not believed");
                None
            }
        }
    }

    fn check(
        &self,
        words: &HeaderValue,
        waypoint: &SpiffeId,
        certificate: &Arc<[u8]>,
        audience: &SpiffeId,
    ) -> Result<SpiffeId, Disbelief> {
        let now = SystemTime::now();
        if let Some(known) = self.known.load().get(words.as_bytes())
            && known.certificate == *certificate
            && now < known.introduction.until
        {
            return Ok(known.introduction.caller.clone());
        }
        let introduction = Introduction::check(words.as_bytes(), waypoint, certificate, audience, now)?;
        let caller = introduction.caller.clone();
        let known = Known {
            introduction,
            certificate: Arc::clone(certificate),
        };
        self.known.rcu(|all| {
            let mut next = HashMap::clone(all);
            next.retain(|_, known| now < known.introduction.until);
            if next.len() >= MAX_KNOWN {
                next.clear();
            }
            next.insert(words.as_bytes().into(), known.clone());
            next
        });
        Ok(caller)
    }
}

/// The identity in the last element of an `x-forwarded-client-cert`: that of the hop in front of whoever wrote it.
fn forwarded_by(value: &HeaderValue) -> Option<SpiffeId> {
    let text = value.to_str().ok()?;
    let element = split(text, ',').last()?;
    let uri = split(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case("uri").then_some(value.trim())
    })?;
    let unquoted = uri.strip_prefix('"').and_then(|uri| uri.strip_suffix('"'));
    SpiffeId::parse(unquoted.unwrap_or(uri)).ok()
}

/// Splits at a separator outside of double quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        let ends = c == separator && !quoted;
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hop_of_a_forwarded_certificate_counts() {
        let of =
            |text: &str| forwarded_by(&HeaderValue::from_str(text).unwrap()).map(|id| id.as_str().to_owned());
        let a = "spiffe://cluster.local/ns/a/sa/a";
        assert_eq!(of(&format!("By=spiffe://td/ns/w/sa/w;URI={a}")), Some(a.into()));
        assert_eq!(
            of(&format!("URI=spiffe://td/ns/evil/sa/evil,By=x;URI={a}")),
            Some(a.into())
        );
        assert_eq!(
            of(&format!(
                "Subject=\"CN=a;URI=spiffe://td/ns/x/sa/x,\";uri=\"{a}\""
            )),
            Some(a.into())
        );
        assert_eq!(of("By=spiffe://td/ns/w/sa/w"), None);
        assert_eq!(of("URI=https://a"), None);
        assert_eq!(of(""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_forwarded_certificate_is_read_without_a_panic(text in "[ -~]{0,80}") {
            let _ = HeaderValue::from_str(&text).map(|value| forwarded_by(&value));
        }
    }
}
