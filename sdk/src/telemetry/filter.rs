//! What is logged, and how that is changed while the process runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Says what the process logs, and changes it while it runs: the admin endpoint's `/logging`, `waypoint log`.
///
/// The library sets up no logging of its own accord. An application that does hands this to
/// [`MeshBuilder::log_filter`](crate::MeshBuilder::log_filter), with a function that puts directives in force, for instance
/// through `tracing_subscriber::reload`:
///
/// ```
/// use inmesh::telemetry::LogFilter;
///
/// // In place of the `println!`: `handle.reload(EnvFilter::try_new(directives)?)`.
/// let filter = LogFilter::new("info,inmesh::access=off", |directives| {
///     println!("from now on: {directives}");
///     Ok(())
/// });
/// filter.set_level(Some("inmesh::control"), "debug").unwrap();
/// assert_eq!(filter.directives(), "info,inmesh::access=off,inmesh::control=debug");
/// filter.reset().unwrap();
/// assert_eq!(filter.directives(), "info,inmesh::access=off");
/// ```
#[derive(Clone)]
pub struct LogFilter(Arc<Shared>);

type Apply = dyn Fn(&str) -> Result<(), String> + Send + Sync;

struct Shared {
    first: String,
    now: Mutex<String>,
    apply: Box<Apply>,
}

/// Why what is logged was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// It is no level.
    #[error("`{0}` is no level; there are off, error, warn, info, debug and trace")]
    Level(String),
    /// It is no module.
    #[error("`{0}` is no module, such as inmesh::control")]
    Module(String),
    /// It was not put in force.
    #[error("not put in force: {0}")]
    Refused(String),
}

impl LogFilter {
    /// A filter that begins with these directives (`info,inmesh::control=debug`), which are in force already. `apply` puts
    /// others in force.
    pub fn new(
        directives: impl Into<String>,
        apply: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let first = directives.into();
        Self(Arc::new(Shared {
            now: Mutex::new(first.clone()),
            first,
            apply: Box::new(apply),
        }))
    }

    /// The directives in force.
    pub fn directives(&self) -> String {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs from this level on, in one module or in all that have no level of their own.
    ///
    /// # Errors
    /// If either is none, or it is not put in force.
    pub fn set_level(&self, module: Option<&str>, level: &str) -> Result<(), FilterError> {
        if !["off", "error", "warn", "info", "debug", "trace"].contains(&level) {
            return Err(FilterError::Level(level.to_owned()));
        }
        if let Some(module) = module
            && (module.is_empty()
                || !module
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_:-.".contains(&b)))
        {
            return Err(FilterError::Module(module.to_owned()));
        }
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |directive: &&str| match module {
            Some(module) => directive.split('=').next() == Some(module),
            None => !directive.contains('='),
        };
        let others = split(&now).into_iter().filter(|it| !is_meant(it));
        let next: Vec<String> = match module {
            Some(module) => others
                .map(str::to_owned)
                .chain([format!("{module}={level}")])
                .collect(),
            None => std::iter::once(level.to_owned())
                .chain(others.map(str::to_owned))
                .collect(),
        };
        let next = next.join(",");
        (self.0.apply)(&next).map_err(FilterError::Refused)?;
        *now = next;
        Ok(())
    }

    /// Logs as in the beginning.
    ///
    /// # Errors
    /// If that is not put in force.
    pub fn reset(&self) -> Result<(), FilterError> {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        (self.0.apply)(&self.0.first).map_err(FilterError::Refused)?;
        now.clone_from(&self.0.first);
        Ok(())
    }
}

/// The directives, which may hold commas between brackets.
fn split(directives: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = directives.split(|c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.directives()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_set_and_reset() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let filter = LogFilter::new("info,a[x{b=1,c=2}]=debug,inmesh::access=off", move |directives| {
            if directives.contains("refused") {
                return Err("no".to_owned());
            }
            sink.lock().unwrap().push(directives.to_owned());
            Ok(())
        });
        filter.set_level(None, "warn").unwrap();
        filter.set_level(Some("inmesh::access"), "info").unwrap();
        filter.set_level(Some("inmesh"), "trace").unwrap();
        assert_eq!(
            filter.directives(),
            "warn,a[x{b=1,c=2}]=debug,inmesh::access=info,inmesh=trace"
        );
        assert_eq!(
            filter.set_level(None, "loud"),
            Err(FilterError::Level("loud".into()))
        );
        let module = "a=trace,b";
        assert_eq!(
            filter.set_level(Some(module), "info"),
            Err(FilterError::Module(module.into()))
        );
        assert!(matches!(
            filter.set_level(Some("refused"), "info"),
            Err(FilterError::Refused(_))
        ));
        assert!(!filter.directives().contains("refused"));
        filter.reset().unwrap();
        assert_eq!(seen.lock().unwrap().len(), 4);
        assert!(filter.directives().starts_with("info,"));
    }
}
