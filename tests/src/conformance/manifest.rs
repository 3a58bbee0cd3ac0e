//! Objects as data: read from manifests, changed as an API server would change them, written for the mesh to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::case::Id;

/// The placeholder in the suite's Gateways, and what stands there for us.
const CLASS: (&str, &str) = ("{GATEWAY_CLASS_NAME}", "inmesh");
/// Where an object without a namespace lives.
const DEFAULT_NAMESPACE: &str = "default";

/// All objects of one test, in the order of their documents.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    all: Vec<Value>,
    /// What a patched field held at first, by object and path: cases put values back by saying "original value".
    first: BTreeMap<(usize, String), Value>,
}

impl Objects {
    /// Reads files of manifests, one after the other.
    ///
    /// # Errors
    /// If a file cannot be read, or one of its documents is no object.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut objects = Self::default();
        for file in files {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            for document in documents(&text.replace(CLASS.0, CLASS.1)) {
                let value: Value = parse(&document).with_context(|| format!("in {}", file.display()))?;
                if !value.is_null() {
                    objects
                        .add(value)
                        .with_context(|| format!("in {}", file.display()))?;
                }
            }
        }
        Ok(objects)
    }

    /// Adds an object, with what an API server gives each: a namespace and a generation.
    ///
    /// # Errors
    /// If it has no kind or no name.
    pub fn add(&mut self, mut value: Value) -> Result<()> {
        ensure!(
            value["kind"].is_string() && value["metadata"]["name"].is_string(),
            "no object: {value}"
        );
        if value["kind"] != "Namespace" && value["kind"] != "GatewayClass" {
            let namespace = &mut value["metadata"]["namespace"];
            if namespace.is_null() {
                *namespace = json!(DEFAULT_NAMESPACE);
            }
        }
        value["metadata"]["generation"] = json!(1);
        self.all.push(value);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.all.iter()
    }

    /// All of them, to be changed before anybody has read them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.all.iter_mut()
    }

    /// Those of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all.iter().filter(move |it| it["kind"] == kind)
    }

    /// Keeps only some.
    pub fn retain(&mut self, keep: impl FnMut(&Value) -> bool) {
        self.all.retain(keep);
    }

    /// One object.
    pub fn get(&self, kind: &str, id: &Id) -> Option<&Value> {
        self.find(kind, id).and_then(|at| self.all.get(at))
    }

    fn find(&self, kind: &str, id: &Id) -> Option<usize> {
        self.all.iter().position(|it| {
            it["kind"] == kind && it["metadata"]["name"] == id.name && namespace(it) == id.namespace
        })
    }

    /// Takes an object away and gives the name of its file.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete(&mut self, kind: &str, id: &Id) -> Result<String> {
        let at = self
            .find(kind, id)
            .with_context(|| format!("there is no {kind} {id}"))?;
        let file = file_name(&self.all[at]);
        // Left in place, so that what is known of the others keeps its index.
        self.all[at] = Value::Null;
        Ok(file)
    }

    /// Adds an object that a case describes.
    ///
    /// # Errors
    /// If one of its values is a copy of what is not there, or it is there already.
    pub fn create(&mut self, kind: &str, id: &Id, fields: &BTreeMap<String, Value>) -> Result<&Value> {
        ensure!(self.find(kind, id).is_none(), "{kind} {id} is there already");
        let mut value = json!({
            "apiVersion": api_version(kind)?,
            "kind": kind,
            "metadata": { "namespace": id.namespace, "name": id.name },
        });
        for (name, field) in fields {
            match name.as_str() {
                "apiVersion" => value["apiVersion"] = field.clone(),
                "metadata" => merge(&mut value["metadata"], field),
                _ => value[name.as_str()] = self.resolved(field)?,
            }
        }
        self.add(value)?;
        self.all.last().context("one was just added")
    }

    /// Changes fields of an object, and its generation if its `spec` changes. Says whether anything changed.
    ///
    /// # Errors
    /// If there is no such object or no such path.
    pub fn patch(&mut self, kind: &str, id: &Id, set: &BTreeMap<String, Value>) -> Result<(bool, &Value)> {
        let at = self
            .find(kind, id)
            .with_context(|| format!("there is no {kind} {id}"))?;
        let before = self.all[at].clone();
        for (path, wanted) in set {
            let held = get(&self.all[at], path)?.cloned().unwrap_or_default();
            let first = self.first.entry((at, path.clone())).or_insert(held).clone();
            let value = match wanted.as_str() {
                Some("original value" | "the copied CA again") => first,
                _ => self.resolved(wanted)?,
            };
            put(&mut self.all[at], path, value)?;
        }
        let object = &mut self.all[at];
        if object["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Ok((*object != before, &self.all[at]))
    }

    /// A value of a case, where it says `copy of NAMESPACE/NAME data['KEY']` taken from that ConfigMap.
    fn resolved(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix("copy of ") {
                None => value.clone(),
                Some(rest) => {
                    let (id, path) = rest
                        .split_once(' ')
                        .with_context(|| format!("`{text}` names no field"))?;
                    let id = Id::try_from(id.to_owned()).map_err(anyhow::Error::msg)?;
                    let of = self.get("ConfigMap", &id).or_else(|| self.get("Secret", &id));
                    let of = of.with_context(|| format!("`{text}`: there is no such object"))?;
                    get(of, path)?
                        .with_context(|| format!("`{text}`: no such field"))?
                        .clone()
                }
            },
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), self.resolved(field)?)));
                Value::Object(fields.collect::<Result<Map<_, _>>>()?)
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|it| self.resolved(it)).collect::<Result<_>>()?)
            }
            _ => value.clone(),
        })
    }
}

