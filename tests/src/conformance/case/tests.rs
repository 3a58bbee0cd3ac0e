use std::path::Path;

use serde_json::{Value, json};

use super::samples::Samples;
use super::{Case, Test};

/// What stands where the schema leaves open what there is; the format's description says it.
fn hint(name: &str) -> Value {
    let condition = json!({ "type": "Accepted", "status": "True", "reason": null });
    match name {
        "frames" => json!([{ "send": { "text": "word" }, "expect_echo": true },
            { "send": { "binary_hex": "00ff" }, "expect_echo": false }]),
        "fixtures" => json!([{ "fill_endpoint_slices": ["a/b"], "from_pods_of": "a/b" }]),
        "mirror_tolerance" => json!({ "any": "thing" }),
        "every_response" => json!({ "backend_seen_header": "Backend", "value_count": 1,
            "equals": "name of the backend that answered" }),
        "parents_include" => {
            json!([{ "parent": { "kind": "Gateway", "id": "a/b" }, "conditions": [condition] }])
        }
        "listeners" => json!([{ "name": "http", "supported_kinds": ["HTTPRoute"], "attached_routes": 0,
            "conditions": [condition] }]),
        "patch" => json!({ "kind": "HTTPRoute", "id": "a/b", "set": { "spec.rules[0].name": "x" } }),
        "create" => json!({ "kind": "HTTPRoute", "id": "a/b", "spec": { "rules": [] } }),
        "all_conditions_observed_generation" => json!("equals metadata.generation"),
        _ => Value::Null,
    }
}

/// A case of a kind that means everything the schema lets it say.
fn meant(case: &Value) -> bool {
    let kind = case["kind"].as_str().unwrap_or_default();
    let expects = |field: &str| case["expect"].get(field).is_some();
    expects("distribution") == (kind == "distribution")
        && expects("every_response") == (kind == "self-consistent")
        && (kind != "mirror-distribution" || expects("mirrored_to"))
}

/// What a kind needs, which the schema does not say.
fn completed(mut case: Value) -> Value {
    let kind = case["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(expect) = case.get_mut("expect").and_then(Value::as_object_mut) {
        let mut add = |field: &str, value: Value| {
            expect.entry(field).or_insert(value);
        };
        match kind.as_str() {
            "distribution" => add(
                "distribution",
                json!({ "backend_namespace": "a", "weights": { "b": 1.0 }, "tolerance_abs": 0.05,
                    "zero_weight_gets_none": true, "max_rounds": 10 }),
            ),
            "self-consistent" => add("every_response", hint("every_response")),
            "mirror-distribution" => add(
                "mirrored_to",
                json!([{ "name": "b", "namespace": "a", "percent": 20 }]),
            ),
            _ => {}
        }
    }
    case
}

#[test]
fn whatever_the_schema_allows_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/case-schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let samples = Samples::of(&schema, &hint);
    let read = |file: &Value| {
        let read = Test::read(&file.to_string());
        read.unwrap_or_else(|error| panic!("{error:#}\n{file:#}"))
    };
    let one = |case: Value| {
        json!({ "format": "gwapi-conformance-cases/1", "test": "Test", "summary": "x",
            "source": { "tag": "x", "go": "x" }, "style": "gateway", "comparator": "http", "provisional": false,
            "features": ["Gateway"], "manifests": { "base": "base/manifests.yaml", "test": [] }, "case_count": 1,
            "mesh_mapping": { "mode": "facade" }, "cases": [case] })
    };
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for kind in schema["properties"]["cases"]["items"]["oneOf"]
        .as_array()
        .unwrap()
    {
        let cases = samples.at(kind, "cases").into_iter().map(completed);
        for case in cases.filter(meant) {
            *kinds
                .entry(case["kind"].as_str().unwrap().to_owned())
                .or_default() += 1;
            let test = read(&one(case));
            assert!(!test.cases.is_empty());
        }
    }
    let seen = format!("{kinds:?}");
    assert_eq!(kinds.len(), 8, "{seen}");
    assert!(kinds.values().sum::<usize>() > 300, "{seen}");
    // The file around the cases; what is said of each case has been tried.
    let case = json!({ "id": "Test/01", "kind": "http", "name": "x", "to": { "gateway": "a/b", "port": 80 },
        "request": { "protocol": "h2", "scheme": "https", "host": null }, "expect": {} });
    let mut properties = schema["properties"].clone();
    properties["cases"] = json!({ "const": [case] });
    properties["case_count"] = json!({ "const": 1 });
    let around = json!({ "type": "object", "properties": properties, "required": schema["required"] });
    let files = samples.at(&around, "file");
    assert!(files.len() > 20, "{}", files.len());
    files.iter().for_each(|it| drop(read(it)));
}

#[test]
fn with_an_action_among_them_cases_keep_their_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases/HTTPRouteReferenceGrant.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let unordered = text.replace("ordered: true", "ordered: false");
    assert_ne!(text, unordered);
    let test = Test::read(&unordered).unwrap();
    assert!(test.cases.iter().any(|it| matches!(it, Case::Action(_))) && test.is_ordered());
}
