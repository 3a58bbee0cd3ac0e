//! One rule of a policy, made into the engine's rule for one layer.
//!
//! On layers without HTTP, an ALLOW rule that asks for something of HTTP is dropped, and a DENY rule loses the
//! question and so becomes wider — except at L4, where an alternative that has lost all of its questions never
//! matches (Istio's filters and ztunnel differ here).

use super::MeshSettings;
use super::values::{self, WhenKey};
use crate::config::istio::{AuthorizationRule, RuleCondition, RuleOperation, RuleSource};
use crate::matcher::{CidrError, CidrSet, Glob, PathTemplate, TemplateError, TextSet};
use crate::policy::authz::{Action, AuthzRule, Clause, Condition, Layer, Part, RequestPrincipal, Test};

/// Why a value that validation should have refused cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Block(#[from] CidrError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("bad port `{0}`")]
    Port(String),
    #[error("{0}")]
    Key(String),
}

/// On which layers an attribute can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// On all.
    All,
    /// Not at L4, where it counts as HTTP's.
    NotL4,
    /// Not at L4, where it is overlooked.
    OverlookedAtL4,
    /// Of requests only.
    Http,
}

/// What of a rule is converted how.
pub(super) struct Converter<'a> {
    pub(super) layer: Layer,
    pub(super) action: Action,
    /// The policy's namespace.
    pub(super) namespace: &'a str,
    pub(super) settings: &'a MeshSettings<'a>,
}

type Asked = Vec<(Reach, Condition)>;