/// A watched folder with a file per object.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// An empty one at a path that does not exist yet.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("mesh")).with_context(|| format!("making {}", root.display()))?;
        Ok(Self { root })
    }

    /// What is to be watched.
    pub fn watched(&self) -> PathBuf {
        self.root.join("mesh")
    }

    /// Writes objects; each appears whole.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        for object in objects.into_iter().filter(|it| !it.is_null()) {
            let name = file_name(object);
            let (draft, path) = (self.root.join(&name), self.watched().join(&name));
            fs::write(&draft, serde_saphyr::to_string(object)?)
                .and_then(|()| fs::rename(&draft, &path))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes an object's file.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.watched().join(file);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    /// Where everything of the folder's owner is kept.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The namespace of an object, empty where it has none.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn file_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{kind}-{}-{}.yaml", namespace(object), name(object))
}

fn api_version(kind: &str) -> Result<&'static str> {
    Ok(match kind {
        "ConfigMap" | "Secret" | "Service" | "ServiceAccount" | "Namespace" | "Pod" => "v1",
        "Deployment" => "apps/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" | "Gateway" | "GatewayClass" | "BackendTLSPolicy" => {
            "gateway.networking.k8s.io/v1"
        }
        "ReferenceGrant" => "gateway.networking.k8s.io/v1beta1",
        "TCPRoute" => "gateway.networking.k8s.io/v1alpha2",
        _ => bail!("a case creates a {kind} without saying its apiVersion"),
    })
}

fn merge(into: &mut Value, from: &Value) {
    for (name, field) in from.as_object().into_iter().flatten() {
        into[name.as_str()] = field.clone();
    }
}

/// Reads one YAML document as the API server would: `y` and `on` are words.
///
/// # Errors
/// If it is not what it should be.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    Ok(serde_saphyr::from_str_with_options(text, options)?)
}

/// The documents of a YAML text.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("---") {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => documents.push(String::new()),
            _ => {
                if let Some(document) = documents.last_mut() {
                    document.push_str(line);
                    document.push('\n');
                }
            }
        }
    }
    documents
}

/// A step of a dotted path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// `spec.rules[0].backendRefs[0].name`, `data['ca.crt']`.
fn steps(path: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (step, after) = inside
                .split_once(']')
                .with_context(|| format!("`{path}` has no `]`"))?;
            let quoted = ['\'', '"']
                .iter()
                .find_map(|quote| step.strip_prefix(*quote)?.strip_suffix(*quote));
            steps.push(match quoted {
                Some(field) => Step::Field(field.to_owned()),
                None => Step::Index(
                    step.parse()
                        .with_context(|| format!("`{path}`: `{step}` is no index"))?,
                ),
            });
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        ensure!(end > 0, "`{path}` has an empty step");
        steps.push(Step::Field(rest[..end].to_owned()));
        rest = &rest[end..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    Ok(steps)
}

fn get<'a>(object: &'a Value, path: &str) -> Result<Option<&'a Value>> {
    let mut at = Some(object);
    for step in steps(path)? {
        at = at.and_then(|at| match &step {
            Step::Field(name) => at.get(name),
            Step::Index(index) => at.get(index),
        });
    }
    Ok(at)
}

