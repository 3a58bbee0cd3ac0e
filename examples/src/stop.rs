//! Serving until somebody says stop.

use std::time::Duration;

use axum::Router;
use inmesh::Mesh;
use tokio::signal;

/// How long requests in flight may take once the process was told to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// Serves `app` on `port` until SIGTERM or Ctrl-C, then lets the requests in flight finish.
///
/// # Errors
/// If the port cannot be bound.
pub async fn serve(mesh: Mesh, port: u16, app: Router) -> anyhow::Result<()> {
    let stop = tokio::spawn({
        let mesh = mesh.clone();
        async move {
            told_to_stop().await;
            mesh.shutdown(GRACE).await;
        }
    });
    let served = mesh.serve(port, app).await;
    if served.is_err() {
        stop.abort();
        return Ok(served?);
    }
    Ok(stop.await?)
}

/// Resolves at the first SIGTERM or Ctrl-C; never where signals cannot be had.
pub async fn told_to_stop() {
    tokio::select! {
        () = terminated() => {}
        interrupt = signal::ctrl_c() => if interrupt.is_err() { std::future::pending().await },
    }
}

#[cfg(unix)]
async fn terminated() {
    match signal::unix::signal(signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
