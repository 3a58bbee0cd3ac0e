//! The floors of the house: which room of `sdk/src` may import which. An import only ever points down.
//!
//! This is the cheap form of what a workspace of many crates would have its manifests enforce. Tests inside the rooms
//! may reach further and are not looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms it may import. `architecture.md` §1, and where building has taught better, why.
const ROOMS: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("matcher", &["name"]),
    ("telemetry", &["name"]),
    ("identity", &["name"]),
    // `matcher` beyond the plan: whether a text is an expression is for the room that reads expressions to say, and an API
    // server would have refused it.
    ("config", &["name", "matcher"]),
    ("source", &["name", "config"]),
    ("policy", &["name", "matcher"]),
    ("hbone", &["name", "telemetry", "identity"]),
    ("snapshot", &["name", "matcher", "policy", "telemetry"]),
    (
        "compile",
        &["name", "matcher", "config", "policy", "snapshot", "telemetry"],
    ),
    ("layer", &["name", "policy", "snapshot", "telemetry"]),
    // Beside `layer`, which does what is explained here: both ask the snapshot and the engines, neither the other.
    ("explain", &["name", "policy", "snapshot"]),
    // Beside them: it shows what the one leaves behind and has the other explain it.
    ("watch", &["name", "policy", "snapshot", "telemetry", "explain"]),
    // `policy` beyond the plan: the client is handed `policy::balance` endpoints and reports `policy::Outcome`s to
    // them, the server asks `policy::authz` about connections. `identity`: the client of a waypoint signs whom it sends
    // on for, the server checks that. Both come out of the snapshot, which they may see.
    (
        "client",
        &[
            "name",
            "telemetry",
            "identity",
            "hbone",
            "snapshot",
            "layer",
            "policy",
        ],
    ),
    (
        "server",
        // `matcher`: a listener's certificate is chosen by the server name, as its routes are by the host.
        &[
            "name",
            "matcher",
            "telemetry",
            "identity",
            "hbone",
            "snapshot",
            "layer",
            "policy",
        ],
    ),
    (
        "control",
        &[
            "name",
            "config",
            "source",
            "compile",
            "policy",
            "snapshot",
            "telemetry",
        ],
    ),
    (
        "mesh",
        &[
            "name",
            "matcher",
            "telemetry",
            "identity",
            "config",
            "source",
            "policy",
            "hbone",
            "snapshot",
            "explain",
            "watch",
            "compile",
            "layer",
            "client",
            "server",
            "control",
        ],
    ),
    // Beside the mesh: what the configuration says of a request, without one.
    (
        "testing",
        &[
            "name", "config", "source", "policy", "snapshot", "explain", "compile",
        ],
    ),
    // More than the plan: it is the top floor. A waypoint answers CONNECTs itself (`hbone`, `snapshot`), and its command
    // line reads and compiles configuration without running a mesh (`check`, `explain`).
    (
        "waypoint",
        &[
            "name",
            "telemetry",
            "config",
            "source",
            "policy",
            "hbone",
            "snapshot",
            "explain",
            "compile",
            "layer",
            "client",
            "server",
            "control",
            "mesh",
            "testing",
        ],
    ),
];

/// Rooms that can be benched, fuzzed and moved to a crate of their own because no runtime, HTTP implementation or TLS
/// comes with them. (`snapshot` would be here too, but for the `tokio::sync::watch` by which it tells of a swap.)
const PURE: &[&str] = &["name", "matcher", "config", "policy", "compile"];

/// What the pure rooms do without. The `http` crate, which is types only, is welcome.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tokio_rustls",
    "socket2",
];

