//! A real browser, told what to do as the WebDriver standard has it (W3C "WebDriver").
//!
//! Chromium and its driver are Debian's `chromium` and `chromium-driver`. Where they are not there, tests that need them say
//! so and pass: [`Browser::start`] gives `None`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::wait::until;

/// A browser with one window; closed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    /// Where the browser keeps what it keeps.
    _profile: TempDir,
}

/// The names under which the two are installed.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const DRIVER: &str = "chromedriver";

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

impl Browser {
    /// Starts one, if it is installed.
    pub async fn start(width: u32, height: u32) -> Result<Option<Self>> {
        let browser = BROWSERS.iter().find_map(|name| installed(name));
        let (Some(browser), Some(driver)) = (browser, installed(DRIVER)) else {
            eprintln!("SKIPPED: needs a browser (Debian: apt-get install chromium chromium-driver)");
            return Ok(None);
        };
        let profile = tempfile::Builder::new().prefix("inmesh-browser-").tempdir()?;
        let mut child = Command::new(driver)
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("the driver has an output")?;
        let port = match port(stdout).await {
            Ok(port) => port,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let mut started = Self {
            driver: child,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            _profile: profile,
        };
        let options = json!({
            "binary": browser,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
                format!("--user-data-dir={}", started._profile.path().join("data").display()),
                format!("--window-size={width},{height}"),
            ],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" },
        }}});
        let begun = started.tell(Method::POST, "/session", &wanted).await?;
        let session = begun["sessionId"].as_str().context("no session was begun")?;
        started.session = format!("/session/{session}");
        Ok(Some(started))
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.command("/url", &json!({ "url": url })).await.map(drop)
    }

    /// Runs a script (the body of a function) in the page and gives what it returns.
    pub async fn run(&self, script: &str) -> Result<Value> {
        let script = json!({ "script": script, "args": [] });
        self.command("/execute/sync", &script).await
    }

    /// Waits until an expression holds in the page.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn until(&self, expression: &str) {
        until(&format!("`{expression}` holds in the page"), || async {
            let held = self.run(&format!("return !!({expression});")).await;
            held.is_ok_and(|held| held == true)
        })
        .await;
    }

    /// The text that is seen of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let text = self
            .run(&format!(
                "return document.querySelector({})?.innerText",
                json!(selector)
            ))
            .await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks on the first element that a selector finds, where a hand would.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.find(selector).await?;
        self.command(&format!("/element/{element}/click"), &json!({}))
            .await
            .map(drop)
    }

    /// Types into the first element that a selector finds, after what is there.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.find(selector).await?;
        self.command(&format!("/element/{element}/value"), &json!({ "text": text }))
            .await
            .map(drop)
    }

    /// Presses a key, whatever has the focus.
    pub async fn press(&self, key: &str) -> Result<()> {
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ]}]});
        self.command("/actions", &actions).await.map(drop)
    }

    /// Has the page believe that dark, or light, is preferred.
    pub async fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }))
            .await
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, params: Value) -> Result<()> {
        self.command("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
            .await
            .map(drop)
    }

    /// Writes what is seen to a PNG file.
    pub async fn picture(&self, file: &Path) -> Result<()> {
        let path = format!("{}/screenshot", self.session);
        let taken = self.tell(Method::GET, &path, &Value::Null).await?;
        let encoded = taken.as_str().context("a picture is text")?;
        let png = base64::engine::general_purpose::STANDARD.decode(encoded)?;
        Ok(std::fs::write(file, png)?)
    }

    /// Writes what is seen to a WebP file of at most so many bytes: a fraction of a PNG, and hardly to be told from it. A
    /// picture that is larger is taken again, coarser.
    pub async fn small_picture(&self, file: &Path, largest: usize) -> Result<()> {
        let mut smallest = usize::MAX;
        for quality in (30..=90).rev().step_by(5) {
            let how = json!({ "format": "webp", "quality": quality });
            let command = json!({ "cmd": "Page.captureScreenshot", "params": how });
            let taken = self.command("/goog/cdp/execute", &command).await?;
            let encoded = taken["data"].as_str().context("a picture is text")?;
            let webp = base64::engine::general_purpose::STANDARD.decode(encoded)?;
            if webp.len() <= largest {
                return Ok(std::fs::write(file, webp)?);
            }
            smallest = smallest.min(webp.len());
        }
        anyhow::bail!(
            "{} would have {smallest} bytes at least, of {largest}",
            file.display()
        )
    }

    /// The addresses that pages asked for since this was called last; the browser's own pages are not among them.
    pub async fn requested(&self) -> Result<Vec<String>> {
        let entries = self.log("performance").await?;
        let events = entries.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let asked = event["method"] == "Network.requestWillBeSent";
            let url = event["params"]["request"]["url"].as_str()?;
            (asked && !url.starts_with("chrome://")).then(|| url.to_owned())
        });
        Ok(events.collect())
    }

    /// What the page complained of since this was called last: errors, and breaches of its security policy.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.log("browser").await?;
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        Ok(severe.map(|entry| entry["message"].to_string()).collect())
    }

    async fn log(&self, kind: &str) -> Result<Vec<Value>> {
        let entries = self.command("/se/log", &json!({ "type": kind })).await?;
        Ok(entries.as_array().cloned().unwrap_or_default())
    }

    async fn find(&self, selector: &str) -> Result<String> {
        let found = self
            .command("/element", &json!({ "using": "css selector", "value": selector }))
            .await?;
        let element = found.as_object().and_then(|it| it.values().next());
        let element = element.and_then(Value::as_str);
        Ok(element
            .with_context(|| format!("there is no {selector}"))?
            .to_owned())
    }

    async fn command(&self, path: &str, body: &Value) -> Result<Value> {
        self.tell(Method::POST, &format!("{}{path}", self.session), body)
            .await
    }

    async fn tell(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let told = tokio::time::timeout(PATIENCE, self.send(method, path, body)).await;
        let value = told.with_context(|| format!("{path} was not answered"))??;
        let error = value["value"]["error"]
            .as_str()
            .filter(|_| value["value"]["message"].is_string());
        ensure!(error.is_none(), "{path}: {}", value["value"]);
        Ok(value["value"].clone())
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let stream = TcpStream::connect(self.at).await?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let text = if method == Method::GET {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.at.to_string())
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(text)))?;
        let response = sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Ends a session, and waits until that is done.
fn end(at: SocketAddr, session: &str) -> std::io::Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "DELETE {session} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n"
    )?;
    stream.read_to_string(&mut String::new()).map(drop)
}

/// The port that the driver says it listens on.
async fn port(stdout: std::process::ChildStdout) -> Result<u16> {
    let stdout = tokio::process::ChildStdout::from_std(stdout)?;
    let mut lines = BufReader::new(stdout).lines();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await? {
            let number = line
                .rsplit("on port ")
                .next()
                .map(|rest| rest.trim_end_matches('.'));
            // Before it has one, it says that it is to be any: 0.
            match number.and_then(|number| number.parse().ok()) {
                None | Some(0) => {}
                Some(port) => return Ok(port),
            }
        }
        bail!("the driver ended without saying where it listens")
    });
    let port = found.await.context("the driver did not say where it listens")??;
    // What else it says must go somewhere.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(port)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes its browser at the session's end. What fails here fails because it is gone already.
        if !self.session.is_empty() {
            let _ = end(self.at, &self.session);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
