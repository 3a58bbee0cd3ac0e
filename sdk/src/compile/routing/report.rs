//! What a route's status says: by each parent whether it is accepted, and whether its backends can be used.

use std::sync::Arc;

use super::parent::Parent;
use super::{Routes, parent_kind};
use crate::compile::backend_tls::Uses;
use crate::compile::backends::{Directory, Frontend, Told};
use crate::compile::gateway::{Controllers, Fault, Gateways};
use crate::compile::memo::{Address, Found, Same, Table};
use crate::compile::namespace::Namespaces;
use crate::compile::route::{RouteInput, ills};
use crate::compile::status::{
    ACCEPTED, Condition, PARTIALLY_INVALID, RESOLVED_REFS, RESOLVED_WAYPOINTS, Reference, ResourceStatus,
    Statuses,
};
use crate::compile::waypoint::Waypoint;
use crate::config::gateway::ParentRef;
use crate::config::{Entry, Problem, ResourceStore, Severity};
use crate::name::{Kind, ResourceRef, ServiceName};

/// What a route's parents and backends are looked up in.
pub(crate) struct Sight<'s, 'a> {
    pub(crate) routes: &'s Routes<'s>,
    pub(crate) store: &'s ResourceStore,
    pub(crate) namespaces: &'s Namespaces<'s>,
    pub(crate) directory: &'s Directory<'s>,
    pub(crate) gateways: &'s Gateways<'a>,
    pub(crate) controllers: &'s Controllers<'s>,
    /// The waypoint that a Service is bound to.
    pub(crate) waypoint: &'s dyn Fn(Kind, &str, &str) -> Option<&'s Waypoint<'s>>,
}

/// What the status of a route is made of, all of whose parents are services, besides what its backends mean.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    route: Same<Entry>,
    parents: Vec<Standing>,
}

/// A parent that is a service.
#[derive(Debug, PartialEq)]
struct Standing {
    /// The Service or ServiceEntry, if there is one.
    entry: Option<Same<Entry>>,
    /// The waypoint that it is bound to.
    waypoint: Option<ResourceRef>,
    controller: Box<str>,
}

/// The status of a route, and what its backends meant.
#[derive(Debug)]
pub(crate) struct Reported {
    statuses: Found<Vec<Arc<ResourceStatus>>>,
    told: Vec<Told>,
}

/// The statuses that were said last time.
pub(crate) type Known = Table<Written, Reported>;

/// What is to be said of a route's rules, whatever they are attached to.
#[derive(Default)]
struct Verdict {
    /// Why the route as a whole is not accepted: none of its rules can be carried out.
    refusal: Option<Fault>,
    /// Which rules cannot be carried out, if others can.
    dropped: Option<String>,
}

impl Verdict {
    fn of(input: &RouteInput<'_>) -> Self {
        let ills = ills(input);
        let Some((_, first, text)) = ills.first() else {
            return Self::default();
        };
        if ills.len() == input.route.rule_count() {
            let fault = Fault::new(first.as_str(), format!("no rule can be carried out: {text}"));
            return Self {
                refusal: Some(fault),
                dropped: None,
            };
        }
        let list: Vec<String> = ills
            .iter()
            .map(|(index, ill, text)| format!("{index} ({}: {text})", ill.as_str()))
            .collect();
        // The API wants it said in these words. They are not let through to other rules, but answered with an error.
        let text = format!(
            "Dropped Rule {}; its requests are answered with an error",
            list.join(", ")
        );
        Self {
            refusal: None,
            dropped: Some(text),
        }
    }
}

