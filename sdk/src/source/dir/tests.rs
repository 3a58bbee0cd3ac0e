use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::config::ResourceStore;

/// A source and everything it said.
struct Reader {
    source: DirSource,
    store: ResourceStore,
    /// The last words about each file.
    problems: std::collections::BTreeMap<String, Vec<String>>,
    said: Vec<String>,
}

impl Reader {
    async fn start(source: DirSource) -> Self {
        let mut reader = Self {
            source,
            store: ResourceStore::default(),
            problems: Default::default(),
            said: Vec::new(),
        };
        reader.until("synced").await;
        reader
    }

    /// Reads on until something is said that contains `text`.
    async fn until(&mut self, text: &str) {
        loop {
            let event = timeout(Duration::from_secs(20), self.source.next()).await;
            let event = event
                .unwrap_or_else(|_| panic!("waiting for {text}, heard {:#?}", self.said))
                .unwrap();
            let said = self.take(event);
            if said.contains(text) {
                return;
            }
        }
    }

    fn take(&mut self, event: Event) -> String {
        let said = match event {
            Event::Apply(entry) => {
                let said = format!("apply {} {:x}", entry.reference(), entry.hash());
                self.store.apply(entry);
                said
            }
            Event::Delete(reference) => {
                self.store.delete(&reference);
                format!("delete {reference}")
            }
            Event::Problems { file, problems } => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let said = format!("problems of {file}: {problems:?}");
                self.problems.insert(file.to_string(), problems);
                said
            }
            Event::Synced => "synced".to_owned(),
        };
        self.said.push(said.clone());
        said
    }

    fn names(&self) -> Vec<String> {
        self.store
            .iter()
            .map(|entry| entry.reference().to_string())
            .collect()
    }

    fn all_problems(&self) -> String {
        self.problems
            .values()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn deletes(&self) -> usize {
        self.said.iter().filter(|said| said.starts_with("delete")).count()
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

fn policy(name: &str, field: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\nspec:\n  {field}: []\n"
    )
}

/// Replaces a file in one step, as careful writers do.
fn put(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

fn follow(dir: &Path) -> DirSource {
    super::dir(dir).namespace("shop")
}

#[tokio::test]
async fn a_directory_is_read_in_order_with_its_subdirectories_and_without_dotfiles() {
    let dir = TempDir::new().unwrap();
    put(&dir, "b.yaml", service("b", 1));
    put(&dir, "a/z.yml", service("a", 1));
    put(
        &dir,
        "c.json",
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"c\"}}",
    );
    put(&dir, ".hidden.yaml", service("hidden", 1));
    put(&dir, ".git/d.yaml", service("hidden", 1));
    put(&dir, "readme.md", "kind: [");
    let reader = Reader::start(follow(dir.path())).await;
    assert_eq!(
        reader.names(),
        ["Namespace c", "Service shop/a", "Service shop/b"]
    );
    assert_eq!(reader.all_problems(), "");
}

#[tokio::test]
async fn only_what_changes_is_told() {
    let dir = TempDir::new().unwrap();
    put(&dir, "a.yaml", service("a", 1) + &service("b", 1));
    let mut reader = Reader::start(follow(dir.path())).await;
    let before = reader.said.len();
    put(&dir, "a.yaml", service("a", 1) + &service("b", 2));
    reader.until("apply Service shop/b").await;
    put(&dir, "new/c.yaml", service("c", 1));
    reader.until("apply Service shop/c").await;
    put(&dir, "a.yaml", service("a", 1));
    reader.until("delete Service shop/b").await;
    fs::remove_file(dir.path().join("new/c.yaml")).unwrap();
    reader.until("delete Service shop/c").await;
    assert_eq!(reader.said.len(), before + 4, "{:#?}", reader.said);
    assert_eq!(reader.names(), ["Service shop/a"]);
}

#[tokio::test]
async fn a_file_written_in_two_halves_deletes_nothing_in_between() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(&path, service("a", 1) + &service("b", 1)).unwrap();
    let mut reader = Reader::start(follow(dir.path())).await;
    for port in 2..12 {
        fs::write(&path, "").unwrap();
        tokio::task::yield_now().await;
        fs::write(&path, service("a", port) + &service("b", port)).unwrap();
        reader.until("apply Service shop/b").await;
    }
    assert_eq!(reader.deletes(), 0, "{:#?}", reader.said);
}

#[tokio::test]
async fn the_last_good_version_stays_while_a_document_or_a_file_is_broken() {
    let dir = TempDir::new().unwrap();
    put(
        &dir,
        "a.yaml",
        service("a", 1) + &service("b", 1) + &policy("p", "rules"),
    );
    let mut reader = Reader::start(follow(dir.path())).await;
    let all = ["Service shop/a", "Service shop/b", "AuthorizationPolicy shop/p"];
    // One document of a wrong shape, another that is not YAML, a policy with an unknown field.
    put(
        &dir,
        "a.yaml",
        service("a", 0) + &service("b", 1).replace("spec:", "spec: [") + &policy("p", "ruls"),
    );
    reader.until("problems").await;
    assert_eq!(reader.names(), all);
    assert_eq!(reader.problems.values().next().unwrap().len(), 3);
    assert!(reader.store.iter().all(|entry| entry.broken.is_none()));
    // Nothing of the file can be read.
    put(&dir, "a.yaml", "{{{{\n");
    reader.until("problems").await;
    assert_eq!(reader.names(), all);
    put(&dir, "a.yaml", b"\xff\xfe\x00k: v");
    reader.until("not UTF-8").await;
    assert_eq!(reader.names(), all);
    assert_eq!(reader.deletes(), 0);
    // Mended, with one of them gone.
    put(&dir, "a.yaml", service("a", 3) + &policy("p", "rules"));
    reader.until("problems").await;
    assert_eq!(reader.names(), ["Service shop/a", "AuthorizationPolicy shop/p"]);
    assert_eq!(reader.all_problems(), "");
}

#[tokio::test]
async fn a_broken_policy_without_a_good_version_is_told_as_broken() {
    let dir = TempDir::new().unwrap();
    put(&dir, "p.yaml", policy("p", "ruls"));
    let mut reader = Reader::start(follow(dir.path())).await;
    assert!(reader.store.iter().all(|entry| entry.broken.is_some()));
    put(&dir, "p.yaml", policy("p", "rules"));
    reader.until("apply").await;
    assert!(reader.store.iter().all(|entry| entry.broken.is_none()));
    // A policy that cannot be told apart from the one known before is that one; another is another.
    put(&dir, "p.yaml", "{\"kind\": \"AuthorizationPolicy\" ,,}\n");
    reader.until("problems").await;
    assert_eq!(reader.names(), ["AuthorizationPolicy shop/p"]);
    put(&dir, "q.yaml", "{\"kind\": \"AuthorizationPolicy\" ,,}\n");
    reader.until("apply").await;
    assert_eq!(reader.names().len(), 2);
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_symbolic_links() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    put(&dir, "..1/a.yaml", service("a", 1));
    symlink("..1", dir.path().join("..data")).unwrap();
    symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    let mut reader = Reader::start(follow(dir.path()).rescan(Duration::from_secs(3600))).await;
    assert_eq!(reader.names(), ["Service shop/a"]);
    // As the kubelet does it: new directory, new link, renamed over the old one.
    for (next, port) in [("..2", 2), ("..3", 3)] {
        put(&dir, &format!("{next}/a.yaml"), service("a", port));
        symlink(next, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        reader.until("apply Service shop/a").await;
        let (service, _) = reader.store.service("shop", "a").unwrap();
        assert_eq!(service.spec.ports[0].port, port);
    }
    assert_eq!(reader.deletes(), 0);
}

#[tokio::test]
async fn of_two_with_the_same_name_the_first_file_counts() {
    let dir = TempDir::new().unwrap();
    put(&dir, "a.yaml", service("x", 1));
    put(&dir, "b.yaml", service("x", 2));
    let mut reader = Reader::start(follow(dir.path())).await;
    assert_eq!(reader.store.service("shop", "x").unwrap().0.spec.ports[0].port, 1);
    let problems = reader.all_problems();
    assert!(
        problems.starts_with("error: ") && problems.contains("a.yaml:2:1") && problems.contains("b.yaml:2:1")
    );
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    reader.until("problems").await;
    assert_eq!(reader.store.service("shop", "x").unwrap().0.spec.ports[0].port, 2);
    assert_eq!(reader.all_problems(), "");
    assert_eq!(reader.deletes(), 0);
}

#[tokio::test]
async fn a_file_of_ten_megabytes_is_a_problem_and_costs_nothing_that_was_known() {
    let dir = TempDir::new().unwrap();
    put(&dir, "a.yaml", service("a", 1));
    let mut reader = Reader::start(follow(dir.path())).await;
    put(
        &dir,
        "a.yaml",
        service("a", 2) + &"# filler\n".repeat(10 << 20 >> 3),
    );
    reader.until("problems").await;
    let problems = reader.all_problems();
    assert!(problems.contains("more than the limit of 8388608"), "{problems}");
    assert_eq!(reader.store.service("shop", "a").unwrap().0.spec.ports[0].port, 1);
    put(&dir, "a.yaml", service("a", 2));
    reader.until("problems").await;
    assert_eq!(reader.store.service("shop", "a").unwrap().0.spec.ports[0].port, 2);
    // A policy in such a file that was never read is not lost.
    put(
        &dir,
        "p.yaml",
        policy("p", "rules") + &"# filler\n".repeat(10 << 20 >> 3),
    );
    reader.until("apply AuthorizationPolicy").await;
    assert!(
        reader
            .store
            .authorization_policies()
            .all(|(_, entry)| entry.broken.is_some())
    );
    let large = Reader::start(follow(dir.path()).limit(20 << 20)).await;
    assert_eq!(large.all_problems(), "");
}

#[tokio::test]
async fn a_file_that_vanishes_while_it_is_read_is_simply_gone() {
    let dir = TempDir::new().unwrap();
    put(&dir, "a.yaml", service("a", 1));
    std::os::unix::fs::symlink("nowhere", dir.path().join("b.yaml")).unwrap();
    let mut scanner = Scanner::new(dir.path().into(), None, DEFAULT_LIMIT);
    scanner.scan().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, path) = (stop.clone(), dir.path().join("c.yaml"));
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, service("c", 1)).unwrap();
                fs::remove_file(&path).unwrap();
            }
        }
    });
    let mut events = Vec::new();
    for _ in 0..500 {
        events.extend(scanner.scan().unwrap().events);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let problems = events
        .iter()
        .filter(|event| matches!(event, Event::Problems { .. }));
    assert_eq!(problems.count(), 0, "{events:#?}");
}

