//! How much at once, and how much per time.

mod adaptive;
mod bucket;
mod circuit;
mod descriptor;
mod each;
mod kinds;
mod local;

pub use adaptive::{AdaptiveLimit, Criticality, Entered, GradientPolicy};
pub use bucket::{BucketPolicy, Left, TokenBucket};
pub use circuit::Limits;
pub use descriptor::{Around, Describe, Descriptor, Field, FieldMatch, Part};
pub use each::Each;
pub use local::{KindPolicy, LocalLimit, LocalPolicy, Taken};