#[test]
fn imports_only_point_down() {
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        let files = files_of(room);
        assert!(
            !files.is_empty(),
            "the room `{room}` has moved: this table must follow"
        );
        for file in files {
            for (line, other) in imports(&file) {
                let is_room = ROOMS.iter().any(|(name, _)| *name == other);
                if is_room && other != *room && !allowed.contains(&other.as_str()) {
                    wrong.push(format!(
                        "{}:{line}: `{room}` imports `{other}`",
                        file.path.display()
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these imports point up or sideways:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_table_names_every_room() {
    let lib = fs::read_to_string(source_root().join("lib.rs")).expect("sdk/src/lib.rs is there");
    let declared: BTreeSet<_> = lib
        .lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches("pub ")
                .strip_prefix("mod ")?
                .strip_suffix(';')
        })
        .collect();
    // `docs` holds text and no code.
    let known: BTreeSet<_> = ROOMS.iter().map(|(room, _)| *room).chain(["docs"]).collect();
    assert_eq!(declared, known);
}

/// Shapes of the resources that say where requests and connections go.
const ROUTING: &[&str] = &[
    "config/gateway",
    "config/istio/destination_rule.rs",
    "config/istio/gateway.rs",
    "config/istio/virtual_service.rs",
];

/// What a shape does not declare is reported as ignored by construction. What it declares must be read by somebody, or
/// stand in the list of those that nobody reads, by which it is reported too.
#[test]
fn every_declared_field_of_routing_is_read_or_reported() {
    let root = source_root();
    let is_shape = |path: &Path| {
        let of = |shape: &&str| path.starts_with(root.join(shape));
        ROUTING.iter().any(of)
    };
    let (mut shapes, mut others) = (Vec::new(), String::new());
    for file in files_of("") {
        if is_shape(&file.path) {
            shapes.push(file);
        } else {
            others.push_str(&file.code);
        }
    }
    assert!(shapes.len() > 5, "the shapes have moved: this list must follow");
    let idle = fs::read_to_string(root.join("config/idle.rs")).expect("the list is there");
    let mut unread = Vec::new();
    for file in &shapes {
        for field in fields(&file.code) {
            let used = |code: &str| code.split(&format!(".{field}")).skip(1).any(ends_word);
            let taken_apart =
                others.contains(&format!(" {field},")) || others.contains(&format!(" {field}:"));
            let listed = idle.split(&camel(field)).skip(1).any(ends_word);
            if !used(&others) && !used(&file.code) && !taken_apart && !listed {
                unread.push(format!("{}: `{field}`", file.path.display()));
            }
        }
    }
    assert!(unread.is_empty(), "nobody reads these:\n{}", unread.join("\n"));
}

/// The public fields that code declares.
fn fields(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    pub ")?.split_once(':')?;
        let name = name.strip_prefix("r#").unwrap_or(name);
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_')
            .then_some(name)
    })
}

/// Whether what follows a word does not belong to it.
fn ends_word(rest: &str) -> bool {
    !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// As YAML spells it.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        camel.extend(word[..1].chars().map(|c| c.to_ascii_uppercase()));
        camel.push_str(&word[1..]);
    }
    camel
}

#[test]
fn what_decides_brings_no_runtime_no_http_and_no_tls() {
    let mut wrong = Vec::new();
    for room in PURE {
        for file in files_of(room) {
            for (number, line) in file.code.lines().enumerate() {
                for word in paths(line).filter(|word| IMPURE.contains(word)) {
                    wrong.push(format!(
                        "{}:{}: `{room}` uses `{word}`",
                        file.path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these rooms are meant to be pure:\n{}",
        wrong.join("\n")
    );
}

/// A page that says "this test shows it" is right only as long as there is such a test.
#[test]
fn the_tests_that_the_guide_names_exist() {
    let tests = test_names();
    let page = fs::read_to_string(source_root().join("docs/enforcement.md")).expect("the page is there");
    // Names of tests are sentences; nothing else between backticks has so many words.
    let is_test = |word: &&str| {
        word.matches('_').count() >= 2 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let named: BTreeSet<&str> = page.split('`').filter(is_test).collect();
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    assert!(named.len() > 30, "has the page changed its form?");
}

/// The page says of every row what shows it; a test that was renamed takes its row along.
#[test]
fn every_row_of_the_hardening_page_names_tests_that_exist() {
    let page = fs::read_to_string(source_root().join("docs/hardening.md")).expect("the page is there");
    let tests = test_names();
    let (mut rows, mut missing) = (BTreeSet::new(), Vec::new());
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Ok(row), Some(named)) = (cells[0].parse::<u32>(), cells.last()) else {
            continue;
        };
        rows.insert(row);
        let named: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "row {row} names no test");
        // What a request may smuggle past a policy has a test that is found by the row's number.
        let numbered = named.iter().any(|name| name.starts_with(&format!("row_{row}_")));
        assert!(numbered || row < 23, "no test is named after row {row}");
        missing.extend(
            named
                .into_iter()
                .filter(|name| !tests.contains(*name))
                .map(|name| format!("row {row}: {name}")),
        );
    }
    assert!(
        missing.is_empty(),
        "these tests are not there:\n{}",
        missing.join("\n")
    );
    assert_eq!(rows, (1..=37).collect(), "every row has its place");
}

/// What a status can say is on its page: each reason there is given somewhere, and none is given that is not there.
#[test]
fn the_status_page_has_the_reasons_that_are_given() {
    let page = fs::read_to_string(source_root().join("docs/status.md")).expect("the page is there");
    let sources: Vec<String> = files_of("compile").into_iter().map(|it| it.code).collect();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, reason, said] = cells[..] else {
            panic!("a row has four cells: {line}");
        };
        let literal = format!("\"{}\"", reason.trim_matches('`'));
        let is_given = sources.iter().any(|text| text.contains(&literal));
        assert!(is_given || said.starts_with("never: "), "nobody says so: {line}");
        rows += 1;
    }
    assert!(rows > 70, "has the page changed its form?");
    // The reasons of faults, which become those of conditions.
    let faults = sources.iter().flat_map(|text| text.split("Fault::new(").skip(1));
    for rest in faults {
        if let Some((reason, _)) = rest
            .trim_start()
            .strip_prefix('"')
            .and_then(|it| it.split_once('"'))
        {
            assert!(
                page.contains(&format!("| `{reason}` |")),
                "{reason} is not on the page"
            );
        }
    }
}

/// Likewise of every field that is about traffic.
#[test]
fn every_row_of_the_traffic_page_names_tests_that_exist() {
    let page = fs::read_to_string(source_root().join("docs/traffic.md")).expect("the page is there");
    let (_, table) = page.split_once("## Every field").expect("the page has its table");
    let (table, _) = table.split_once("\n## ").unwrap_or((table, ""));
    let tests = test_names();
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let named: Vec<_> = cells
            .last()
            .into_iter()
            .flat_map(|it| it.split('`').skip(1).step_by(2))
            .collect();
        assert!(cells.len() == 3 && !named.is_empty(), "names no test: {line}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}: {line}");
        }
        rows += 1;
    }
    assert!(rows > 40, "has the page changed its form?");
}

