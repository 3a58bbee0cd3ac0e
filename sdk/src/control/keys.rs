//! Fetches the keys that verify tokens, and fetches them again before they are old.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use tokio::task::{AbortHandle, JoinSet};

use crate::policy::token::KeySet;
use crate::snapshot::{KeyCell, KeySource, Live};

/// How often keys are fetched while all is well: as Envoy does by default.
const EVERY: Duration = Duration::from_secs(300);

/// The pause after a failure: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Gets a document from somewhere, within a time.
pub(crate) type Fetch = Arc<dyn Fn(Uri, Duration) -> Fetching + Send + Sync>;
type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Keeps the keys of every source that the snapshot in force names, for as long as it is polled.
pub(crate) async fn keep(live: Arc<Live>, fetch: Fetch) {
    let mut generations = live.generations();
    let mut tasks = JoinSet::new();
    let mut kept: HashMap<KeySource, Keeper> = HashMap::new();
    loop {
        let view = live.pin();
        let wanted: HashMap<&KeySource, &Arc<KeyCell>> = view
            .keys
            .iter()
            .filter(|cell| cell.source().is_remote())
            .map(|cell| (cell.source(), cell))
            .collect();
        kept.retain(|source, keeper| {
            let stays = wanted
                .get(source)
                .is_some_and(|cell| Arc::ptr_eq(cell, &keeper.cell));
            if !stays {
                keeper.task.abort();
            }
            stays
        });
        for (source, cell) in wanted {
            kept.entry(source.clone()).or_insert_with(|| Keeper {
                cell: Arc::clone(cell),
                task: tasks.spawn(refresh(Arc::clone(cell), Arc::clone(&fetch))),
            });
        }
        drop(view);
        loop {
            tokio::select! {
                changed = generations.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Who fetches for a cell.
struct Keeper {
    cell: Arc<KeyCell>,
    task: AbortHandle,
}

async fn refresh(cell: Arc<KeyCell>, fetch: Fetch) {
    let mut pause = PAUSES.0;
    loop {
        let next = match fetched(cell.source(), &fetch).await {
            Ok(keys) => {
                tracing::debug!(source = ?cell.source(), keys = keys.len(), "keys fetched");
                if keys.is_empty() {
                    tracing::warn!(source = ?cell.source(), "the key set has no key that can be used: its tokens are refused");
                }
                cell.answered(keys, Instant::now());
                pause = PAUSES.0;
                EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())
            }
            Err(why) => {
                let stale = cell.failed(Instant::now());
                tracing::warn!(source = ?cell.source(), why, stale, retry = ?pause, "keys could not be fetched");
                let next = pause;
                pause = (pause * 2).min(PAUSES.1);
                next.mul_f64(0.75 + 0.5 * fastrand::f64())
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = cell.wanted() => {}
        }
    }
}

async fn fetched(source: &KeySource, fetch: &Fetch) -> Result<KeySet, String> {
    let parsed = |text: &str| {
        text.parse::<Uri>()
            .map_err(|error| format!("`{text}` is no URL: {error}"))
    };
    let (url, timeout) = match source {
        KeySource::Inline(_) => return Err("there is nothing to fetch".into()),
        KeySource::Url { url, timeout } => (parsed(url)?, *timeout),
        KeySource::Discovery { issuer, timeout } => {
            let issuer = issuer.trim_end_matches('/');
            let at = parsed(&format!("{issuer}/.well-known/openid-configuration"))?;
            let document = fetch(at, *timeout).await?;
            let document: serde_json::Value = serde_json::from_slice(&document)
                .map_err(|error| format!("the issuer's metadata is no JSON: {error}"))?;
            let url = document
                .get("jwks_uri")
                .and_then(serde_json::Value::as_str)
                .ok_or("the issuer's metadata names no `jwks_uri`")?;
            (parsed(url)?, *timeout)
        }
    };
    let text = fetch(url, timeout).await?;
    let text = std::str::from_utf8(&text).map_err(|_| "the key set is no text")?;
    KeySet::parse(text).map_err(|error| format!("the answer is no key set: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::policy::token::Lookup;
    use crate::snapshot::Snapshot;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    type Answers = Arc<Mutex<HashMap<String, Result<String, String>>>>;

    fn world(source: KeySource) -> (Arc<Live>, Arc<KeyCell>, Answers, Fetch) {
        let cell = Arc::new(KeyCell::new(source));
        let live = Arc::new(Live::new(Snapshot {
            keys: vec![Arc::clone(&cell)],
            ..Snapshot::default()
        }));
        let answers: Answers = Arc::default();
        let given = Arc::clone(&answers);
        let fetch: Fetch = Arc::new(move |uri: Uri, _| {
            let answer = given.lock().unwrap().get(&uri.to_string()).cloned();
            Box::pin(async move {
                answer
                    .unwrap_or_else(|| Err("nobody there".into()))
                    .map(Bytes::from)
            })
        });
        (live, cell, answers, fetch)
    }

    fn url() -> KeySource {
        KeySource::Url {
            url: "http://idp/keys".into(),
            timeout: Duration::from_secs(5),
        }
    }

    fn put(answers: &Answers, url: &str, answer: Result<&str, &str>) {
        let answer = answer.map(str::to_owned).map_err(str::to_owned);
        answers.lock().unwrap().insert(url.to_owned(), answer);
    }

    fn count(cell: &KeyCell) -> Option<usize> {
        match cell.lookup() {
            Lookup::Ready(keys) => Some(keys.len()),
            Lookup::Pending | Lookup::Failed => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_outlast_an_outage_of_their_issuer_but_not_for_ever() {
        let (live, cell, answers, fetch) = world(url());
        put(&answers, "http://idp/keys", Ok(KEYS));
        let mut seen = cell.answers();
        let keeper = tokio::spawn(keep(live, fetch));
        seen.changed().await.unwrap();
        assert_eq!(count(&cell), Some(1));
        put(&answers, "http://idp/keys", Err("down"));
        seen.changed().await.unwrap();
        assert_eq!(count(&cell), Some(1), "the outage is young");
        assert!(!cell.failed(Instant::now() + Duration::from_secs(3600)));
        assert!(matches!(cell.lookup(), Lookup::Failed), "the outage is old");
        seen.mark_unchanged();
        put(&answers, "http://idp/keys", Ok(r#"{"keys":[]}"#));
        seen.changed().await.unwrap();
        assert_eq!(count(&cell), Some(0));
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_was_never_there_gives_no_keys_until_it_is() {
        let (live, cell, answers, fetch) = world(url());
        let mut seen = cell.answers();
        let keeper = tokio::spawn(keep(live, fetch));
        seen.changed().await.unwrap();
        assert!(matches!(cell.lookup(), Lookup::Failed));
        put(&answers, "http://idp/keys", Ok("no json"));
        seen.changed().await.unwrap();
        assert!(matches!(cell.lookup(), Lookup::Failed));
        put(&answers, "http://idp/keys", Ok(KEYS));
        seen.changed().await.unwrap();
        assert_eq!(count(&cell), Some(1));
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn newer_keys_can_be_asked_for_but_not_all_the_time() {
        let (live, cell, answers, fetch) = world(url());
        put(&answers, "http://idp/keys", Ok(KEYS));
        let mut seen = cell.answers();
        let keeper = tokio::spawn(keep(live, fetch));
        seen.changed().await.unwrap();
        let mut newer = cell.ask().expect("they have not been asked for yet");
        newer.changed().await.unwrap();
        assert!(cell.ask().is_none());
        assert!(KeyCell::new(KeySource::Inline(KEYS.into())).ask().is_none());
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_says_itself_where_its_keys_are() {
        let (live, cell, answers, fetch) = world(KeySource::Discovery {
            issuer: "https://idp/realm/".into(),
            timeout: Duration::from_secs(5),
        });
        put(
            &answers,
            "https://idp/realm/.well-known/openid-configuration",
            Ok(r#"{"jwks_uri":"https://keys/idp"}"#),
        );
        put(&answers, "https://keys/idp", Ok(KEYS));
        let mut seen = cell.answers();
        let keeper = tokio::spawn(keep(live, fetch));
        seen.changed().await.unwrap();
        assert_eq!(count(&cell), Some(1));
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_gone_is_fetched_no_more() {
        let (live, cell, answers, fetch) = world(url());
        put(&answers, "http://idp/keys", Ok(KEYS));
        let mut seen = cell.answers();
        let keeper = tokio::spawn(keep(Arc::clone(&live), fetch));
        seen.changed().await.unwrap();
        live.publish(Arc::new(Snapshot {
            generation: 2,
            ..Snapshot::default()
        }));
        tokio::time::sleep(EVERY * 3).await;
        assert!(!seen.has_changed().unwrap());
        keeper.abort();
    }
}
