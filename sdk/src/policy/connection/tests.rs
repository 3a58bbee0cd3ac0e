//! Server names out of bytes, and rules out of server names.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::matcher::HostPattern;
use crate::name::{Host, Kind, ResourceRef};
use crate::policy::cases::cases;
use crate::policy::route::{Backend, Backends, ClusterId, RuleOrigin, Target};

/// A ClientHello that asks for a server name, in records of at most so many bytes.
fn client_hello(name: Option<&str>, record: usize) -> Vec<u8> {
    let block16 = |body: &[u8]| [&(body.len() as u16).to_be_bytes(), body].concat();
    let mut extensions = [&[0, 43][..], &block16(&[2, 3, 4])].concat();
    if let Some(name) = name {
        let names = block16(&[&[0][..], &block16(name.as_bytes())].concat());
        extensions.extend([&[0, 0][..], &block16(&names)].concat());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(block16(&[0x13, 1]));
    body.extend([1, 0]);
    body.extend(block16(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let records = message.chunks(record);
    records
        .flat_map(|part| [&[22, 3, 1][..], &block16(part)].concat())
        .collect()
}

/// What is heard of all of it at once.
fn hear(bytes: &[u8]) -> Heard {
    HelloReader::default().read(bytes)
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

#[test]
fn the_server_name_is_read_however_it_is_cut() {
    for record in [1000, 50, 5, 1] {
        let hello = client_hello(Some("db.Example.com"), record);
        let named = Heard::Tls(Some(host("db.example.com")));
        let mut reader = HelloReader::default();
        for (at, byte) in hello.iter().enumerate() {
            let expected = if at + 1 == hello.len() {
                &named
            } else {
                &Heard::More
            };
            assert_eq!(reader.read(&[*byte]), *expected, "{record} {at}");
        }
        assert_eq!(reader.read(b"anything"), named, "what is settled stays");
        assert_eq!(hear(&[&hello[..], b"more"].concat()), named, "{record}");
    }
    for (name, expected) in [
        (None, None),
        (Some(""), None),
        (Some("a b"), None),
        (Some("x"), Some("x")),
    ] {
        assert_eq!(
            hear(&client_hello(name, 1000)),
            Heard::Tls(expected.map(host)),
            "{name:?}"
        );
    }
}

#[test]
fn a_real_client_is_understood() {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for (name, expected) in [("db.example.com", Some("db.example.com")), ("10.0.0.1", None)] {
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let server = rustls_pki_types::ServerName::try_from(name).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        assert_eq!(hear(&hello), Heard::Tls(expected.map(host)), "{name}");
    }
}

#[test]
fn what_is_not_tls_is_known_at_once_and_nobody_is_waited_for_without_end() {
    for text in [
        &b"GET / HTTP/1.1"[..],
        b"\0hello",
        b"SSH-2.0",
        b"\x16\x04",
        b"\x16\x03\x01\x00\x05\x02",
        // Empty, and longer than any record.
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
    ] {
        assert_eq!(hear(text), Heard::Plain, "{text:?}");
    }
    assert_eq!(hear(b""), Heard::More);
    // A message that says it is longer than any.
    assert_eq!(hear(&[22, 3, 1, 0x10, 0, 1, 0xff, 0xff, 0xff]), Heard::Tls(None));
    // One that is cut short by another record, or by an empty one.
    let hello = client_hello(Some("a.b"), 20);
    assert_eq!(
        hear(&[&hello[..25], &[23, 3, 3, 0, 1]].concat()),
        Heard::Tls(None)
    );
    assert_eq!(
        hear(&[&hello[..25], &[22, 3, 3, 0, 0]].concat()),
        Heard::Tls(None)
    );
    // One that never ends, byte by byte.
    let mut reader = HelloReader::default();
    let endless = [22, 3, 1, 0, 4, 1, 0, 0xff, 0xff]
        .into_iter()
        .chain([22, 3, 3, 0, 1, 0].into_iter().cycle());
    let settled = endless
        .take(LONGEST_HELLO)
        .map(|byte| reader.read(&[byte]))
        .position(|heard| heard != Heard::More);
    assert_eq!(settled, Some(LONGEST_HELLO - 1));
}

fn table(alternatives: &[Opens]) -> ConnectionTable {
    let mut builder = ConnectionTableBuilder::default();
    for (at, opens) in alternatives.iter().enumerate() {
        let id = builder.rule(ConnectionRule {
            origin: RuleOrigin::new(ResourceRef::new(Kind::TLSRoute, "ns", "r"), at as u32, None),
            backends: Err("not asked".into()),
        });
        builder.on(id, opens.clone());
    }
    builder.build()
}

fn tls(name: &str) -> Opens {
    Opens::Tls(HostPattern::parse(name).unwrap())
}

fn find(table: &ConnectionTable, opening: Opening<'_>) -> Option<u32> {
    table.find(opening).map(|it| it.origin.rule)
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = table(&[
        tls("a.example.com"),
        tls("*.example.org"),
        tls("*.example.com"),
        tls("b.example.com"),
        Opens::Anyhow,
        tls("*"),
    ]);
    for (name, expected) in [
        ("a.example.com", 0),
        ("A.Example.com.", 0),
        ("x.y.example.org", 1),
        ("b.example.com", 2),
        ("example.com", 4),
    ] {
        let name = host(name);
        assert_eq!(find(&rules, Opening::Tls(Some(&name))), Some(expected), "{name}");
    }
    assert_eq!(find(&rules, Opening::Tls(None)), Some(4));
    assert_eq!(find(&rules, Opening::Plain), Some(4));
    assert!(rules.wants_opening() && !table(&[Opens::Anyhow, tls("a")]).wants_opening());
    assert!(!ConnectionTable::default().wants_opening());
    assert_eq!(find(&table(&[tls("a.b")]), Opening::Plain), None);
    assert_eq!(find(&table(&[tls("*")]), Opening::Tls(None)), Some(0));
}

#[test]
fn a_rule_that_never_decides_is_known_when_it_is_added() {
    let mut builder = ConnectionTableBuilder::default();
    let rule = builder.rule(ConnectionRule {
        origin: RuleOrigin::new(ResourceRef::new(Kind::TCPRoute, "ns", "r"), 0, None),
        backends: Err("not asked".into()),
    });
    assert!(builder.on(rule, tls("a.b")) && !builder.on(rule, tls("a.b")));
    assert!(builder.on(rule, Opens::Anyhow) && !builder.on(rule, Opens::Anyhow));
    assert!(!builder.on(rule, tls("c.d")));
}

#[test]
fn a_share_without_a_cluster_says_why() {
    let backends = vec![
        Backend::new(Target::Cluster(ClusterId(7)), 1),
        Backend::new(Target::Invalid("gone".into()), 1),
    ];
    let rule = ConnectionRule {
        origin: RuleOrigin::new(ResourceRef::new(Kind::TCPRoute, "ns", "r"), 0, None),
        backends: Backends::new(backends).ok_or_else(|| "nobody".into()),
    };
    assert_eq!(rule.pick(0), Ok(ClusterId(7)));
    assert_eq!(rule.pick(u64::MAX), Err("gone"));
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        proptest::sample::select(vec![0_u8, 1, 3, 22, 16, 255])
    ];
    proptest::collection::vec(byte, 0..300)
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn reading_never_panics_and_does_not_depend_on_the_pieces(
        bytes in pieces(),
        prefix in 0_usize..7,
        cut in 1_usize..50,
    ) {
        let bytes = [&[22, 3, 1, 0, 90, 1, 0][..prefix], &bytes].concat();
        let mut reader = HelloReader::default();
        let mut heard = Heard::More;
        for piece in bytes.chunks(cut) {
            heard = reader.read(piece);
        }
        prop_assert_eq!(heard, hear(&bytes));
    }

    #[test]
    fn a_damaged_hello_never_panics(at in 0_usize..400, byte in any::<u8>(), record in 1_usize..80) {
        let mut hello = client_hello(Some("db.example.com"), record);
        let at = at % hello.len();
        hello[at] = byte;
        hear(&hello);
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn the_index_agrees_with_the_loop(
        rules in proptest::collection::vec(
            proptest::sample::select(vec!["+", "*", "a.b", "*.b", "*.a.b", "c.a.b"]),
            0..12,
        ),
        names in proptest::collection::vec(
            proptest::sample::select(vec![None, Some(""), Some("b"), Some("a.b"), Some("c.a.b"), Some("D.c.A.b")]),
            1..16,
        ),
    ) {
        let rules: Vec<Opens> = rules.iter().map(|it| if *it == "+" { Opens::Anyhow } else { tls(it) }).collect();
        let table = table(&rules);
        for name in names {
            // `None` stands for a connection without TLS, the empty text for TLS without a server name.
            let asked = name.filter(|it| !it.is_empty()).map(host);
            let opening = match name {
                None => Opening::Plain,
                Some(_) => Opening::Tls(asked.as_ref()),
            };
            let looped = rules.iter().position(|it| it.hold(opening)).map(|at| at as u32);
            prop_assert_eq!(find(&table, opening), looped);
        }
    }
}
