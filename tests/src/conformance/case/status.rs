//! Cases about what a status says.

use serde::Deserialize;

use super::{Condition, Object};

/// What a status says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusCase {
    /// `Test/NN`.
    pub id: String,
    /// The suite's name of it.
    pub name: String,
    /// Whose status.
    pub object: Object,
    /// Towards which parent.
    pub parent: Option<Object>,
    /// Towards which ancestor; policies have those.
    pub ancestor: Option<Object>,
    /// What it must say.
    pub expect: ExpectStatus,
}

/// What a status must say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectStatus {
    /// A condition.
    pub condition: Option<Condition>,
    /// No parent, or a single one that does not accept.
    pub no_accepted_parents: bool,
    /// Attached routes of the only listener.
    pub attached_routes_total: Option<u32>,
    /// That all conditions are of the newest generation, in words.
    pub all_conditions_observed_generation: Option<Observed>,
    /// That the generation is not that of the start.
    pub generation_changed_since_start: bool,
    /// Parents that must be among the status's.
    pub parents_include: Vec<ParentStatus>,
    /// Exactly these listeners.
    pub listeners: Vec<ListenerStatus>,
}

/// The only thing `observedGeneration` is compared with.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum Observed {
    /// The object's own.
    #[serde(rename = "equals metadata.generation")]
    Newest,
}

/// One parent of a route's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentStatus {
    /// The parent.
    pub parent: Object,
    /// Conditions that must be among its own.
    pub conditions: Vec<Condition>,
}

/// One listener of a Gateway's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Kinds that must be among its own.
    #[serde(default)]
    pub supported_kinds: Vec<String>,
    /// How many routes are attached.
    pub attached_routes: Option<u32>,
    /// Conditions that must be among its own.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
