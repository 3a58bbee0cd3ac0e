//! The RBAC filters that Istio makes of AuthorizationPolicies for HTTP, without trust-domain aliases.
//!
//! ```text
//! rule            one Envoy policy `ns[NS]-policy[NAME]-rule[I]`
//!   to            permissions: any of the operations, each all of its fields
//!   from          principals: any of the sources, each all of its fields
//!   when          a part of every permission or of every principal, by its key
//! ```
//!
//! Read from the spec alone, not from the library's own types: what both misread in the same way would not show.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::front::http_filter;

/// The filters of these policies, in Istio's order: tokens, then DENY, then ALLOW.
///
/// # Errors
/// If a policy holds what is not translated here (CUSTOM, AUDIT).
pub fn filters(policies: &[Value]) -> Result<Vec<Value>> {
    let mut filters = Vec::new();
    let tokens: Vec<&Value> = policies
        .iter()
        .filter(|it| it["kind"] == "RequestAuthentication")
        .collect();
    if !tokens.is_empty() {
        filters.push(jwt(&tokens)?);
    }
    for action in ["DENY", "ALLOW"] {
        let mut of_action = Map::new();
        for policy in policies.iter().filter(|it| it["kind"] == "AuthorizationPolicy") {
            match policy["spec"]["action"].as_str().unwrap_or("ALLOW") {
                "DENY" | "ALLOW" => {}
                other => bail!("{other} is not translated"),
            }
            if policy["spec"]["action"].as_str().unwrap_or("ALLOW") == action {
                of_action.extend(rules(policy)?);
            }
        }
        if !of_action.is_empty() {
            let rules = json!({"rules": {"action": action, "policies": of_action}});
            filters.push(http_filter("rbac", "RBAC", rules));
        }
    }
    Ok(filters)
}

/// One JWT provider per rule of one policy; a request without a token passes.
fn jwt(policies: &[&Value]) -> Result<Value> {
    let (mut providers, mut names) = (Map::new(), Vec::new());
    let rules = policies.iter().flat_map(|it| list(&it["spec"]["jwtRules"]));
    for (index, rule) in rules.enumerate() {
        let name = format!("origins-{index}");
        let provider = json!({
            "issuer": rule["issuer"],
            "local_jwks": {"inline_string": rule["jwks"]},
            "forward": true,
            "payload_in_metadata": "payload",
            "normalize_payload_in_metadata": {"space_delimited_claims": ["scope", "permission"]},
        });
        providers.insert(name.clone(), provider);
        names.push(json!({"provider_name": name}));
    }
    let [only] = names.as_slice() else {
        bail!("{} rules about tokens are not translated", names.len());
    };
    let requires = json!({"requires_any": {"requirements": [only, {"allow_missing": {}}]}});
    let rules = json!([{"match": {"prefix": "/"}, "requires": requires}]);
    Ok(http_filter(
        "jwt_authn",
        "JwtAuthentication",
        json!({"providers": providers, "rules": rules}),
    ))
}

