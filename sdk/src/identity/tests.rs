//! Credentials, the directory they are read from, and the development CA.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::dev_ca::{DevCa, Leaf};
use super::*;
use crate::name::SpiffeId;

const HOUR: Duration = Duration::from_secs(3600);

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

#[test]
fn a_credential_knows_whose_it_is_and_how_long() {
    let ca = DevCa::new_in_memory().unwrap();
    let pems = ca.issue(&id("a"), HOUR).unwrap();
    let (first, second) = (pems.credential().unwrap(), pems.credential().unwrap());
    assert_eq!(first.id(), &id("a"));
    let now = SystemTime::now();
    assert!(first.not_before() < now);
    assert!(first.not_after() > now + HOUR / 2 && first.not_after() <= now + HOUR);
    assert!(second.epoch() > first.epoch());
    let shown = format!("{first:?} {pems:?} {ca:?}");
    assert!(shown.contains("sa/a") && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn what_does_not_fit_together_is_no_credential() {
    let ca = DevCa::new_in_memory().unwrap();
    let (a, b) = (
        ca.issue(&id("a"), HOUR).unwrap(),
        ca.issue(&id("b"), HOUR).unwrap(),
    );
    let read = |chain: &str, key: &str, roots: &str| {
        Credential::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes()).unwrap_err()
    };
    assert!(matches!(read(&a.chain, &b.key, &a.roots), Error::Key(_)));
    assert!(matches!(
        read("", &a.key, &a.roots),
        Error::Pem {
            part: "certificate chain",
            ..
        }
    ));
    assert!(matches!(
        read(&a.chain, "", &a.roots),
        Error::Pem {
            part: "private key",
            ..
        }
    ));
    assert!(matches!(
        read(&a.chain, &a.key, ""),
        Error::Pem {
            part: "root certificates",
            ..
        }
    ));
    let half = &a.chain[..a.chain.len() / 2];
    assert!(matches!(
        read(half, &a.key, &a.roots),
        Error::Pem {
            part: "certificate chain",
            ..
        }
    ));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(read(broken, &a.key, &a.roots), Error::Certificate(_)));
}

#[test]
fn a_certificate_must_name_exactly_one_workload() {
    let ca = DevCa::new_in_memory().unwrap();
    let mut leaf = Leaf::of(&id("a"), HOUR);
    leaf.uris.push(id("b").as_str().to_owned());
    let two = ca.issue_leaf(&leaf).unwrap().credential().unwrap_err();
    assert!(matches!(two, Error::Certificate(Refused::ManyNames(2))));
    leaf.uris.clear();
    leaf.dns.push("a.default.svc".to_owned());
    let none = ca.issue_leaf(&leaf).unwrap().credential().unwrap_err();
    assert!(matches!(none, Error::Certificate(Refused::NoIdentity)));
}

#[test]
fn those_who_share_a_folder_share_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let roots: Vec<String> = std::thread::scope(|scope| {
        let open = || DevCa::open_or_create(dir.path()).unwrap().root_pem().to_owned();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(dir.path().join("root.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "nothing half-made is left: {names:?}");
    // What a reopened CA issues is trusted under the root made first.
    DevCa::open_or_create(dir.path())
        .unwrap()
        .issue(&id("a"), HOUR)
        .unwrap()
        .credential()
        .unwrap();
}

async fn changed(credentials: &mut tokio::sync::watch::Receiver<Arc<Credential>>) -> Arc<Credential> {
    let changed = tokio::time::timeout(Duration::from_secs(10), credentials.changed()).await;
    changed.expect("the change is noticed").unwrap();
    credentials.borrow_and_update().clone()
}

/// A builder that has to rely on events.
fn events_only(dir: &Path) -> PemDirBuilder {
    pem_dir(dir).poll(HOUR)
}

#[tokio::test]
async fn rotated_files_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevCa::new_in_memory().unwrap();
    ca.write_workload(dir.path(), &id("a"), HOUR).unwrap();
    let files = events_only(dir.path()).start().await.unwrap();
    let mut credentials = files.subscribe();
    let first = credentials.borrow_and_update().clone();
    ca.write_workload(dir.path(), &id("a"), 2 * HOUR).unwrap();
    let second = changed(&mut credentials).await;
    assert!(second.epoch() > first.epoch() && second.not_after() > first.not_after());
    assert!(files.problem().is_none());
}

#[tokio::test]
async fn without_events_the_clock_finds_the_change() {
    let dir = tempfile::tempdir().unwrap();
    // The directory is watched through a link whose target is exchanged: no event comes from the new target.
    let ca = DevCa::new_in_memory().unwrap();
    let (one, two, link) = (
        dir.path().join("one"),
        dir.path().join("two"),
        dir.path().join("link"),
    );
    ca.write_workload(&one, &id("a"), HOUR).unwrap();
    ca.write_workload(&two, &id("b"), HOUR).unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let files = pem_dir(&link)
        .poll(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let mut credentials = files.subscribe();
    let fresh = dir.path().join("fresh");
    std::os::unix::fs::symlink(&two, &fresh).unwrap();
    fs::rename(&fresh, &link).unwrap();
    assert_eq!(changed(&mut credentials).await.id(), &id("b"));
}

#[tokio::test]
async fn a_mounted_secret_is_followed_through_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevCa::new_in_memory().unwrap();
    let data = dir.path().join("..data");
    ca.write_workload(dir.path().join("..2026_1"), &id("a"), HOUR)
        .unwrap();
    std::os::unix::fs::symlink("..2026_1", &data).unwrap();
    for name in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let files = events_only(dir.path()).start().await.unwrap();
    let mut credentials = files.subscribe();
    // As the kubelet does: a new directory, a new link, and one rename.
    ca.write_workload(dir.path().join("..2026_2"), &id("b"), HOUR)
        .unwrap();
    let fresh = dir.path().join("..data_tmp");
    std::os::unix::fs::symlink("..2026_2", &fresh).unwrap();
    fs::rename(&fresh, &data).unwrap();
    assert_eq!(changed(&mut credentials).await.id(), &id("b"));
}

#[tokio::test]
async fn files_that_do_not_fit_keep_the_last_good_credential() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevCa::new_in_memory().unwrap();
    ca.write_workload(dir.path(), &id("a"), HOUR).unwrap();
    let files = events_only(dir.path()).start().await.unwrap();
    let mut credentials = files.subscribe();
    let first = credentials.borrow_and_update().epoch();
    // Half of a rotation: the new chain, and still the old key.
    let next = ca.issue(&id("a"), 2 * HOUR).unwrap();
    fs::write(dir.path().join("cert-chain.pem"), &next.chain).unwrap();
    let mut reported = false;
    for _ in 0..500 {
        reported = files.problem().is_some();
        if reported {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(reported, "the misfit is reported");
    assert_eq!(credentials.borrow().epoch(), first);
    fs::write(dir.path().join("key.pem"), &next.key).unwrap();
    assert!(changed(&mut credentials).await.epoch() > first);
    assert!(files.problem().is_none());
}

#[tokio::test]
async fn the_first_credential_may_be_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let missing = pem_dir(dir.path()).start().await.unwrap_err();
    assert!(matches!(missing, Error::File { .. }), "{missing:?}");
    let waiting = tokio::spawn(pem_dir(dir.path()).wait(Duration::from_secs(30)).start());
    tokio::task::yield_now().await;
    DevCa::new_in_memory()
        .unwrap()
        .write_workload(dir.path(), &id("late"), HOUR)
        .unwrap();
    let files = waiting.await.unwrap().unwrap();
    assert_eq!(files.subscribe().borrow().id(), &id("late"));
}
