//! What is asked about, and what the authorizer is to answer.

use inmesh_tests::kit::authorizer::{Fault, SCRIPT, Script};
use inmesh_tests::kit::wire;

use super::providers::{End, Provider};

/// A request, its script, and the status that must come of it.
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) status: u16,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    chunked: bool,
    script: Script,
}

fn allowed(name: &'static str, script: Script) -> Asked {
    Asked {
        name,
        status: 200,
        method: "GET",
        path: "/things?x=1&y=2",
        headers: vec![
            ("x-user", "spoofed"),
            ("x-told", "one"),
            ("x-told", "two"),
            ("X-Told-More", "three"),
            ("cookie", "a=b"),
            ("authorization", "Bearer t"),
        ],
        body: "",
        chunked: false,
        script,
    }
}

fn denied(name: &'static str, status: u16, script: Script) -> Asked {
    Asked {
        status,
        ..allowed(name, Script { status, ..script })
    }
}

fn posted(name: &'static str, body: &'static str) -> Asked {
    Asked {
        method: "POST",
        body,
        ..allowed(name, Script::default())
    }
}

fn pairs<const N: usize>(list: [(&str, &str); N]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Nothing special.
pub(super) fn plain() -> Asked {
    allowed("plain", Script::default())
}

/// The requests for a provider.
pub(super) fn requests(provider: &Provider) -> Vec<Asked> {
    let mut all = vec![
        plain(),
        allowed(
            "a header is replaced, one is new",
            Script {
                set: pairs([("x-user", "jason"), ("x-new", "1")]),
                ..Script::default()
            },
        ),
        allowed(
            "headers are removed",
            Script {
                remove: vec!["cookie".into(), "x-told".into()],
                ..Script::default()
            },
        ),
        allowed(
            "what frames a request is not written",
            Script {
                set: pairs([("host", "elsewhere"), ("x-user", "jason")]),
                remove: vec!["host".into(), ":method".into()],
                ..Script::default()
            },
        ),
        allowed(
            "the response gets a header",
            Script {
                respond: pairs([("x-allowed", "yes")]),
                ..Script::default()
            },
        ),
        denied("denied", 403, Script::default()),
        denied(
            "denied with a body and headers",
            403,
            Script {
                body: "not you".into(),
                set: pairs([("x-why", "unknown"), ("x-other", "kept back by HTTP")]),
                ..Script::default()
            },
        ),
        denied(
            "sent to the login",
            302,
            Script {
                set: pairs([("location", "https://login.example/?a=b"), ("set-cookie", "s=1")]),
                ..Script::default()
            },
        ),
        denied(
            "asked for a token",
            401,
            Script {
                set: pairs([("www-authenticate", "Bearer realm=\"x\"")]),
                ..Script::default()
            },
        ),
        denied("too often", 429, Script::default()),
        posted("five bytes", "hello"),
        posted("eight bytes", "12345678"),
        Asked {
            chunked: true,
            ..posted("in chunks", "abc")
        },
    ];
    if !provider.http {
        all.push(allowed(
            "the path is not written",
            Script {
                set: pairs([(":path", "/admin")]),
                ..Script::default()
            },
        ));
    }
    if !provider.http {
        all.extend([
            allowed(
                "headers are added",
                Script {
                    append: pairs([("x-user", "jason"), ("x-more", "alone")]),
                    ..Script::default()
                },
            ),
            allowed(
                "the query is changed",
                Script {
                    query: (pairs([("z", "34")]), vec!["x".into()]),
                    ..Script::default()
                },
            ),
            denied(
                "denied and no more",
                403,
                Script {
                    fault: Some(Fault::Bare),
                    ..Script::default()
                },
            ),
        ]);
    }
    all.push(match provider.body {
        Some((_, false, _)) => Asked {
            status: 413,
            ..posted("too long to be told", "123456789 and more")
        },
        _ => posted("twenty bytes", "12345678901234567890"),
    });
    let failed = match provider.end {
        End::Patient => 403,
        End::Closed => 503,
        End::Open => 200,
    };
    let mut faults = vec![(
        "the authorizer fails",
        Script {
            fault: Some(Fault::Status),
            ..Script::default()
        },
    )];
    if !provider.http {
        let fault = Some(Fault::Garbage);
        let script = Script {
            fault,
            ..Script::default()
        };
        faults.push(("the authorizer speaks in tongues", script));
    }
    if provider.end != End::Patient {
        let script = Script {
            pause: 3000,
            ..Script::default()
        };
        faults.push(("the authorizer is slow", script));
    }
    all.extend(faults.into_iter().map(|(name, script)| Asked {
        status: failed,
        ..allowed(name, script)
    }));
    all
}

impl Asked {
    /// Why Envoy does otherwise, where it does.
    pub(super) fn differs(&self) -> Option<&'static str> {
        let is_path = self.script.set.iter().any(|(name, _)| name == ":path");
        is_path.then_some("routes and policies would judge another path than the one that was asked about")
    }

    /// The request's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let script = serde_json::to_string(&self.script).expect("a script is JSON");
        let mut headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        headers.push((SCRIPT.to_owned(), script));
        let mut body = self.body.to_owned();
        if self.chunked {
            headers.push(("transfer-encoding".into(), "chunked".into()));
            body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        } else if !body.is_empty() {
            headers.push(("content-length".into(), body.len().to_string()));
        }
        let mut bytes = wire::head(self.method, self.path, "things.example", &headers).into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }
}