fn rules(policy: &Value) -> Result<Map<String, Value>> {
    let name = |index: usize| {
        let metadata = &policy["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        format!("ns[{}]-policy[{}]-rule[{index}]", text("namespace"), text("name"))
    };
    let namespace = policy["metadata"]["namespace"].as_str().context("a namespace")?;
    let rules = list(&policy["spec"]["rules"]);
    if rules.is_empty() {
        // It never matches, and it is there.
        let never = json!({"permissions": [{"not_rule": any()}], "principals": [{"not_id": any()}]});
        return Ok([(name(0), never)].into_iter().collect());
    }
    let mut made = Map::new();
    for (index, rule) in rules.iter().enumerate() {
        let (mut of_permission, mut of_principal) = (Vec::new(), Vec::new());
        for when in list(&rule["when"]) {
            let key = when["key"].as_str().context("a key")?;
            let side = if key.starts_with("destination.") || key == "connection.sni" {
                (&mut of_permission, "rules")
            } else {
                (&mut of_principal, "ids")
            };
            both(side.0, side.1, &when["values"], &when["notValues"], &|value| {
                condition(key, value, namespace)
            })?;
        }
        let mut permissions = Vec::new();
        for to in list(&rule["to"]) {
            let operation = &to["operation"];
            let mut parts = of_permission.clone();
            for (field, not) in [
                ("hosts", "notHosts"),
                ("methods", "notMethods"),
                ("paths", "notPaths"),
                ("ports", "notPorts"),
            ] {
                both(
                    &mut parts,
                    "rules",
                    &operation[field],
                    &operation[not],
                    &|value| permission(field, value),
                )?;
            }
            permissions.push(all("rules", parts));
        }
        let mut principals = Vec::new();
        for from in list(&rule["from"]) {
            let source = &from["source"];
            let mut parts = of_principal.clone();
            for (field, not) in [
                ("principals", "notPrincipals"),
                ("requestPrincipals", "notRequestPrincipals"),
                ("namespaces", "notNamespaces"),
                ("serviceAccounts", "notServiceAccounts"),
                ("ipBlocks", "notIpBlocks"),
                ("remoteIpBlocks", "notRemoteIpBlocks"),
            ] {
                both(&mut parts, "ids", &source[field], &source[not], &|value| {
                    principal(field, value, namespace)
                })?;
            }
            principals.push(all("ids", parts));
        }
        if permissions.is_empty() {
            permissions.push(all("rules", of_permission));
        }
        if principals.is_empty() {
            principals.push(all("ids", of_principal));
        }
        made.insert(
            name(index),
            json!({"permissions": permissions, "principals": principals}),
        );
    }
    Ok(made)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn any() -> Value {
    json!({"any": true})
}

fn all(of: &str, parts: Vec<Value>) -> Value {
    match parts.is_empty() {
        true => any(),
        false => json!({format!("and_{of}"): {of: parts}}),
    }
}

/// Adds a field's values, and its negation.
fn both(
    parts: &mut Vec<Value>,
    of: &str,
    values: &Value,
    not: &Value,
    one: &dyn Fn(&str) -> Result<Value>,
) -> Result<()> {
    let or = |values: &Value| -> Result<Option<Value>> {
        let texts = list(values);
        let made = texts.iter().map(|it| one(it.as_str().context("a text")?));
        let made: Vec<Value> = made.collect::<Result<_>>()?;
        Ok((!made.is_empty()).then(|| json!({format!("or_{of}"): {of: made}})))
    };
    parts.extend(or(values)?);
    let negated = if of == "ids" { "not_id" } else { "not_rule" };
    parts.extend(or(not)?.map(|it| json!({negated: it})));
    Ok(())
}

fn permission(field: &str, value: &str) -> Result<Value> {
    Ok(match field {
        "hosts" => json!({"header": header(":authority", value, true)}),
        "methods" => json!({"header": header(":method", value, false)}),
        "paths" if value.contains("{*}") || value.contains("{**}") => {
            let template = value.replace("{**}", "**").replace("{*}", "*");
            let matcher = json!({
                "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                "path_template": template,
            });
            json!({"uri_template": {"name": "uri-template", "typed_config": matcher}})
        }
        "paths" => json!({"url_path": {"path": text(value)}}),
        "ports" => json!({"destination_port": value.parse::<u16>()?}),
        other => bail!("{other} is not translated"),
    })
}

fn principal(field: &str, value: &str, namespace: &str) -> Result<Value> {
    Ok(match field {
        "principals" => authenticated(spiffe(value)),
        "namespaces" => authenticated(regex(&format!(".*/ns/{}/.*", quoted(value).replace("\\*", ".*")))),
        "serviceAccounts" => {
            let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
            let (namespace, account) = (quoted(namespace), quoted(account));
            authenticated(regex(&format!(
                "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
            )))
        }
        "ipBlocks" => json!({"direct_remote_ip": block(value)?}),
        "remoteIpBlocks" => json!({"remote_ip": block(value)?}),
        "requestPrincipals" => request_principal(value),
        other => bail!("{other} is not translated"),
    })
}

fn condition(key: &str, value: &str, namespace: &str) -> Result<Value> {
    if let Some(name) = key
        .strip_prefix("request.headers[")
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return Ok(json!({"header": header(name, value, false)}));
    }
    if let Some(path) = key
        .strip_prefix("request.auth.claims[")
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return Ok(claim(&path.split("][").collect::<Vec<_>>(), text(value)));
    }
    Ok(match key {
        "source.ip" => principal("ipBlocks", value, namespace)?,
        "remote.ip" => principal("remoteIpBlocks", value, namespace)?,
        "source.namespace" => principal("namespaces", value, namespace)?,
        "source.principal" => principal("principals", value, namespace)?,
        "source.serviceAccount" => principal("serviceAccounts", value, namespace)?,
        "request.auth.principal" => request_principal(value),
        "request.auth.audiences" => claim(&["aud"], text(value)),
        "request.auth.presenter" => claim(&["azp"], text(value)),
        "destination.port" => permission("ports", value)?,
        "destination.ip" => json!({"destination_ip": block(value)?}),
        other => bail!("{other} is not translated"),
    })
}

