//! What compiling says of each object, in the shape that Kubernetes shows it, beside what a case says it must be.

use serde_json::Value;

use super::case::{self, ExpectStatus, ListenerStatus, Object, Precondition, StatusCase, Truth};
use super::compare::Difference;
use super::manifest::{Objects, name, namespace};

/// The statuses of all objects, as a mesh or `waypoint check` reports them.
#[derive(Clone, Debug)]
pub struct Statuses {
    /// A list of objects with `kind`, `metadata` and `status`.
    pub reported: Value,
    /// The objects, whose generation is what an API server would have counted.
    pub objects: Objects,
}

impl Statuses {
    fn of(&self, object: &Object) -> Option<&Value> {
        let all = self.reported.as_array().into_iter().flatten();
        let mut named = all.filter(|it| {
            it["kind"] == *object.kind && namespace(it) == object.id.namespace && name(it) == object.id.name
        });
        named.next().map(|it| &it["status"])
    }

    fn list<'a>(&'a self, object: &Object, field: &str) -> impl Iterator<Item = &'a Value> {
        self.of(object)
            .and_then(|it| it[field].as_array())
            .into_iter()
            .flatten()
    }

    /// The entries of a parent or an ancestor; where a section is named, those that mean it: by its name, by its port, or
    /// as one of all.
    fn entries<'a>(
        &'a self,
        object: &'a Object,
        parent: &'a Object,
        section: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Value> {
        let port = section.and_then(|section| self.port(parent, section));
        let means = move |reference: &Value, section: &str| match reference["sectionName"].as_str() {
            Some(name) => name == section,
            None => reference["port"].is_null() || reference["port"].as_u64() == port,
        };
        let fits = move |reference: &Value| {
            reference["kind"] == *parent.kind
                && reference["namespace"] == *parent.id.namespace
                && reference["name"] == *parent.id.name
                && section.is_none_or(|section| means(reference, section))
        };
        let parents = self
            .list(object, "parents")
            .filter(move |it| fits(&it["parentRef"]));
        let ancestors = self
            .list(object, "ancestors")
            .filter(move |it| fits(&it["ancestorRef"]));
        parents.chain(ancestors)
    }

    /// The port of a Gateway's listener.
    fn port(&self, gateway: &Object, listener: &str) -> Option<u64> {
        let listeners = self.objects.get("Gateway", &gateway.id)?["spec"]["listeners"].as_array()?;
        listeners.iter().find(|it| it["name"] == listener)?["port"].as_u64()
    }

    /// Compares one condition; with a parent, that of the parent's entry, of each section if it names some.
    fn condition(
        &self,
        object: &Object,
        parent: Option<&Object>,
        expected: &case::Condition,
    ) -> Vec<Difference> {
        let whole = format!("{} of {} {}", expected.kind, object.kind, object.id);
        let Some(parent) = parent else {
            return match object.sections.as_slice() {
                [] => differs(whole, self.of(object), expected).into_iter().collect(),
                sections => {
                    let of = |section: &&String| {
                        let listener = self.list(object, "listeners").find(|it| it["name"] == **section);
                        differs(format!("{whole} listener {section}"), listener, expected)
                    };
                    sections.iter().filter_map(|section| of(&section)).collect()
                }
            };
        };
        let sections: Vec<Option<&str>> = match parent.sections.as_slice() {
            [] => vec![None],
            sections => sections.iter().map(|it| Some(&**it)).collect(),
        };
        let at = |section: &Option<&str>| {
            let place = section.map(|it| format!(" section {it}")).unwrap_or_default();
            let what = format!("{whole} towards {} {}{place}", parent.kind, parent.id);
            // A parent may be named several times; one entry that says so is enough.
            let entries = self.entries(object, parent, *section);
            let differences: Vec<_> = entries
                .map(|it| differs(what.clone(), Some(it), expected))
                .collect();
            match differences.iter().any(Option::is_none) {
                true => None,
                false => differences
                    .into_iter()
                    .flatten()
                    .next()
                    .or_else(|| differs(what, None, expected)),
            }
        };
        sections.iter().filter_map(at).collect()
    }

    /// Compares what must hold before anything is sent. Where Gateways are served, each that is named must be so, and
    /// all its listeners with it.
    pub fn precondition(&self, it: &Precondition, served: bool) -> Vec<Difference> {
        let mut found = Vec::new();
        if let Some(condition) = &it.condition {
            found.extend(self.condition(&it.object, it.parent.as_ref(), condition));
        }
        if !served {
            return found;
        }
        if it.has_address && self.list(&it.object, "addresses").next().is_none() {
            found.push(Difference::new(
                format!("addresses of {}", it.object.id),
                "some",
                "none",
            ));
        }
        let gateways = [Some(&it.object), it.parent.as_ref()].into_iter().flatten();
        for gateway in gateways.filter(|object| object.kind == "Gateway") {
            for listener in self.list(gateway, "listeners") {
                let what = |kind| {
                    format!(
                        "{kind} of listener {} of Gateway {}",
                        listener["name"], gateway.id
                    )
                };
                for kind in ["Accepted", "ResolvedRefs", "Programmed"] {
                    found.extend(differs(what(kind), Some(listener), &holds(kind)));
                }
            }
        }
        found
    }

    /// Compares everything that a case states of a status.
    pub fn compare(&self, case: &StatusCase) -> Vec<Difference> {
        let ExpectStatus {
            condition,
            no_accepted_parents,
            attached_routes_total,
            all_conditions_observed_generation,
            generation_changed_since_start,
            parents_include,
            listeners,
        } = &case.expect;
        let object = &case.object;
        let mut found = Vec::new();
        if let Some(expected) = condition {
            found.extend(self.condition(object, case.parent.as_ref().or(case.ancestor.as_ref()), expected));
        }
        if *no_accepted_parents {
            found.extend(self.nobody_accepts(object));
        }
        for expected in parents_include {
            for condition in &expected.conditions {
                found.extend(self.condition(object, Some(&expected.parent), condition));
            }
        }
        if let Some(expected) = attached_routes_total {
            let counts: Vec<Option<u64>> = self
                .list(object, "listeners")
                .map(|it| it["attachedRoutes"].as_u64())
                .collect();
            if !(counts.is_empty() && *expected == 0 || counts == [Some(u64::from(*expected))]) {
                let expected = format!("{expected} at a single listener");
                found.push(Difference::new(
                    "attachedRoutes",
                    expected,
                    format_args!("{counts:?}"),
                ));
            }
        }
        if all_conditions_observed_generation.is_some() {
            found.extend(self.newest(object));
        }
        if *generation_changed_since_start && self.generation(object) == Some(1) {
            found.push(Difference::new(
                "metadata.generation",
                "another than at the start",
                1,
            ));
        }
        if !listeners.is_empty() {
            found.extend(self.listeners(object, listeners));
        }
        found
    }

    fn nobody_accepts(&self, object: &Object) -> Option<Difference> {
        let parents: Vec<&Value> = self.list(object, "parents").collect();
        let refuses = |it: &&Value| find(it, "Accepted").is_some_and(|it| it["status"] == "False");
        let fine = parents.is_empty() || (parents.len() == 1 && parents.iter().all(refuses));
        let observed = || Value::from(parents.iter().map(|it| (*it).clone()).collect::<Vec<_>>());
        (!fine).then(|| Difference::new("parents", "none, or one that does not accept", observed()))
    }

    fn newest(&self, object: &Object) -> Vec<Difference> {
        let Some(generation) = self.generation(object) else {
            return vec![Difference::new(
                "the object",
                "to be there",
                format_args!("no {}", object.id),
            )];
        };
        let entries = ["parents", "ancestors", "listeners"]
            .into_iter()
            .flat_map(|it| self.list(object, it));
        let all: Vec<&Value> = self
            .of(object)
            .into_iter()
            .chain(entries)
            .flat_map(conditions)
            .collect();
        if all.is_empty() {
            return vec![Difference::new("conditions", "some", "none")];
        }
        let stale = all
            .into_iter()
            .filter(|it| it["observedGeneration"].as_u64() != Some(generation));
        stale
            .map(|it| Difference::new("observedGeneration", generation, format_args!("{it}")))
            .collect()
    }

    fn listeners(&self, object: &Object, expected: &[ListenerStatus]) -> Vec<Difference> {
        let mut found = Vec::new();
        let known: Vec<&str> = self
            .list(object, "listeners")
            .filter_map(|it| it["name"].as_str())
            .collect();
        let mut wanted: Vec<&str> = expected.iter().map(|it| &*it.name).collect();
        let mut sorted = known.clone();
        wanted.sort_unstable();
        sorted.sort_unstable();
        if sorted != wanted {
            found.push(Difference::new(
                "listeners",
                format_args!("{wanted:?}"),
                format_args!("{known:?}"),
            ));
        }
        for expected in expected {
            let Some(listener) = self
                .list(object, "listeners")
                .find(|it| it["name"] == *expected.name)
            else {
                continue;
            };
            let what = |field: &str| format!("{field} of listener {}", expected.name);
            let attached = listener["attachedRoutes"].as_u64();
            if let Some(wanted) = expected.attached_routes
                && attached != Some(u64::from(wanted))
            {
                found.push(Difference::new(
                    what("attachedRoutes"),
                    wanted,
                    format_args!("{attached:?}"),
                ));
            }
            let kinds = listener["supportedKinds"].as_array().into_iter().flatten();
            let kinds: Vec<&str> = kinds.filter_map(|it| it["kind"].as_str()).collect();
            if let Some(missing) = expected
                .supported_kinds
                .iter()
                .find(|it| !kinds.contains(&it.as_str()))
            {
                found.push(Difference::new(
                    what("supportedKinds"),
                    missing,
                    format_args!("{kinds:?}"),
                ));
            }
            for condition in &expected.conditions {
                found.extend(differs(what(&condition.kind), Some(listener), condition));
            }
        }
        found
    }

    fn generation(&self, object: &Object) -> Option<u64> {
        self.objects.get(&object.kind, &object.id)?["metadata"]["generation"].as_u64()
    }
}

