//! The loop with sources in memory and time under our hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{ControlHandle, ControlSettings, Status, spawn};
use crate::name::{Host, Kind, ResourceRef};
use crate::snapshot::{Live, Node, Role, Snapshot, Via};
use crate::source::{BoxSource, MemoryHandle, memory};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, labels: {istio.io/use-waypoint: wp}}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
";

const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: wp-1, namespace: default, labels: {gateway.networking.k8s.io/gateway-name: wp, networking.istio.io/tunnel: http}}
spec: {serviceAccountName: wp, containers: []}
status: {phase: Running, podIP: 10.0.0.9, conditions: [{type: Ready, status: 'True'}]}
";

fn node() -> Node {
    Node {
        namespace: "default".into(),
        pod: None,
        addr: None,
        labels: Default::default(),
        identity: None,
        role: Role::Workload,
        root_namespace: "istio-system".into(),
        trust_domains: vec!["cluster.local".into()],
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        propagation: Default::default(),
        paths: Default::default(),
    }
}

struct World {
    tell: MemoryHandle,
    live: Arc<Live>,
    status: watch::Receiver<Arc<Status>>,
    control: ControlHandle,
}

fn world(strict: bool) -> World {
    let (tell, source) = memory();
    let live = Arc::new(Live::new(Snapshot::default()));
    let mut settings = ControlSettings::new(node());
    settings.strict = strict;
    let control = spawn(
        vec![BoxSource::new(source)],
        settings,
        Arc::clone(&live),
        |_, _, _| {},
    );
    World {
        tell,
        live,
        status: control.status(),
        control,
    }
}

impl World {
    async fn generation(&mut self, wanted: u64) {
        let reached = self.status.wait_for(|status| status.generation >= wanted);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .expect("it is published")
            .expect("the loop runs");
    }

    fn via(&self) -> Option<Via> {
        let view = self.live.pin();
        let id = view.service_by_host(&Host::parse("web").unwrap())?;
        let cluster = view.service(id)?.port(80)?.cluster;
        Some(view.cluster(cluster)?.via.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_before_every_source_has_told_all_it_has() {
    let mut world = world(false);
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.live.pin().generation, 0);
    world.tell.synced().unwrap();
    world.generation(1).await;
    assert!(world.via().is_some());
}

#[tokio::test(start_paused = true)]
async fn events_that_come_together_are_one_generation() {
    let mut world = world(false);
    world.tell.synced().unwrap();
    world.generation(1).await;
    for name in ["a", "b", "c", "d"] {
        world
            .tell
            .apply_yaml(name, &SERVICE.replace("web", name), None)
            .unwrap();
    }
    world.generation(2).await;
    assert_eq!(world.live.pin().services.len(), 4);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.live.pin().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_binding_is_used_only_when_everybody_had_time_to_learn_of_it() {
    let mut world = world(false);
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    world.tell.synced().unwrap();
    world.generation(1).await;
    assert_eq!(world.via(), Some(Via::Direct));
    world.tell.apply_yaml("b", WAYPOINT, None).unwrap();
    world.generation(2).await;
    assert_eq!(world.via(), Some(Via::Direct), "still young");
    let before = tokio::time::Instant::now();
    world.generation(3).await;
    assert!(before.elapsed() <= Duration::from_secs(1));
    assert!(matches!(world.via(), Some(Via::Waypoint { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_there_from_the_start_is_used_at_once() {
    let mut world = world(false);
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    world.tell.apply_yaml("b", WAYPOINT, None).unwrap();
    world.tell.synced().unwrap();
    world.generation(1).await;
    assert!(matches!(world.via(), Some(Via::Waypoint { .. })));
    // And left at once by callers when it is gone.
    world
        .tell
        .delete(ResourceRef::new(Kind::Gateway, "default", "wp"))
        .unwrap();
    world.generation(2).await;
    assert_eq!(world.via(), Some(Via::Direct));
}

#[tokio::test(start_paused = true)]
async fn strict_mode_refuses_what_is_not_enforced_and_keeps_what_is_in_force() {
    let mut world = world(true);
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    world.tell.synced().unwrap();
    world.generation(1).await;
    let odd = SERVICE
        .replace("ports:", "sessionAffinity: ClientIP, ports:")
        .replace("80}", "81}");
    world.tell.apply_yaml("a", &odd, None).unwrap();
    let failed = world
        .status
        .wait_for(|status| status.failed.is_some())
        .await
        .unwrap()
        .failed
        .clone()
        .unwrap();
    assert!(
        failed.strict && failed.text.contains("sessionAffinity"),
        "{failed:?}"
    );
    assert_eq!(world.live.pin().generation, 1);
    assert!(world.via().is_some(), "port 80 is still there");
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    world.generation(2).await;
    assert_eq!(world.status.borrow().failed, None);
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_said_so() {
    let live = Arc::new(Live::new(Snapshot::default()));
    let source = crate::source::dir("/nowhere/at/all");
    let control = spawn(
        vec![BoxSource::new(source)],
        ControlSettings::new(node()),
        live,
        |_, _, _| {},
    );
    let mut status = control.status();
    let failed = status
        .wait_for(|status| status.failed.is_some())
        .await
        .unwrap()
        .failed
        .clone()
        .unwrap();
    assert!(
        !failed.strict && failed.text.contains("/nowhere/at/all"),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_leaves_the_last_generation_in_force() {
    let mut world = world(false);
    world.tell.apply_yaml("a", SERVICE, None).unwrap();
    world.tell.synced().unwrap();
    world.generation(1).await;
    world.control.stop();
    assert!(world.via().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_pushes_is_a_few_generations_and_ends_with_the_last() {
    let mut world = world(false);
    world.tell.synced().unwrap();
    world.generation(1).await;
    // A thousand in ten seconds.
    for push in 0..1_000 {
        let text = SERVICE.replace("port: 80", &format!("port: {}", 1_000 + push));
        world.tell.apply_yaml("a", &text, None).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let live = Arc::clone(&world.live);
    let is_last = move |_: &Arc<Status>| {
        let view = live.pin();
        let web = Host::parse("web")
            .ok()
            .and_then(|host| view.service(view.service_by_host(&host)?).cloned());
        web.is_some_and(|web| web.port(1_999).is_some())
    };
    let reached = tokio::time::timeout(Duration::from_secs(60), world.status.wait_for(is_last));
    reached.await.expect("it is published").expect("the loop runs");
    let generations = world.live.pin().generation;
    assert!((10..=45).contains(&generations), "{generations}");
}
