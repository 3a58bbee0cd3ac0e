//! Secrets and ConfigMaps.

use super::*;

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: kubernetes.io/tls\n";

#[test]
fn secrets_and_config_maps_hold_bytes_under_names() {
    let text = format!(
        "{SECRET}data: {{tls.crt: aGVs\\n bG8=, both: eA==}}\nstringData: {{both: plain}}\nimmutable: true\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: b}}\ndata: {{ca.crt: text}}\nbinaryData: {{raw: AAE=}}\n"
    );
    let text = text.replace("aGVs\\n bG8=", "\"aGVs\\n bG8=\"");
    let parsed = read("a.yaml", &text, Some("shop"));
    let text = text.replace("\\n bG8", "\\nbG8");
    assert_eq!(problems(&parsed).len(), 1, "a blank is no base64");
    let parsed = read("a.yaml", &text, Some("shop"));
    assert_eq!(problems(&parsed), [""; 0]);
    let (Resource::Secret(secret), Resource::ConfigMap(map)) =
        (&parsed.entries[0].resource, &parsed.entries[1].resource)
    else {
        panic!("{:?}", names(&parsed));
    };
    assert_eq!(secret.get("tls.crt"), Some(&b"hello"[..]));
    assert_eq!(secret.get("both"), Some(&b"plain"[..]), "stringData counts first");
    assert_eq!(map.get("ca.crt"), Some(&b"text"[..]));
    assert_eq!(map.get("raw"), Some(&[0, 1][..]));
    assert_eq!(map.get("none"), None);
}

#[test]
fn nothing_shows_what_is_in_a_secret() {
    // `c2VjcmV0LXdvcmQ=` is `secret-word`.
    for body in [
        "data: {k: c2VjcmV0LXdvcmQ=}\n",
        "data: c2VjcmV0LXdvcmQ=\n",
        "data: {k: [c2VjcmV0LXdvcmQ=]}\n",
        "data: {k: c2VjcmV0LXdvcmQ}\n",
        "data: {k: 20260101}\n",
        "stringData: {k: secret-word}\n",
        "stringData: secret-word\n",
        "stringData: {k: 20260101}\n",
        "stringdata: {k: secret-word}\n",
        "data: {k: c2VjcmV0LXdvcmQ=\n",
        "data: {k: !!int c2VjcmV0LXdvcmQ=}\n",
        "data: {k: *c2VjcmV0LXdvcmQ}\n",
    ] {
        for text in [
            format!("{SECRET}{body}"),
            format!(
                "apiVersion: v1\nkind: List\nitems:\n- {}",
                format!("{SECRET}{body}").replace('\n', "\n  ")
            ),
        ] {
            let parsed = read("a.yaml", &text, None);
            let shown = format!("{parsed:?} {:?}", problems(&parsed));
            for secret in ["c2VjcmV0", "secret-word", "20260101"] {
                assert!(!shown.contains(secret), "{text}\n{shown}");
            }
        }
    }
}

#[test]
fn a_secret_that_changes_is_another() {
    let hash = |body: &str| read("a.yaml", &format!("{SECRET}{body}"), None).entries[0].hash();
    assert_ne!(hash("data: {k: AAAA}"), hash("data: {k: AAAB}"));
    assert_ne!(hash("stringData: {k: a}"), hash("stringData: {k: b}"));
    assert_ne!(hash("stringData: {k: ab}"), hash("stringData: {ka: b}"));
}