fn holds(kind: &str) -> case::Condition {
    case::Condition {
        kind: kind.to_owned(),
        status: Truth::True,
        reason: None,
    }
}

fn conditions(of: &Value) -> impl Iterator<Item = &Value> {
    of["conditions"].as_array().into_iter().flatten()
}

fn find<'a>(of: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions(of).find(|it| it["type"] == kind)
}

/// How the condition of something differs from what is expected, if it does.
fn differs(what: String, of: Option<&Value>, expected: &case::Condition) -> Option<Difference> {
    let status = match expected.status {
        Truth::True => "True",
        Truth::False => "False",
    };
    let found = of.and_then(|it| find(it, &expected.kind));
    let fits = found.is_some_and(|it| {
        it["status"] == status
            && expected
                .reason
                .as_ref()
                .is_none_or(|reason| it["reason"] == **reason)
    });
    let wanted = format!(
        "{status} {}",
        expected.reason.as_deref().unwrap_or("for any reason")
    );
    let observed = || match (of, found) {
        (None, _) => "no such entry".to_owned(),
        (_, None) => "no such condition".to_owned(),
        (_, Some(it)) => {
            let text = |field: &str| it[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        }
    };
    (!fits).then(|| Difference::new(what, wanted, observed()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(text: &str) -> StatusCase {
        let text = format!("{{id: T/01, name: x, object: {{kind: HTTPRoute, id: a/r}}, {text}}}");
        serde_saphyr::from_str(&text).unwrap()
    }

    fn statuses() -> Statuses {
        let mut objects = Objects::default();
        objects
            .add(json!({ "kind": "HTTPRoute", "metadata": { "namespace": "a", "name": "r" } }))
            .unwrap();
        let condition = |kind: &str, status: &str, reason: &str, generation: u64| json!({ "type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": generation });
        let parent = |section: &str, status: &str, reason: &str| {
            json!({
                "parentRef": { "kind": "Gateway", "namespace": "a", "name": "g", "sectionName": section },
                "conditions": [condition("Accepted", status, reason, 1)],
            })
        };
        Statuses {
            reported: json!([{ "kind": "HTTPRoute", "metadata": { "namespace": "a", "name": "r" }, "status": {
                "parents": [parent("one", "True", "Accepted"), parent("two", "False", "NotAllowedByListeners")] } }]),
            objects,
        }
    }

    #[test]
    fn each_section_of_a_parent_has_its_own_condition() {
        let statuses = statuses();
        let expect = |sections: &str, status: &str, reason: &str| {
            statuses.compare(&case(&format!(
                "parent: {{kind: Gateway, id: a/g, sections: {sections}}}, expect: {{condition: {{type: Accepted, \
                 status: '{status}', reason: {reason}}}}}"
            )))
        };
        assert_eq!(expect("[one]", "True", "Accepted"), []);
        assert_eq!(expect("[two]", "False", "NotAllowedByListeners"), []);
        assert_eq!(expect("[two]", "False", "null"), []);
        assert_eq!(expect("[one, two]", "True", "Accepted").len(), 1);
        assert_eq!(expect("[one]", "True", "NoMatchingParent").len(), 1);
        assert_eq!(expect("[three]", "True", "Accepted").len(), 1);
    }

    #[test]
    fn what_is_not_reported_is_different() {
        let statuses = statuses();
        assert_eq!(
            statuses
                .compare(&case("expect: {no_accepted_parents: true}"))
                .len(),
            1
        );
        assert_eq!(
            statuses
                .compare(&case("expect: {generation_changed_since_start: true}"))
                .len(),
            1
        );
        let newest = "expect: {all_conditions_observed_generation: equals metadata.generation}";
        assert_eq!(statuses.compare(&case(newest)), []);
        assert_eq!(
            statuses.compare(&case("expect: {listeners: [{name: x}]}")).len(),
            1
        );
        let elsewhere = Statuses {
            reported: json!([]),
            objects: Objects::default(),
        };
        assert_eq!(elsewhere.compare(&case(newest)).len(), 1);
        assert_eq!(
            elsewhere.compare(&case("expect: {no_accepted_parents: true}")),
            []
        );
    }
}
