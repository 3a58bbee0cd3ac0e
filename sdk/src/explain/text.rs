//! An explanation for people.

use std::fmt;

use super::{Ask, Authorization, Backend, Candidate, Explanation, Hop, Judged, Outcome, Routing};

/// How many candidates that do not decide are written out.
const SHOWN: usize = 40;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let from = request.from.as_deref().unwrap_or("nobody (plaintext)");
        writeln!(
            f,
            "request   {} {} to {}",
            request.method, request.path, request.authority
        )?;
        writeln!(f, "from      {from}")?;
        for hop in &self.hops {
            write!(f, "{hop}")?;
        }
        writeln!(f, "answer    {}", self.outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Redirected { status, location } => write!(f, "{status} to {location}"),
            Self::Answered { status, bytes } => write!(f, "{status} with {bytes} bytes, by the route itself"),
            Self::Refused { status, why } => write!(f, "refused with {status}: {why}"),
            Self::Mixed => f.write_str("allowed for some backends, refused for others"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at        {} (generation {})", self.at, self.generation)?;
        if let Some(authorization) = &self.authorization {
            write!(f, "{authorization}")?;
        }
        if let Some(routing) = &self.routing {
            write!(f, "{routing}")?;
        }
        match &self.outcome {
            Outcome::Allowed => Ok(()),
            outcome => writeln!(f, "  ends    {outcome}"),
        }
    }
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.allowed { "allowed" } else { "denied" };
        writeln!(f, "  policy  {answer}: {}", self.why)?;
        if !self.clause.is_empty() {
            let inputs: Vec<String> = self
                .inputs
                .iter()
                .map(|it| value(&it.name, it.value.as_deref()))
                .collect();
            writeln!(f, "  clause  {}: {}", self.clause.join(", "), inputs.join(", "))?;
        }
        writeln!(f, "  cost    {} ns, {} rules", self.cost_ns, self.rule_count)?;
        for rule in self.rules.iter().filter(|rule| !rule.decides) {
            write!(f, "{rule}")?;
        }
        let told = self.rules.len();
        if let Some(more) = self.rule_count.checked_sub(told).filter(|more| *more > 0) {
            writeln!(f, "          and {more} other rules")?;
        }
        for remark in &self.remarks {
            writeln!(f, "          {remark}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watched = if self.dry_run { " (dry run)" } else { "" };
        write!(
            f,
            "          {} {} rule {}{watched} ",
            self.action, self.policy, self.rule
        )?;
        match self.matches {
            Some(true) => return writeln!(f, "matches"),
            Some(false) => f.write_str("does not match")?,
            None => f.write_str("cannot be judged")?,
        }
        let asks: Vec<String> = self.asks.iter().map(ToString::to_string).collect();
        match asks.is_empty() {
            true => writeln!(f),
            false => writeln!(f, ": {}", asks.join("; ")),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self
            .given
            .as_deref()
            .map_or_else(|| "absent".to_owned(), |given| format!("`{given}`"));
        write!(
            f,
            "{}: {} must be {}, and is {given}",
            self.clause, self.of, self.asked
        )
    }
}

/// A value with its name.
fn value(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{name} `{value}`"),
        None => format!("no {name}"),
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  routes  of {}", self.of)?;
        match &self.rule {
            Some(rule) => {
                let name = rule
                    .name
                    .as_deref()
                    .map(|name| format!(" ({name})"))
                    .unwrap_or_default();
                writeln!(f, "  rule    {} rule {}{name}", rule.resource, rule.index)?;
                for filter in &rule.filters {
                    writeln!(f, "          {filter}")?;
                }
            }
            None if self.candidates.is_empty() => writeln!(f, "  rule    none: there are no routes")?,
            None => writeln!(f, "  rule    none matches")?,
        }
        let (decides, others): (Vec<_>, Vec<_>) = self.candidates.iter().partition(|it| it.decides);
        for candidate in decides.iter().chain(others.iter().take(SHOWN)) {
            write!(f, "{candidate}")?;
        }
        if let Some(more) = others.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(f, "  match   and {more} others")?;
        }
        for backend in &self.backends {
            write!(f, "{backend}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  match   {}[{}] {}",
            self.rule, self.match_index, self.verdict
        )?;
        let mut asks = self.asks.iter().filter(|ask| !ask.holds).peekable();
        if asks.peek().is_some() {
            let told: Vec<String> = asks
                .map(|ask| match &ask.given {
                    Some(given) => format!("{} is asked to be {}, is {given}", ask.of, ask.asked),
                    None => format!("{} is asked to be {}, is not there", ask.of, ask.asked),
                })
                .collect();
            write!(f, ": {}", told.join("; "))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.share * 100.0;
        match &self.service {
            Some(service) => write!(f, "  to      {service} {share:.1} %")?,
            None => write!(f, "  to      {share:.1} %")?,
        }
        if let Some(via) = &self.via {
            write!(f, ", {via}")?;
        }
        if let Some(error) = &self.error {
            write!(f, ", {error}")?;
        }
        writeln!(f)?;
        for filter in &self.filters {
            writeln!(f, "          {filter}")?;
        }
        for endpoint in &self.endpoints {
            let proof = match &endpoint.identity {
                Some(identity) if endpoint.tunnelled => format!("as {identity}"),
                _ => "in plaintext".to_owned(),
            };
            writeln!(
                f,
                "          {} at {} {proof}",
                endpoint.workload, endpoint.address
            )?;
        }
        match self.endpoint_count - self.endpoints.len() {
            0 => Ok(()),
            more => writeln!(f, "          and {more} others"),
        }
    }
}