/// The names of all functions after a `#[test]` or in a list of tests that run in several shapes.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![source_root(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                names.extend(tests_in(&text));
            }
        }
    }
    names
}

fn tests_in(text: &str) -> impl Iterator<Item = String> {
    let (mut after_attribute, mut in_list) = (false, false);
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") {
            after_attribute |= line.contains("test]") || line.contains("test(");
            return None;
        }
        let one = line
            .split_once("_shapes!(")
            .or_else(|| line.split_once("_door!("));
        if let Some(one) = one.and_then(|(_, rest)| rest.strip_suffix(");")) {
            return Some(one.to_owned());
        }
        if line.ends_with("_shapes!(") || line.ends_with("_door!(") {
            in_list = true;
        } else if in_list {
            in_list = line != ");";
            return in_list.then(|| word(line).to_owned());
        }
        let name = line
            .trim_start_matches("async ")
            .strip_prefix("fn ")
            .map(|rest| word(rest).to_owned());
        name.filter(|_| std::mem::take(&mut after_attribute))
    })
}

#[test]
fn the_reader_of_imports_sees_all_their_forms() {
    let module = |text: &str| File {
        path: PathBuf::from("sdk/src/server/deep/file.rs"),
        module: vec!["server".into(), "deep".into(), "file".into()],
        code: code_of(text),
    };
    let seen = |text: &str| {
        imports(&module(text))
            .into_iter()
            .map(|(_, room)| room)
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("use crate::name::Host;"), ["name"]);
    assert_eq!(
        seen("use crate::{\n    hbone::{Error, Settings},\n    layer,\n};"),
        ["hbone", "layer"]
    );
    assert_eq!(seen("let x = crate::mesh::Mesh::builder();"), ["mesh"]);
    assert_eq!(seen("pub(in crate::client) fn x() {}"), ["client"]);
    assert_eq!(seen("use super::super::super::policy::Outcome;"), ["policy"]);
    assert_eq!(seen("use super::super::ports::Ports;"), Vec::<String>::new());
    assert_eq!(
        seen("/// See [`crate::mesh::Mesh`].\n// crate::mesh"),
        Vec::<String>::new()
    );
    assert_eq!(
        seen("fn x() {}\n#[cfg(test)]\nmod tests {\n    use crate::mesh::Mesh;\n}"),
        Vec::<String>::new()
    );
}

