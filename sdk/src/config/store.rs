//! What is currently applied.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use super::{Entry, Resource, core, gateway, istio};
use crate::name::{Kind, ResourceRef};

/// All resources that apply, by name; for each the last good version.
///
/// A clone shares everything until one of the two changes, and then all but the kinds that do.
#[derive(Clone, Debug, Default)]
pub struct ResourceStore {
    kinds: BTreeMap<Kind, Arc<Entries>>,
}

/// The resources of one kind.
type Entries = BTreeMap<ResourceRef, Arc<Entry>>;

impl ResourceStore {
    /// Applies a resource, in place of an earlier version.
    ///
    /// A broken policy does not take the place of a good version of itself: what was last written well stays
    /// in force until it is written well again or deleted.
    pub fn apply(&mut self, entry: impl Into<Arc<Entry>>) {
        let entry = entry.into();
        let reference = entry.reference();
        let known = self.kinds.entry(reference.kind).or_default();
        if entry.broken.is_some() && known.get(&reference).is_some_and(|known| known.broken.is_none()) {
            return;
        }
        Arc::make_mut(known).insert(reference, entry);
    }

    /// Removes a resource; says whether it was there.
    pub fn delete(&mut self, reference: &ResourceRef) -> bool {
        self.kinds.get_mut(&reference.kind).is_some_and(|known| {
            known.contains_key(reference) && Arc::make_mut(known).remove(reference).is_some()
        })
    }

    /// One resource.
    pub fn get(&self, reference: &ResourceRef) -> Option<&Arc<Entry>> {
        self.kinds.get(&reference.kind)?.get(reference)
    }

    /// All resources, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.kinds.values().flat_map(|known| known.values())
    }

    /// All resources of a kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.kinds.get(&kind).into_iter().flat_map(|known| known.values())
    }

    /// How this set of resources differs from an older one, by kind, namespace and name: each resource that is not the
    /// very same, as it was and as it is. Kinds that the two still share cost nothing.
    pub(crate) fn changes_since<'s>(
        &'s self,
        older: &'s Self,
    ) -> impl Iterator<Item = (Option<&'s Arc<Entry>>, Option<&'s Arc<Entry>>)> {
        let kinds: BTreeSet<Kind> = self.kinds.keys().chain(older.kinds.keys()).copied().collect();
        kinds.into_iter().flat_map(|kind| {
            let (was, is) = (older.kinds.get(&kind), self.kinds.get(&kind));
            let shared = matches!((was, is), (Some(was), Some(is)) if Arc::ptr_eq(was, is));
            let both = (!shared).then_some(BothOf {
                was: was.map(|known| known.iter()).unwrap_or_default().peekable(),
                is: is.map(|known| known.iter()).unwrap_or_default().peekable(),
            });
            both.into_iter().flatten()
        })
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.kinds.values().map(|known| known.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kinds.values().all(|known| known.is_empty())
    }

    /// One Namespace.
    pub fn namespace(&self, name: &str) -> Option<&core::Namespace> {
        match &self.get(&ResourceRef::new(Kind::Namespace, "", name))?.resource {
            Resource::Namespace(namespace) => Some(namespace),
            _ => None,
        }
    }
}

/// Walks two versions of one kind side by side.
struct BothOf<'s> {
    was: Peekable<btree_map::Iter<'s, ResourceRef, Arc<Entry>>>,
    is: Peekable<btree_map::Iter<'s, ResourceRef, Arc<Entry>>>,
}