impl Converter<'_> {
    /// The rule for the layer; `None` if it does not exist there.
    pub(super) fn rule(&self, rule: &AuthorizationRule) -> Result<Option<AuthzRule>, ConvertError> {
        let mut clauses = Vec::new();
        if !rule.from.is_empty() {
            let sources = rule.from.iter().map(|from| self.source(from.source.as_ref()));
            clauses.push((Part::From, sources.collect::<Result<Vec<_>, _>>()?));
        }
        if !rule.to.is_empty() {
            let operations = rule.to.iter().map(|to| self.operation(to.operation.as_ref()));
            clauses.push((Part::To, operations.collect::<Result<Vec<_>, _>>()?));
        }
        for (entry, when) in (0..).zip(&rule.when) {
            clauses.push((Part::When(entry), vec![self.condition(when)?]));
        }
        let lost = |(reach, _): &(Reach, Condition)| self.is_lost(*reach);
        let mut asked = clauses
            .iter()
            .flat_map(|(_, alternatives)| alternatives.iter().flatten());
        if self.action == Action::Allow && asked.any(lost) {
            return Ok(None);
        }
        let clauses = clauses
            .into_iter()
            .map(|(part, alternatives)| self.clause(part, alternatives))
            .collect();
        Ok(Some(AuthzRule { clauses }))
    }

    fn is_lost(&self, reach: Reach) -> bool {
        match self.layer {
            Layer::Http => false,
            Layer::Tcp => reach == Reach::Http,
            Layer::L4 => matches!(reach, Reach::Http | Reach::NotL4),
        }
    }

    fn clause(&self, part: Part, alternatives: Vec<Asked>) -> Clause {
        let kept = |(reach, condition): (Reach, Condition)| {
            let overlooked = self.layer == Layer::L4 && reach == Reach::OverlookedAtL4;
            (!overlooked && !self.is_lost(reach)).then_some(condition)
        };
        let any = alternatives
            .into_iter()
            .map(|asked| asked.into_iter().filter_map(kept).collect::<Vec<_>>())
            .filter(|conditions| self.layer != Layer::L4 || !conditions.is_empty());
        Clause {
            part,
            any: any.collect(),
        }
    }

    fn source(&self, source: Option<&RuleSource>) -> Result<Asked, ConvertError> {
        let mut asked = Asked::new();
        let Some(source) = source else { return Ok(asked) };
        let mut ask = |reach, values: &[String], nots: &[String], test: &dyn Fn(&[String]) -> _| {
            both(&mut asked, reach, values, nots, test)
        };
        ask(
            Reach::All,
            &source.principals,
            &source.not_principals,
            &|values| Ok(self.principals(values)),
        )?;
        ask(
            Reach::Http,
            &source.request_principals,
            &source.not_request_principals,
            &request_principals,
        )?;
        ask(
            Reach::All,
            &source.namespaces,
            &source.not_namespaces,
            &|values| Ok(self.namespaces(values)),
        )?;
        ask(Reach::All, &source.ip_blocks, &source.not_ip_blocks, &|values| {
            Ok(Test::SourceIp(blocks(values)?))
        })?;
        ask(
            Reach::NotL4,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &|values| Ok(Test::RemoteIp(blocks(values)?)),
        )?;
        ask(
            Reach::All,
            &source.service_accounts,
            &source.not_service_accounts,
            &|values| Ok(self.service_accounts(values)),
        )?;
        ask(
            Reach::OverlookedAtL4,
            &source.trust_domains,
            &source.not_trust_domains,
            &|values| Ok(self.trust_domains(values)),
        )?;
        Ok(asked)
    }

    fn operation(&self, operation: Option<&RuleOperation>) -> Result<Asked, ConvertError> {
        let mut asked = Asked::new();
        let Some(operation) = operation else {
            return Ok(asked);
        };
        let mut ask = |reach, values: &[String], nots: &[String], test: &dyn Fn(&[String]) -> _| {
            both(&mut asked, reach, values, nots, test)
        };
        ask(Reach::Http, &operation.hosts, &operation.not_hosts, &|values| {
            let lower: Vec<_> = values.iter().map(|value| value.to_ascii_lowercase()).collect();
            Ok(Test::Host(texts(&lower)))
        })?;
        ask(Reach::All, &operation.ports, &operation.not_ports, &ports)?;
        ask(
            Reach::Http,
            &operation.methods,
            &operation.not_methods,
            &|values| Ok(Test::Method(texts(values))),
        )?;
        ask(Reach::Http, &operation.paths, &operation.not_paths, &paths)?;
        Ok(asked)
    }

    fn condition(&self, when: &RuleCondition) -> Result<Asked, ConvertError> {
        let key = WhenKey::parse(&when.key).map_err(ConvertError::Key)?;
        let reach = match key {
            WhenKey::Header(_) | WhenKey::RequestPrincipal | WhenKey::Claim(_) => Reach::Http,
            WhenKey::RemoteIp | WhenKey::SourceServiceAccount | WhenKey::SourceTrustDomain | WhenKey::Sni => {
                Reach::NotL4
            }
            _ => Reach::All,
        };
        let test = |values: &[String]| {
            Ok(match &key {
                WhenKey::Header(name) => Test::Header {
                    name: name.clone(),
                    values: texts(values),
                },
                WhenKey::SourceIp => Test::SourceIp(blocks(values)?),
                WhenKey::RemoteIp => Test::RemoteIp(blocks(values)?),
                WhenKey::DestinationIp => Test::DestinationIp(blocks(values)?),
                WhenKey::DestinationPort => ports(values)?,
                WhenKey::SourceNamespace => self.namespaces(values),
                WhenKey::SourceServiceAccount => self.service_accounts(values),
                WhenKey::SourceTrustDomain => self.trust_domains(values),
                WhenKey::SourcePrincipal => self.principals(values),
                WhenKey::RequestPrincipal => request_principals(values)?,
                WhenKey::Claim(path) => Test::Claim {
                    path: path.clone(),
                    values: texts(values),
                },
                WhenKey::Sni => Test::Sni(texts(values)),
            })
        };
        let mut asked = Asked::new();
        both(&mut asked, reach, &when.values, &when.not_values, &test)?;
        Ok(asked)
    }

    fn namespaces(&self, values: &[String]) -> Test {
        // At L4 a star inside is an ordinary character, which no namespace has.
        let is_glob = |value: &&String| {
            let inner = value
                .strip_prefix('*')
                .or_else(|| value.strip_suffix('*'))
                .unwrap_or(value);
            self.layer != Layer::L4 && inner.contains('*')
        };
        let (globs, names): (Vec<_>, Vec<_>) = values.iter().partition(is_glob);
        Test::Namespace {
            names: TextSet::parse(names.into_iter().map(String::as_str)),
            globs: globs.into_iter().filter_map(|value| Glob::parse(value)).collect(),
        }
    }

    fn service_accounts(&self, values: &[String]) -> Test {
        let accounts = values
            .iter()
            .map(|value| values::service_account(value, self.namespace));
        Test::ServiceAccount(accounts.map(|(ns, sa)| (ns.into(), sa.into())).collect())
    }

    fn principals(&self, values: &[String]) -> Test {
        // ztunnel's conversion knows no aliases.
        if self.layer == Layer::L4 {
            return Test::Principal(texts(values));
        }
        let expanded: Vec<_> = values
            .iter()
            .flat_map(|value| self.aliases_of_principal(value))
            .collect();
        Test::Principal(texts(&expanded))
    }

    /// The value once per name of the mesh's trust domain, where it names that. `cluster.local` names it always, and
    /// is then replaced.
    fn aliases_of_principal(&self, value: &str) -> Vec<String> {
        let domains = self.settings.trust_domains;
        let kept = || vec![value.to_owned()];
        let Some((domain, rest)) = value.split_once('/') else {
            return kept();
        };
        if domain == "*" || value.split('/').count() != 5 {
            return kept();
        }
        let ours = |own: &std::sync::Arc<str>| TextSet::parse([domain]).matches(own);
        if domain != "cluster.local" && !domains.iter().any(ours) {
            return kept();
        }
        domains
            .iter()
            .map(|own| match domain.strip_prefix('*') {
                Some(suffix) if own.ends_with(suffix) => value.to_owned(),
                _ => format!("{own}/{rest}"),
            })
            .collect()
    }

    fn trust_domains(&self, values: &[String]) -> Test {
        let domains = self.settings.trust_domains;
        let expanded = values.iter().flat_map(|value| {
            if domains.iter().any(|own| **own == **value) {
                domains.iter().map(|own| own.to_string()).collect()
            } else {
                vec![value.clone()]
            }
        });
        Test::TrustDomain(texts(&expanded.collect::<Vec<_>>()))
    }
}