struct File {
    path: PathBuf,
    /// Its module path, from the crate's root.
    module: Vec<String>,
    /// Its text without comments and without the tests at its end; lines keep their numbers.
    code: String,
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/src")
}

fn files_of(room: &str) -> Vec<File> {
    let root = source_root();
    let mut files = Vec::new();
    let mut folders = vec![root.join(room)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // `twin.rs`: the naive twins of engines, which exist for tests only.
            if ["tests", "tests.rs", "twin.rs"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let inside = path
                    .strip_prefix(&root)
                    .expect("the file was found below the root")
                    .with_extension("");
                let mut module: Vec<_> = inside
                    .iter()
                    .map(|part| part.to_string_lossy().into_owned())
                    .collect();
                if module.last().is_some_and(|last| last == "mod") {
                    module.pop();
                }
                let text = fs::read_to_string(&path).expect("a source file is text");
                files.push(File {
                    module,
                    code: code_of(&text),
                    path,
                });
            }
        }
    }
    files
}

fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let tests_follow = lines
            .peek()
            .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if line == "#[cfg(test)]" && tests_follow {
            break;
        }
        code.push_str(line.split_once("//").map_or(line, |(before, _)| before));
        code.push('\n');
    }
    code
}

/// Lines and the first segments below the crate's root of everything that a file names.
fn imports(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in file.code.match_indices("crate") {
        if !starts_word(&file.code, at) {
            continue;
        }
        let line = 1 + file.code[..at].matches('\n').count();
        let rest = &file.code[at + "crate".len()..];
        if let Some(rest) = rest.strip_prefix("::") {
            found.extend(heads(rest).into_iter().map(|room| (line, room)));
        }
    }
    for (at, _) in file.code.match_indices("super::") {
        let chained = file.code[..at].ends_with("super::");
        if chained || !starts_word(&file.code, at) {
            continue;
        }
        let line = 1 + file.code[..at].matches('\n').count();
        let mut rest = &file.code[at..];
        let mut up = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, up) = (after, up + 1);
        }
        if up >= file.module.len() {
            found.extend(heads(rest).into_iter().map(|room| (line, room)));
        }
    }
    found
}

/// The first segments of a path or of a group of paths: `a::b` is `a`, `{a::{b, c}, d}` is `a` and `d`.
fn heads(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![word(text).to_owned()];
    };
    let mut heads = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                heads.push(word(&group[at..]).to_owned());
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

fn starts_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The words of a line that are followed by `::`, or are imported whole.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let imported = line.trim().strip_prefix("use ").map(word);
    line.match_indices("::")
        .filter_map(|(at, _)| {
            let before = &line[..at];
            let start = before
                .rfind(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(0, |at| at + 1);
            let outermost = !before[..start].ends_with("::");
            outermost.then_some(&before[start..])
        })
        .chain(imported)
}
