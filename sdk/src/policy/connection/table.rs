//! Which rule decides about a connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::matcher::HostPattern;
use crate::name::Host;
use crate::policy::route::{Backends, ClusterId, RuleId, RuleOrigin, Target};

/// The routes of the connections to one port, as alternatives in one total order: the first that matches decides. The
/// default has none.
///
/// A table that has rules answers for all connections: who matches none is refused.
#[derive(Debug, Default)]
pub struct ConnectionTable {
    rules: Vec<ConnectionRule>,
    alternatives: Vec<(Opens, RuleId)>,
    /// The first alternative for all connections.
    any: Option<u32>,
    /// The first for all that open with TLS.
    any_tls: Option<u32>,
    /// The first by server name.
    exact: HashMap<Box<str>, u32>,
    /// By the end of the server name, its leading dot included.
    suffixes: HashMap<Box<str>, u32>,
}

/// Adds rules to a table, the first first.
#[derive(Debug, Default)]
pub struct ConnectionTableBuilder(ConnectionTable);

/// One rule.
#[derive(Clone, Debug)]
pub struct ConnectionRule {
    /// Where it was written.
    pub origin: RuleOrigin,
    /// Where connections go; or why they cannot.
    pub backends: Result<Backends, Arc<str>>,
}

/// Connections by how they open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    /// All, TLS or not.
    Anyhow,
    /// Those that open with TLS and ask for such a server name; with [`HostPattern::Any`] also those that ask for none.
    Tls(HostPattern),
}

/// How a connection opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening<'a> {
    /// Not with TLS.
    Plain,
    /// With TLS, and the server name that the client asks for.
    Tls(Option<&'a Host>),
}

impl ConnectionTableBuilder {
    /// Adds a rule. It decides about nothing before [`ConnectionTableBuilder::on`] says what for.
    pub fn rule(&mut self, rule: ConnectionRule) -> RuleId {
        self.0.rules.push(rule);
        RuleId(self.0.rules.len() as u32 - 1)
    }

    /// Has a rule decide about such connections, unless an earlier alternative does. Returns whether none does so in
    /// every case.
    pub fn on(&mut self, rule: RuleId, opens: Opens) -> bool {
        let table = &mut self.0;
        let at = table.alternatives.len() as u32;
        let fresh = table.any.is_none()
            && match &opens {
                Opens::Anyhow => {
                    table.any = Some(at);
                    true
                }
                Opens::Tls(HostPattern::Any) => *table.any_tls.get_or_insert(at) == at,
                Opens::Tls(HostPattern::Suffix(suffix)) => {
                    *table.suffixes.entry(suffix.clone()).or_insert(at) == at
                }
                Opens::Tls(HostPattern::Exact(host)) => {
                    *table.exact.entry(host.as_str().into()).or_insert(at) == at
                }
            };
        table.alternatives.push((opens, rule));
        fresh
    }

    /// The table.
    pub fn build(self) -> ConnectionTable {
        self.0
    }
}

impl ConnectionTable {
    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the rule depends on how the connection opens.
    pub fn wants_opening(&self) -> bool {
        // An alternative for all that stands first leaves nothing to the others.
        !self.is_empty() && self.any != Some(0)
    }

    /// The rule that decides; `None` if none matches.
    pub fn find(&self, opening: Opening<'_>) -> Option<&ConnectionRule> {
        let mut best = self.any;
        let mut consider = |at: Option<u32>| best = [best, at].into_iter().flatten().min();
        if let Opening::Tls(name) = opening {
            consider(self.any_tls);
            if let Some(name) = name.map(Host::as_str) {
                consider(self.exact.get(name).copied());
                // The first byte cannot be a suffix' dot: a wildcard stands for at least one label.
                for (dot, _) in name.match_indices('.').filter(|(at, _)| *at > 0) {
                    consider(self.suffixes.get(&name[dot..]).copied());
                }
            }
        }
        let (_, rule) = self.alternatives.get(best? as usize)?;
        self.rules.get(rule.0 as usize)
    }

    /// All rules, as they were added.
    pub fn rules(&self) -> impl Iterator<Item = &ConnectionRule> {
        self.rules.iter()
    }

    /// What the rules are for, in order.
    pub fn alternatives(&self) -> impl Iterator<Item = (&Opens, &ConnectionRule)> {
        self.alternatives
            .iter()
            .filter_map(|(opens, id)| Some((opens, self.rules.get(id.0 as usize)?)))
    }
}

impl ConnectionRule {
    /// Where the connection goes that a uniformly random number stands for.
    ///
    /// # Errors
    /// Why nowhere.
    pub fn pick(&self, random: u64) -> Result<ClusterId, &str> {
        match &self.backends {
            Ok(backends) => match &backends.pick(random).cluster {
                Target::Cluster(id) => Ok(*id),
                Target::Invalid(why) => Err(why),
                Target::Redirect(_) => Err("connections cannot be redirected"),
            },
            Err(why) => Err(why),
        }
    }
}

impl Opens {
    /// Whether a connection is one of these.
    pub fn hold(&self, opening: Opening<'_>) -> bool {
        match (self, opening) {
            (Self::Anyhow, _) | (Self::Tls(HostPattern::Any), Opening::Tls(_)) => true,
            (Self::Tls(pattern), Opening::Tls(Some(name))) => pattern.matches(name.as_str()),
            (Self::Tls(_), Opening::Tls(None) | Opening::Plain) => false,
        }
    }
}

impl fmt::Display for Opens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyhow => f.write_str("anything"),
            Self::Tls(HostPattern::Any) => f.write_str("TLS"),
            Self::Tls(pattern) => write!(f, "TLS for {pattern}"),
        }
    }
}

impl fmt::Display for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("no TLS"),
            Self::Tls(None) => f.write_str("TLS without a server name"),
            Self::Tls(Some(name)) => write!(f, "TLS for {name}"),
        }
    }
}