impl<'s, 'a> Sight<'s, 'a> {
    /// What the status of a route is made of; nothing of one that has to do with Gateways, or with a route of another kind.
    pub(super) fn written(&self, input: &RouteInput<'_>) -> Option<Written> {
        let parents = input.route.parents().iter().map(|parent| {
            let is_service = |kind: &Kind| matches!(kind, Kind::Service | Kind::ServiceEntry);
            let kind = parent_kind(parent).filter(is_service)?;
            let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
            if self.routes.has_rivals(namespace, &parent.name) {
                return None;
            }
            let reference = ResourceRef::new(kind, namespace, parent.name.as_str());
            let waypoint = (self.waypoint)(kind, namespace, &parent.name);
            Some(Standing {
                entry: self.store.get(&reference).map(Same::of),
                waypoint: waypoint.map(|it| it.reference.clone()),
                controller: self.controllers.of_service(waypoint).into(),
            })
        });
        Some(Written {
            route: Same::of(input.entry),
            parents: parents.collect::<Option<_>>()?,
        })
    }

    /// The status of such a route: as it was said of the same last time, else anew.
    pub(super) fn known(
        &self,
        input: &RouteInput<'_>,
        written: Written,
        known: &mut Known,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
    ) {
        let reported = known.checked(
            Address::of(input.entry),
            written,
            |known| known.told.iter().all(|it| it.holds(self.directory)),
            |_| Reported {
                statuses: Found::by(|problems| {
                    let (mut own, mut uses) = (Statuses::default(), Uses::default());
                    self.route(input, problems, &mut own, &mut uses);
                    own.observe();
                    own.into_shared()
                }),
                told: self
                    .directory
                    .told(Frontend::Mesh, &input.entry.reference(), input.route.targets()),
            },
        );
        for status in reported.statuses.tell(problems) {
            statuses.share(status);
        }
    }

    pub(super) fn route(
        &self,
        input: &RouteInput<'_>,
        problems: &mut Vec<Problem>,
        statuses: &mut Statuses,
        uses: &mut Uses,
    ) {
        let meta = input.route.metadata();
        let verdict = Verdict::of(input);
        let mut attached: Vec<(ResourceRef, usize)> = Vec::new();
        for (at, parent) in input.route.parents().iter().enumerate() {
            let accepted = self.parent(input, parent);
            match &accepted {
                Err(fault) => problems.push(input.entry.problem(
                    Severity::Warning,
                    format!("spec.parentRefs[{at}]"),
                    format!("{}: {}; the route does not apply there", fault.reason, fault.text),
                    "name a parent that exists and admits the route",
                )),
                Ok(Parent::Service) => self.unheard(input, parent, at, problems),
                Ok(Parent::Listeners(gateway, listeners)) => {
                    self.used(input, &gateway.reference, uses);
                    for listener in listeners.iter().filter(|_| verdict.refusal.is_none()) {
                        let (owner, entry) = gateway.owner(listener.set);
                        let key = (owner.clone(), listener.at);
                        if !attached.contains(&key) {
                            let status = statuses.of(entry);
                            status.listener(&listener.listener.name).attached_routes += 1;
                            attached.push(key);
                        }
                    }
                }
            }
            let reference = Reference::of_parent(parent, &meta.namespace);
            let controller = self.controller(input, parent);
            let status = statuses.of(input.entry).parent(reference, controller);
            let waypoint = match &accepted {
                Ok(Parent::Service) => Some(self.bound(input, parent)),
                _ => None,
            };
            status.set(match (accepted, &verdict.refusal) {
                (Err(fault), _) => Condition::new(ACCEPTED, false, fault.reason, fault.text),
                (Ok(_), Some(fault)) => Condition::new(ACCEPTED, false, fault.reason, &*fault.text),
                (Ok(_), None) => Condition::new(ACCEPTED, true, "Accepted", "the route is attached"),
            });
            if let Some(text) = &verdict.dropped {
                status.set(Condition::new(PARTIALLY_INVALID, true, "UnsupportedValue", text));
            }
            if let Some(text) = waypoint {
                status.set(Condition::new(RESOLVED_WAYPOINTS, true, RESOLVED_WAYPOINTS, text));
            }
            status.set(match self.unresolved(input, parent) {
                None => Condition::new(RESOLVED_REFS, true, "ResolvedRefs", "all backends are known"),
                Some(fault) => Condition::new(RESOLVED_REFS, false, fault.reason, fault.text),
            });
        }
        if input.route.parents().is_empty() {
            problems.push(input.entry.problem(
                Severity::Warning,
                "spec.parentRefs",
                "the route has no parent and applies nowhere",
                "name a Service or a Gateway",
            ));
        }
    }

