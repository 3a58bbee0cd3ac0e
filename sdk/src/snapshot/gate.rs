//! A gate: everything that judges requests to one target.

use std::sync::Arc;

use super::Authorizer;
#[cfg(feature = "jwt")]
use super::KeyCell;
use crate::policy::authz::AuthzEngine;
#[cfg(feature = "jwt")]
use crate::policy::token::{KeyRing, Lookup, TokenCache, TokenRules};

/// Everything that judges requests to one target: whose tokens are believed, and who may do what.
#[derive(Debug)]
pub struct Gate {
    /// Who may do what.
    pub authz: Arc<AuthzEngine>,
    /// Whose tokens are believed; `None` where nobody asks for any.
    pub tokens: Option<TokenGuard>,
    /// Who is asked first, if a CUSTOM policy names somebody who can be asked.
    pub authorizer: Option<Arc<Authorizer>>,
}

/// Whose tokens are believed, and the keys to tell.
#[cfg(feature = "jwt")]
#[derive(Debug)]
pub struct TokenGuard {
    /// The rules.
    pub rules: TokenRules,
    /// What the rules' key sources are.
    pub keys: Vec<Arc<KeyCell>>,
}

/// Nobody's tokens can be verified without feature `jwt`: what asks for it denies.
#[cfg(not(feature = "jwt"))]
#[derive(Debug)]
pub enum TokenGuard {}

impl Gate {
    /// A gate that lets nothing through, and says why.
    pub fn closed(why: impl Into<Arc<str>>) -> Self {
        Self {
            authz: Arc::new(AuthzEngine::deny_all(why)),
            tokens: None,
            authorizer: None,
        }
    }
}

#[cfg(feature = "jwt")]
impl KeyRing for TokenGuard {
    fn keys(&self, source: usize) -> Lookup {
        self.keys.get(source).map_or(Lookup::Failed, |cell| cell.lookup())
    }

    fn cache(&self, source: usize) -> Option<&TokenCache> {
        self.keys.get(source).map(|cell| cell.cache())
    }
}
