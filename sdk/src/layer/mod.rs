//! The request path as tower layers: ask an engine, act on the answer.
//!
//! [`stack`] is the table of contents. A request is known to three degrees, and a layer's input type says which it
//! needs: [`Call`] (nothing decided) → [`Routed`] (rule and destination) → [`Directed`] (endpoint).
//!
//! The stack is monomorphic over one body type, [`MeshBody`]: bodies of applications are wrapped once at the ends.
//! That compiles once, however many services use it, and a body that is one of ours or hyper's is taken as it is.

mod admit;
mod ahead;
mod ask;
#[cfg(feature = "jwt")]
mod authenticate;
mod authorize;
mod balance;
mod body;
pub(crate) mod call;
#[cfg(feature = "extauthz")]
mod consult;
mod drain;
mod flags;
mod hygiene;
mod interim;
mod kept;
pub(crate) mod labels;
mod lead;
mod line;
mod messages;
mod mirror;
mod notes;
mod observe;
mod origin;
mod proxied;
mod record;
pub(crate) mod refusal;
mod retry;
mod route;
pub mod stack;
mod tee;
#[cfg_attr(not(feature = "otlp"), path = "untraced.rs")]
mod traced;
#[cfg(feature = "extauthz")]
mod unary;
pub(crate) mod upgrade;

pub use admit::{Admit, AdmitLayer};
pub use ahead::AheadFuture;
pub use ask::{Ask, Asker, Asking};
#[cfg(feature = "jwt")]
pub use authenticate::{Authenticate, AuthenticateLayer, TokenClaims};
pub use authorize::{Authorize, AuthorizeFuture, AuthorizeLayer};
pub use balance::{Balance, BalanceFuture, BalanceLayer};
pub use body::{BoxError, MeshBody};
pub(crate) use body::{Stalled, Watch};
pub use call::{Call, Destination, Directed, Routed, Served, Won};
#[cfg(feature = "extauthz")]
pub(crate) use consult::consult_connection;
#[cfg(feature = "extauthz")]
pub use consult::{Consult, ConsultLayer};
pub use drain::{Drain, Draining, Stage};
pub(crate) use hygiene::MOST_FIELDS;
pub(crate) use interim::Interim;
pub(crate) use lead::lead;
pub use mirror::Mirror;
pub(crate) use notes::Notes;
pub use observe::{Observe, ObserveClient, ObserveClientFuture, ObserveFuture};
pub use origin::Origin;
pub use refusal::{Reason, Refusal, grpc_status};
pub use retry::{Idempotency, ReplayMemory, Retry, RetryLayer};
pub use route::{Directory, Route, RouteFuture, RouteLayer};
pub use stack::{Inbound, Outbound};

pub(crate) use crate::name::chain;