fn both(
    asked: &mut Asked,
    reach: Reach,
    values: &[String],
    nots: &[String],
    test: &dyn Fn(&[String]) -> Result<Test, ConvertError>,
) -> Result<(), ConvertError> {
    for (values, negated) in [(values, false), (nots, true)] {
        if !values.is_empty() {
            asked.push((
                reach,
                Condition {
                    test: test(values)?,
                    negated,
                },
            ));
        }
    }
    Ok(())
}

fn texts(values: &[String]) -> TextSet {
    TextSet::parse(values.iter().map(String::as_str))
}

fn blocks(values: &[String]) -> Result<CidrSet, CidrError> {
    CidrSet::parse(values.iter().map(String::as_str))
}

fn ports(values: &[String]) -> Result<Test, ConvertError> {
    let port = |text: &String| values::port(text).ok_or_else(|| ConvertError::Port(text.clone()));
    Ok(Test::Port(values.iter().map(port).collect::<Result<_, _>>()?))
}

fn request_principals(values: &[String]) -> Result<Test, ConvertError> {
    Ok(Test::RequestPrincipal(
        values
            .iter()
            .map(|value| RequestPrincipal::parse(value))
            .collect(),
    ))
}

fn paths(values: &[String]) -> Result<Test, ConvertError> {
    let (templates, plain): (Vec<_>, Vec<_>) =
        values.iter().partition(|value| PathTemplate::is_template(value));
    Ok(Test::Path {
        values: TextSet::parse(plain.into_iter().map(String::as_str)),
        templates: templates
            .into_iter()
            .map(|template| PathTemplate::parse(template))
            .collect::<Result<_, _>>()?,
    })
}