/// A string matcher: whole, beginning, end, or there at all.
fn text(value: &str) -> Value {
    match (value.strip_suffix('*'), value.strip_prefix('*')) {
        _ if value == "*" => regex(".+"),
        (Some(prefix), _) => json!({"prefix": prefix}),
        (_, Some(suffix)) => json!({"suffix": suffix}),
        _ => json!({"exact": value}),
    }
}

fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({"name": name, "present_match": true});
    }
    let mut matcher = text(value);
    if ignore_case {
        matcher["ignore_case"] = true.into();
    }
    json!({"name": name, "string_match": matcher})
}

fn spiffe(value: &str) -> Value {
    match (value.strip_suffix('*'), value.strip_prefix('*')) {
        _ if value == "*" => regex(".+"),
        (Some(prefix), _) => json!({"prefix": format!("spiffe://{prefix}")}),
        (_, Some(suffix)) => regex(&format!("spiffe://.*{}", quoted(suffix))),
        _ => json!({"exact": format!("spiffe://{value}")}),
    }
}

fn authenticated(name: Value) -> Value {
    json!({"authenticated": {"principal_name": name}})
}

/// Issuer and subject, split at the last slash.
fn request_principal(value: &str) -> Value {
    let there = || regex(".+");
    let (issuer, subject) = match value.rsplit_once('/') {
        Some((issuer, subject)) => {
            let issuer = if issuer == "*" { there() } else { text(issuer) };
            (issuer, if subject == "*" { there() } else { text(subject) })
        }
        None if value == "*" => (there(), there()),
        None if value.ends_with('*') => (text(value), there()),
        None if value.starts_with('*') => (there(), text(value)),
        None => (text(value), json!({"exact": ""})),
    };
    all("ids", vec![claim(&["iss"], issuer), claim(&["sub"], subject)])
}

/// A claim that is the text, or a list with it.
fn claim(path: &[&str], matcher: Value) -> Value {
    let path = std::iter::once("payload").chain(path.iter().copied());
    let path: Vec<Value> = path.map(|key| json!({"key": key})).collect();
    let metadata = |value: Value| json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}});
    let one = metadata(json!({"string_match": matcher}));
    let of_list = metadata(json!({"list_match": {"one_of": {"string_match": matcher}}}));
    json!({"or_ids": {"ids": [one, of_list]}})
}

fn block(value: &str) -> Result<Value> {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, length.parse()?),
        None => (value, if value.contains(':') { 128 } else { 32 }),
    };
    Ok(json!({"address_prefix": address, "prefix_len": length}))
}

fn regex(pattern: &str) -> Value {
    json!({"safe_regex": {"regex": pattern}})
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if r"\.+*?()|[]{}^$".contains(char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}
