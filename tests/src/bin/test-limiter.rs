//! A rate limit service as a process of the tests: `test-limiter ADDRESS DOMAIN LIMITS`.

use anyhow::{Context, Result};
use inmesh_tests::kit::limiter::Limiter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: test-limiter ADDRESS DOMAIN LIMITS");
    let at = next()?.parse()?;
    let (domain, limits) = (next()?, next()?);
    Limiter::new(&domain, &limits)?.serve(at).await
}
