//! What comes of a request.

use std::fmt;

use crate::name::ResourceRef;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It reaches the application, or is sent on.
    Allowed,
    /// It is denied: 403, or no connection at all.
    Denied,
    /// Its token is not believed: 401.
    Unauthorized,
    /// It is not judged at all: 400.
    BadRequest,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::BadRequest => "refused as malformed",
        })
    }
}

/// What comes of a request, and why; its assertions say both when they fail.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub(super) answer: Answer,
    pub(super) by: Option<(ResourceRef, u32)>,
    /// The request, and where it was judged.
    pub(super) asked: String,
    /// Why, in as many lines as it takes.
    pub(super) why: String,
}

impl Verdict {
    /// What becomes of the request.
    pub fn answer(&self) -> Answer {
        self.answer
    }

    /// The policy and the index of the rule that decided; `None` if none did.
    pub fn by(&self) -> Option<(&ResourceRef, u32)> {
        self.by.as_ref().map(|(policy, rule)| (policy, *rule))
    }

    /// Why, for people.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Fails unless the request is allowed.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    #[allow(clippy::must_use_candidate)] // mostly called for its panic
    pub fn assert_allowed(&self) -> &Self {
        self.assert(Answer::Allowed)
    }

    /// Fails unless the request is denied.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    #[allow(clippy::must_use_candidate)]
    pub fn assert_denied(&self) -> &Self {
        self.assert(Answer::Denied)
    }

    /// Fails unless the request's token is refused.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    #[allow(clippy::must_use_candidate)]
    pub fn assert_unauthorized(&self) -> &Self {
        self.assert(Answer::Unauthorized)
    }

    /// Fails unless this rule of this policy (`namespace/name`) decided.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    #[allow(clippy::must_use_candidate)]
    pub fn assert_by(&self, policy: &str, rule: u32) -> &Self {
        let by = self.by.as_ref();
        let decided = by.is_some_and(|(by, index)| {
            *index == rule && policy.split_once('/') == Some((&*by.namespace, &*by.name))
        });
        assert!(decided, "{policy} rule {rule} should have decided\n{self}");
        self
    }

    #[track_caller]
    fn assert(&self, expected: Answer) -> &Self {
        assert!(
            self.answer == expected,
            "the request should have been {expected}\n{self}"
        );
        self
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}\n{}", self.asked, self.answer, self.why.trim_end())
    }
}