impl<'s> Iterator for BothOf<'s> {
    type Item = (Option<&'s Arc<Entry>>, Option<&'s Arc<Entry>>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.was.peek(), self.is.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            let was = self.was.next_if(|_| order.is_le()).map(|(_, entry)| entry);
            let is = self.is.next_if(|_| order.is_ge()).map(|(_, entry)| entry);
            if !matches!((was, is), (Some(was), Some(is)) if Arc::ptr_eq(was, is)) {
                return Some((was, is));
            }
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $all:ident, $(#[$one_doc:meta])* $one:ident: $kind:ident($type:ty);)*) => {
        impl ResourceStore {
            $(
                $(#[$doc])*
                pub fn $all(&self) -> impl Iterator<Item = (&$type, &Arc<Entry>)> {
                    self.of_kind(Kind::$kind).filter_map(|entry| match &entry.resource {
                        Resource::$kind(it) => Some((it, entry)),
                        _ => None,
                    })
                }

                $(#[$one_doc])*
                pub fn $one(&self, namespace: &str, name: &str) -> Option<(&$type, &Arc<Entry>)> {
                    let entry = self.get(&ResourceRef::new(Kind::$kind, namespace, name))?;
                    match &entry.resource {
                        Resource::$kind(it) => Some((it, entry)),
                        _ => None,
                    }
                }
            )*
        }
    };
}

kinds! {
    /// All Services.
    services, /// One Service.
    service: Service(core::Service);
    /// All Nodes.
    nodes, /// One Node.
    node: Node(core::Node);
    /// All Pods.
    pods, /// One Pod.
    pod: Pod(core::Pod);
    /// All ServiceAccounts.
    service_accounts, /// One ServiceAccount.
    service_account: ServiceAccount(core::ServiceAccount);
    /// All Secrets.
    secrets, /// One Secret.
    secret: Secret(core::Secret);
    /// All ConfigMaps.
    config_maps, /// One ConfigMap.
    config_map: ConfigMap(core::ConfigMap);
    /// All EndpointSlices.
    endpoint_slices, /// One EndpointSlice.
    endpoint_slice: EndpointSlice(core::EndpointSlice);
    /// All Deployments.
    deployments, /// One Deployment.
    deployment: Deployment(core::Deployment);
    /// All WorkloadEntries.
    workload_entries, /// One WorkloadEntry.
    workload_entry: WorkloadEntry(istio::WorkloadEntry);
    /// All ServiceEntries.
    service_entries, /// One ServiceEntry.
    service_entry: ServiceEntry(istio::ServiceEntry);
    /// All VirtualServices.
    virtual_services, /// One VirtualService.
    virtual_service: VirtualService(istio::VirtualService);
    /// All DestinationRules.
    destination_rules, /// One DestinationRule.
    destination_rule: DestinationRule(istio::DestinationRule);
    /// All Gateways of Istio's own API.
    istio_gateways, /// One Gateway of Istio's own API.
    istio_gateway: IstioGateway(istio::IstioGateway);
    /// All EnvoyFilters.
    envoy_filters, /// One EnvoyFilter.
    envoy_filter: EnvoyFilter(istio::EnvoyFilter);
    /// All Gateways.
    gateways, /// One Gateway.
    gateway: Gateway(gateway::Gateway);
    /// All ListenerSets.
    listener_sets, /// One ListenerSet.
    listener_set: ListenerSet(gateway::ListenerSet);
    /// All HTTPRoutes.
    http_routes, /// One HTTPRoute.
    http_route: HTTPRoute(gateway::HTTPRoute);
    /// All GRPCRoutes.
    grpc_routes, /// One GRPCRoute.
    grpc_route: GRPCRoute(gateway::GRPCRoute);
    /// All TCPRoutes.
    tcp_routes, /// One TCPRoute.
    tcp_route: TCPRoute(gateway::TCPRoute);
    /// All TLSRoutes.
    tls_routes, /// One TLSRoute.
    tls_route: TLSRoute(gateway::TLSRoute);
    /// All XBackendTrafficPolicies.
    backend_traffic_policies, /// One XBackendTrafficPolicy.
    backend_traffic_policy: XBackendTrafficPolicy(gateway::XBackendTrafficPolicy);
    /// All ReferenceGrants.
    reference_grants, /// One ReferenceGrant.
    reference_grant: ReferenceGrant(gateway::ReferenceGrant);
    /// All BackendTLSPolicies.
    backend_tls_policies, /// One BackendTLSPolicy.
    backend_tls_policy: BackendTLSPolicy(gateway::BackendTLSPolicy);
    /// All AuthorizationPolicies.
    authorization_policies, /// One AuthorizationPolicy.
    authorization_policy: AuthorizationPolicy(istio::AuthorizationPolicy);
    /// All PeerAuthentications.
    peer_authentications, /// One PeerAuthentication.
    peer_authentication: PeerAuthentication(istio::PeerAuthentication);
    /// All RequestAuthentications.
    request_authentications, /// One RequestAuthentication.
    request_authentication: RequestAuthentication(istio::RequestAuthentication);
    /// All Telemetries.
    telemetries, /// One Telemetry.
    telemetry: Telemetry(istio::Telemetry);
}

/// Kinds outside namespaces.
impl ResourceStore {
    /// All Namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = (&core::Namespace, &Arc<Entry>)> {
        self.of_kind(Kind::Namespace)
            .filter_map(|entry| match &entry.resource {
                Resource::Namespace(it) => Some((it, entry)),
                _ => None,
            })
    }

    /// All GatewayClasses.
    pub fn gateway_classes(&self) -> impl Iterator<Item = (&gateway::GatewayClass, &Arc<Entry>)> {
        self.of_kind(Kind::GatewayClass)
            .filter_map(|entry| match &entry.resource {
                Resource::GatewayClass(it) => Some((it, entry)),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ObjectMeta;

    fn policy(name: &str, action: &str, broken: Option<&str>) -> Entry {
        let mut policy = istio::AuthorizationPolicy {
            metadata: ObjectMeta {
                name: name.into(),
                namespace: "shop".into(),
                ..ObjectMeta::default()
            },
            ..Default::default()
        };
        policy.spec.action = Some(action.into());
        let mut entry = Entry::from_resource(Resource::AuthorizationPolicy(policy), "test");
        entry.broken = broken.map(str::to_owned);
        entry
    }

    fn action(store: &ResourceStore) -> (Option<String>, bool) {
        let (policy, entry) = store.authorization_policy("shop", "p").unwrap();
        (policy.spec.action.clone(), entry.broken.is_some())
    }

    #[test]
    fn a_broken_policy_never_replaces_a_good_one_and_a_good_one_replaces_a_broken_one() {
        let mut store = ResourceStore::default();
        store.apply(policy("p", "ALLOW", Some("typo")));
        assert_eq!(action(&store), (Some("ALLOW".into()), true));
        store.apply(policy("p", "DENY", Some("another typo")));
        assert_eq!(action(&store), (Some("DENY".into()), true));
        store.apply(policy("p", "AUDIT", None));
        assert_eq!(action(&store), (Some("AUDIT".into()), false));
        store.apply(policy("p", "ALLOW", Some("typo")));
        assert_eq!(action(&store), (Some("AUDIT".into()), false));
        store.apply(policy("p", "ALLOW", None));
        assert_eq!(action(&store), (Some("ALLOW".into()), false));
        assert!(store.delete(&ResourceRef::new(Kind::AuthorizationPolicy, "shop", "p")));
        assert!(!store.delete(&ResourceRef::new(Kind::AuthorizationPolicy, "shop", "p")));
        assert!(store.is_empty());
    }

    #[test]
    fn a_clone_tells_what_has_changed_since() {
        let mut store = ResourceStore::default();
        for name in ["a", "b", "c"] {
            store.apply(policy(name, "ALLOW", None));
        }
        let older = store.clone();
        assert_eq!(store.changes_since(&older).count(), 0);
        store.delete(&ResourceRef::new(Kind::AuthorizationPolicy, "shop", "a"));
        store.apply(policy("c", "DENY", None));
        store.apply(policy("d", "DENY", None));
        let name = |entry: Option<&Arc<Entry>>| entry.map(|it| it.reference().name.to_string());
        let seen: Vec<_> = store
            .changes_since(&older)
            .map(|(was, is)| (name(was), name(is)))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [(some("a"), None), (some("c"), some("c")), (None, some("d"))]
        );
        assert_eq!(older.len(), 3);
        // What is not there cannot be deleted, and nothing is copied for it.
        let twin = store.clone();
        assert!(!store.delete(&ResourceRef::new(Kind::AuthorizationPolicy, "shop", "a")));
        assert!(Arc::ptr_eq(
            &store.kinds[&Kind::AuthorizationPolicy],
            &twin.kinds[&Kind::AuthorizationPolicy]
        ));
    }

    #[test]
    fn resources_come_by_kind_namespace_and_name() {
        let mut store = ResourceStore::default();
        store.apply(policy("z", "ALLOW", None));
        store.apply(policy("a", "ALLOW", None));
        store.apply(Entry::from_resource(
            Resource::Namespace(core::Namespace {
                metadata: ObjectMeta {
                    name: "shop".into(),
                    ..ObjectMeta::default()
                },
            }),
            "test",
        ));
        let names: Vec<_> = store.iter().map(|entry| entry.reference().to_string()).collect();
        assert_eq!(
            names,
            [
                "Namespace shop",
                "AuthorizationPolicy shop/a",
                "AuthorizationPolicy shop/z"
            ]
        );
        assert!(store.namespace("shop").is_some() && store.namespace("a").is_none());
        assert_eq!(store.authorization_policies().count(), 2);
        assert_eq!(store.services().count(), 0);
        assert_eq!(store.len(), 3);
    }
}
