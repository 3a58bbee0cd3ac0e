//! The watched folder: what the API server is to a cluster, files are to the town.
//!
//! Every change is a file written beside and renamed into place, so that no reader sees half of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// The namespaces of the town.
pub(crate) const NAMESPACES: [&str; 4] = ["bookinfo", "default", "foo", "istio-system"];
/// Where objects without a namespace live.
pub(crate) const CLUSTER: &str = "cluster";

/// One object as it stands in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its namespace; the folder's where it names none.
    pub(crate) namespace: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// All of it.
    pub(crate) value: Value,
}

/// A folder with one folder of YAML files per namespace.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes `root`, and in it the namespaces' folders and objects.
    ///
    /// # Errors
    /// If it is there already: what an earlier town left in it would come to life.
    pub(crate) fn create(root: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&root).with_context(|| format!("making {}, which must be new", root.display()))?;
        for name in NAMESPACES.into_iter().chain([CLUSTER, ".new"]) {
            fs::create_dir_all(root.join(name)).with_context(|| format!("making {}", root.display()))?;
        }
        let folder = Self { root };
        for name in NAMESPACES {
            folder.apply(CLUSTER, &namespace_file(name), &namespace(name))?;
        }
        Ok(folder)
    }

    /// Where the folders are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where inmesh finds its configuration: `[NAMESPACE=]PATH`, one per folder.
    pub(crate) fn sources(&self) -> Vec<String> {
        let namespaced = NAMESPACES.map(|name| format!("{name}={}", self.root.join(name).display()));
        let cluster = self.root.join(CLUSTER).display().to_string();
        namespaced.into_iter().chain([cluster]).collect()
    }

    /// `kubectl apply`.
    pub(crate) fn apply(&self, namespace: &str, file: &str, text: &str) -> anyhow::Result<()> {
        let beside = self.root.join(".new").join(format!("{namespace}-{file}"));
        let path = self.root.join(namespace).join(file);
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// A file as it stands.
    pub(crate) fn read(&self, namespace: &str, file: &str) -> anyhow::Result<String> {
        let path = self.root.join(namespace).join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// `kubectl delete`; what is not there is deleted already.
    pub(crate) fn delete(&self, namespace: &str, file: &str) -> anyhow::Result<()> {
        let path = self.root.join(namespace).join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("deleting {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// `kubectl label namespace`, for several labels at once; `None` takes a label away.
    pub(crate) fn label_namespace(&self, name: &str, labels: &[(&str, Option<&str>)]) -> anyhow::Result<()> {
        self.label(CLUSTER, &namespace_file(name), "Namespace", name, labels)
    }

    /// `kubectl label`: rewrites one object of a file and leaves the file's other objects as they were written.
    pub(crate) fn label(
        &self,
        namespace: &str,
        file: &str,
        kind: &str,
        name: &str,
        labels: &[(&str, Option<&str>)],
    ) -> anyhow::Result<()> {
        let text = self.read(namespace, file)?;
        let mut found = false;
        let documents: Vec<String> = documents(&text)
            .map(|document| match parse(document, namespace) {
                Some(mut object) if object.kind == kind && object.name == name => {
                    found = true;
                    set_labels(&mut object.value, labels);
                    Ok(format!(
                        "\n{}",
                        serde_saphyr::to_string(&object.value)?.trim_end()
                    ))
                }
                _ => Ok(document.to_owned()),
            })
            .collect::<anyhow::Result<_>>()?;
        if !found {
            bail!("no {kind} {name} in {namespace}/{file}");
        }
        self.apply(namespace, file, &documents.join("\n---"))
    }

    /// Changes whenever a file does.
    pub(crate) fn fingerprint(&self) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
        let paths = NAMESPACES
            .into_iter()
            .chain([CLUSTER])
            .flat_map(|namespace| self.files(namespace));
        paths
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some((path, metadata.modified().ok(), metadata.len()))
            })
            .collect()
    }

    fn files(&self, namespace: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join(namespace))
            .into_iter()
            .flatten()
            .flatten();
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| is_yaml(path))
            .collect();
        paths.sort();
        paths
    }

    /// The objects of one file; none if it cannot be read.
    pub(crate) fn objects_of(&self, namespace: &str, file: &str) -> Vec<Object> {
        let text = self.read(namespace, file).unwrap_or_default();
        documents(&text)
            .filter_map(|document| parse(document, namespace))
            .collect()
    }

    /// Every object in the folder. A file that cannot be read now is left to the next look.
    pub(crate) fn objects(&self) -> Vec<Object> {
        let mut objects = Vec::new();
        for namespace in NAMESPACES.into_iter().chain([CLUSTER]) {
            for text in self
                .files(namespace)
                .iter()
                .filter_map(|path| fs::read_to_string(path).ok())
            {
                objects.extend(documents(&text).filter_map(|document| parse(document, namespace)));
            }
        }
        objects
    }
}

/// The file that holds a Namespace.
pub(crate) fn namespace_file(name: &str) -> String {
    format!("namespace-{name}.yaml")
}

fn namespace(name: &str) -> String {
    let ambient = match name {
        "istio-system" => "",
        _ => "\n    istio.io/dataplane-mode: ambient",
    };
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    kubernetes.io/metadata.name: {name}{ambient}\n"
    )
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The documents of a file; our manifests have `---` on lines of their own and nowhere else.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---")
}

fn parse(document: &str, namespace: &str) -> Option<Object> {
    let value: Value = serde_saphyr::from_str(document).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = value.get("metadata")?;
    let named = metadata.get("namespace").and_then(text);
    Some(Object {
        namespace: named.unwrap_or_else(|| namespace.to_owned()),
        kind: text(value.get("kind")?)?,
        name: text(metadata.get("name")?)?,
        value,
    })
}

fn set_labels(object: &mut Value, labels: &[(&str, Option<&str>)]) {
    let all = &mut object["metadata"]["labels"];
    if !all.is_object() {
        *all = Value::Object(Map::new());
    }
    for (key, value) in labels {
        match (value, all.as_object_mut()) {
            (Some(value), Some(all)) => drop(all.insert((*key).to_owned(), Value::from(*value))),
            (None, Some(all)) => drop(all.remove(*key)),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests;

    #[test]
    fn a_label_changes_one_object_and_leaves_the_others_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path().join("town")).unwrap();
        folder
            .apply("bookinfo", "bookinfo.yaml", manifests::BOOKINFO)
            .unwrap();
        let count = folder.objects().len();
        let label = [("istio.io/use-waypoint", Some("none"))];
        folder
            .label("bookinfo", "bookinfo.yaml", "Service", "reviews", &label)
            .unwrap();
        let objects = folder.objects();
        assert_eq!(objects.len(), count);
        let labelled: Vec<&Object> = objects
            .iter()
            .filter(|object| object.value["metadata"]["labels"]["istio.io/use-waypoint"] == "none")
            .collect();
        assert_eq!(labelled.len(), 1);
        assert_eq!(
            (labelled[0].kind.as_str(), labelled[0].name.as_str()),
            ("Service", "reviews")
        );
        assert_eq!(labelled[0].value["spec"]["ports"][0]["port"], 9080);
    }
}