#[tokio::test]
async fn without_a_directory_there_is_no_start_and_losing_it_later_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mesh");
    let error = super::dir(&path).next().await.unwrap_err();
    assert!(
        error.to_string().contains("create the file or directory"),
        "{error}"
    );
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", 1)).unwrap();
    let mut reader = Reader::start(follow(&path).rescan(Duration::from_millis(50))).await;
    fs::rename(&path, dir.path().join("away")).unwrap();
    reader.until("stays in force").await;
    assert_eq!(reader.names(), ["Service shop/a"]);
    fs::rename(dir.path().join("away"), &path).unwrap();
    reader.until("problems").await;
    fs::write(path.join("b.yaml"), service("b", 1)).unwrap();
    reader.until("apply Service shop/b").await;
    assert_eq!((reader.all_problems(), reader.deletes()), (String::new(), 0));
}

#[tokio::test]
async fn one_file_can_be_named_and_be_replaced() {
    let dir = TempDir::new().unwrap();
    put(&dir, "mesh.conf", service("a", 1));
    let mut reader = Reader::start(follow(&dir.path().join("mesh.conf"))).await;
    put(&dir, "mesh.conf", service("b", 1));
    reader.until("delete Service shop/a").await;
    assert_eq!(reader.names(), ["Service shop/b"]);
}

#[tokio::test]
async fn dropping_the_future_at_any_point_loses_no_event() {
    let dir = TempDir::new().unwrap();
    for n in 0..20 {
        put(&dir, &format!("{n}.yaml"), service(&format!("s{n}"), 1));
    }
    let mut source = follow(dir.path());
    let mut applied = 0;
    loop {
        let event = tokio::select! {
            biased;
            event = source.next() => event.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        match event {
            Event::Apply(_) => applied += 1,
            Event::Synced => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(applied, 20);
}