    /// What is said of the waypoint of a parent that is a service.
    fn bound(&self, input: &RouteInput<'_>, parent: &ParentRef) -> String {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        let kind = parent_kind(parent).unwrap_or(Kind::Service);
        match (self.waypoint)(kind, namespace, &parent.name) {
            Some(waypoint) => {
                let gateway = &waypoint.reference;
                format!("bound to waypoint {}/{}", gateway.namespace, gateway.name)
            }
            None => "no waypoint is asked for; clients that link inmesh apply the route".to_owned(),
        }
    }

    /// Notes where a Gateway leads.
    fn used(&self, input: &RouteInput<'_>, gateway: &ResourceRef, uses: &mut Uses) {
        let from = input.entry.reference();
        for target in input.route.targets() {
            let is_service = target
                .kind
                .as_deref()
                .is_none_or(|kind| kind == Kind::Service.as_str());
            if is_service && self.directory.find(Frontend::Gateway, &from, &target).is_ok() {
                let namespace = target.namespace.as_deref().unwrap_or(&from.namespace);
                uses.add(ServiceName::new(namespace, target.name.as_str()), gateway.clone());
            }
        }
    }

    /// Who answers for a parent.
    fn controller(&self, input: &RouteInput<'_>, parent: &ParentRef) -> &'s str {
        let namespace = parent.namespace.as_deref().unwrap_or(input.route.namespace());
        match parent_kind(parent) {
            Some(kind @ (Kind::Service | Kind::ServiceEntry)) => self
                .controllers
                .of_service((self.waypoint)(kind, namespace, &parent.name)),
            kind => {
                let kind = kind.unwrap_or(Kind::Gateway);
                let listening = self.gateways.listening(kind, namespace, &parent.name);
                let class = listening.map_or("", |it| &it.gateway.gateway.spec.gateway_class_name);
                self.controllers.of(class)
            }
        }
    }

    /// The first backend that cannot be used. `for_service` reports each of those that matter here.
    fn unresolved(&self, input: &RouteInput<'_>, parent: &ParentRef) -> Option<Fault> {
        let frontend = match parent_kind(parent) {
            Some(Kind::Service | Kind::ServiceEntry) => Frontend::Mesh,
            _ => Frontend::Gateway,
        };
        let from = input.entry.reference();
        let mut targets = input.route.targets();
        targets
            .find_map(|target| self.directory.find(frontend, &from, &target).err())
            .map(|it| Fault::new(it.reason.as_str(), it.text))
    }

    /// A consumer route is not heard by a waypoint of another namespace: only clients apply it, those that can.
    fn unheard(&self, input: &RouteInput<'_>, parent: &ParentRef, at: usize, problems: &mut Vec<Problem>) {
        let own = &**input.route.namespace();
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        let Some(kind @ (Kind::Service | Kind::ServiceEntry)) = parent_kind(parent) else {
            return;
        };
        let Some(waypoint) = (self.waypoint)(kind, namespace, &parent.name) else {
            return;
        };
        let home = &*waypoint.reference.namespace;
        if own != namespace && own != home {
            problems.push(input.entry.problem(
                Severity::Ignored,
                format!("spec.parentRefs[{at}]"),
                format!(
                    "the waypoint of {namespace}/{} does not apply routes of namespace {own}; clients of that namespace \
                     do if they link inmesh",
                    parent.name
                ),
                "move the route to the service's or the waypoint's namespace, unless all its clients link inmesh",
            ));
        }
    }
}
