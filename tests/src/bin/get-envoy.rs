//! Installs Envoy under `target/` for the interop tests and the comparison, and prints where it is.

fn main() -> anyhow::Result<()> {
    println!("{}", inmesh_tests::envoy::install()?.display());
    Ok(())
}