/// Puts a value; `null` takes the field away.
fn put(object: &mut Value, path: &str, value: Value) -> Result<()> {
    let mut steps = steps(path)?;
    let last = steps.pop().context("the path is empty")?;
    let mut at = object;
    for step in &steps {
        at = match step {
            Step::Field(name) => {
                if at.is_null() {
                    *at = json!({});
                }
                let fields = at
                    .as_object_mut()
                    .with_context(|| format!("`{path}`: no object at `{name}`"))?;
                fields.entry(name.clone()).or_insert(Value::Null)
            }
            Step::Index(index) => at
                .get_mut(index)
                .with_context(|| format!("`{path}`: there is no item {index}"))?,
        };
    }
    match last {
        Step::Field(name) => {
            if at.is_null() {
                *at = json!({});
            }
            let fields = at
                .as_object_mut()
                .with_context(|| format!("`{path}`: no object around `{name}`"))?;
            match value {
                Value::Null => drop(fields.remove(&name)),
                value => drop(fields.insert(name, value)),
            }
        }
        Step::Index(index) => {
            let items = at
                .as_array_mut()
                .with_context(|| format!("`{path}`: no list around {index}"))?;
            if index == items.len() {
                items.push(Value::Null);
            }
            *items
                .get_mut(index)
                .with_context(|| format!("`{path}`: there is no item {index}"))? = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_patch_of_the_spec_counts_up_the_generation_and_can_be_taken_back() {
        let mut objects = Objects::default();
        let route = json!({ "apiVersion": "x", "kind": "HTTPRoute", "metadata": { "namespace": "a", "name": "b" },
            "spec": { "rules": [{ "backendRefs": [{ "name": "one" }] }] } });
        objects.add(route).unwrap();
        let set =
            |value: &str| BTreeMap::from([("spec.rules[0].backendRefs[0].name".to_owned(), json!(value))]);
        let (changed, object) = objects.patch("HTTPRoute", &id("a/b"), &set("two")).unwrap();
        assert!(changed);
        assert_eq!(object["spec"]["rules"][0]["backendRefs"][0]["name"], "two");
        assert_eq!(object["metadata"]["generation"], 2);
        let (changed, _) = objects.patch("HTTPRoute", &id("a/b"), &set("two")).unwrap();
        assert!(!changed);
        let (_, object) = objects
            .patch("HTTPRoute", &id("a/b"), &set("original value"))
            .unwrap();
        assert_eq!(object["spec"]["rules"][0]["backendRefs"][0]["name"], "one");
        assert_eq!(object["metadata"]["generation"], 3);
        assert!(objects.patch("HTTPRoute", &id("a/c"), &set("x")).is_err());
    }

    #[test]
    fn quoted_steps_may_hold_dots_and_copies_are_taken_from_their_object() {
        let mut objects = Objects::default();
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": "a", "name": "ca" },
            "data": { "ca.crt": "PEM" } });
        objects.add(map).unwrap();
        let fields = BTreeMap::from([(
            "data".to_owned(),
            json!({ "ca.crt": "copy of a/ca data['ca.crt']" }),
        )]);
        assert_eq!(
            objects.create("ConfigMap", &id("a/copy"), &fields).unwrap()["data"]["ca.crt"],
            "PEM"
        );
        let set = BTreeMap::from([("data['ca.crt']".to_owned(), json!(""))]);
        assert_eq!(
            objects.patch("ConfigMap", &id("a/copy"), &set).unwrap().1["data"]["ca.crt"],
            ""
        );
        let back = BTreeMap::from([("data['ca.crt']".to_owned(), json!("the copied CA again"))]);
        assert_eq!(
            objects.patch("ConfigMap", &id("a/copy"), &back).unwrap().1["data"]["ca.crt"],
            "PEM"
        );
        assert!(objects.create("ConfigMap", &id("a/copy"), &fields).is_err());
        assert_eq!(
            objects.delete("ConfigMap", &id("a/copy")).unwrap(),
            "configmap-a-copy.yaml"
        );
        assert!(objects.delete("ConfigMap", &id("a/copy")).is_err());
    }
}
