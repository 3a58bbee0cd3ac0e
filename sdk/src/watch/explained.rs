//! Why a request was treated as it was: the engines asked once more, with the snapshot that judged it.

use serde_json::{Value, json};

use crate::explain::{Hop, Question, arrival, hop};
use crate::snapshot::Place;
use crate::snapshot::tap::Taken;

/// How many of the matches that did not win, and of the rules that did not decide, are told of.
const SHOWN: usize = 40;

/// What the engines say of a request, where all of it was kept.
pub(super) fn explained(taken: &Taken) -> Option<Value> {
    let headers = taken.headers.as_ref()?;
    let authority = match taken.uri.authority() {
        Some(authority) => authority.as_str(),
        None => &taken.authority,
    };
    let dialled = taken
        .dialled
        .as_ref()
        .map_or(authority, |dialled| dialled.as_str());
    let peer = taken.peer.as_deref();
    let scheme = match peer {
        Some(peer) if peer.tls.is_some() => "https",
        _ => "http",
    };
    let mut question = Question::seen(&taken.method, dialled, scheme, &taken.uri, headers.clone());
    if let Some(peer) = peer {
        question = question.from_addr(peer.addr.ip().to_canonical());
        if let Some(identity) = &peer.identity {
            question = question.from(identity.clone());
        }
    }
    if let Some(claims) = taken.judged.as_ref().and_then(|judged| judged.claims.as_ref()) {
        question = question.claims((**claims).clone());
    }
    let place = match taken.place.as_deref() {
        // Which of its listeners was meant, the host of the request said.
        Some(Place::Port { .. }) => arrival(&taken.view, &question),
        place => place.cloned(),
    };
    let identity = peer.and_then(|peer| peer.identity.as_ref());
    let mut told = hop(&taken.view, place.as_ref(), &question, identity, "here");
    shorten(&mut told);
    Some(json!(told))
}

/// Leaves out what is least likely to be asked for: candidates and rules far from the one that decided.
fn shorten(hop: &mut Hop) {
    if let Some(routing) = &mut hop.routing {
        keep(&mut routing.candidates, |candidate| candidate.decides);
    }
    if let Some(authorization) = &mut hop.authorization {
        keep(&mut authorization.rules, |rule| rule.decides);
    }
}

fn keep<T>(all: &mut Vec<T>, decides: impl Fn(&T) -> bool) {
    let mut index = 0;
    all.retain(|one| {
        index += 1;
        index <= SHOWN || decides(one)
    });
}
