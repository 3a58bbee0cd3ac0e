//! How much at once, and how much per time.

mod bucket;
mod circuit;

pub use bucket::{BucketPolicy, Left, TokenBucket};
pub use circuit::Limits;
