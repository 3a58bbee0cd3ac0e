//! Traces as pages for a person: a list of the newest, and one as a tree.

use std::fmt::Write;

use examples::bookinfo::html::escape;

use super::{Span, Trace};

/// How many traces the list shows.
pub(super) const LISTED: usize = 100;
/// No trace of the town is deeper.
const MAX_DEPTH: usize = 40;

const STYLE: &str = "<style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .7rem;border-bottom:1px solid #8884}\
td.n{text-align:right;font-variant-numeric:tabular-nums}small{opacity:.7}.bar{display:block;height:.5rem;border-radius:.25rem;background:#3451b2}</style>";

/// The newest traces.
pub(super) fn list(traces: &[(String, Trace)]) -> String {
    let mut rows = String::new();
    for (id, trace) in traces {
        let Some(first) = trace.spans().first() else {
            continue;
        };
        let _ = write!(
            rows,
            r#"<tr><td><a href="/traces/{id}">{}</a></td><td>{}</td><td class="n">{}</td><td class="n">{:.2} ms</td></tr>"#,
            escape(&title(first)),
            escape(&first.service),
            trace.spans().len(),
            millis(
                first.start,
                trace
                    .spans()
                    .iter()
                    .map(|span| span.end)
                    .max()
                    .unwrap_or(first.end)
            ),
        );
    }
    document(
        "Traces",
        &format!(
            "<p>The newest first. <a href=\"/traces\">Look again</a></p>\
             <table><tr><th>request</th><th>from</th><th>spans</th><th>time</th></tr>{rows}</table>"
        ),
    )
}

/// One trace as a tree.
pub(super) fn one(id: &str, trace: &Trace) -> String {
    let start = trace.spans().first().map_or(0, |span| span.start);
    let end = trace.spans().iter().map(|span| span.end).max().unwrap_or(start);
    let mut rows = String::new();
    for top in trace.roots().chain(trace.orphans()) {
        row(&mut rows, trace, top, 0, (start, end));
    }
    document(
        &format!("Trace {}", escape(id)),
        &format!(
            "<p><a href=\"/traces\">All traces</a></p><table><tr><th>span</th><th>process</th><th></th><th>time</th></tr>{rows}</table>"
        ),
    )
}

fn row(rows: &mut String, trace: &Trace, span: &Span, depth: usize, whole: (u64, u64)) {
    let all = millis(whole.0, whole.1).max(0.001);
    let (left, width) = (
        millis(whole.0, span.start) / all * 100.0,
        millis(span.start, span.end) / all * 100.0,
    );
    let attributes: Vec<String> = span
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let _ = write!(
        rows,
        r#"<tr title="{}"><td style="padding-left:{}rem">{} <small>{}</small></td><td>{}</td><td style="width:30%"><span class="bar" style="margin-left:{left:.1}%;width:{:.1}%"></span></td><td class="n">{:.2} ms</td></tr>"#,
        escape(&attributes.join("\n")),
        0.7 + depth as f64 * 1.2,
        escape(&title(span)),
        span.kind,
        escape(&span.service),
        width.max(0.5),
        millis(span.start, span.end),
    );
    if depth < MAX_DEPTH {
        trace
            .children(span)
            .for_each(|child| row(rows, trace, child, depth + 1, whole));
    }
}

/// What a span is about: the request it stands for, where it stands for one.
fn title(span: &Span) -> String {
    match (
        span.attributes.get("http.request.method"),
        span.attributes.get("url.path"),
    ) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => span.name.clone(),
    }
}

fn millis(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>{STYLE}</head>\
         <body><h1>{title}</h1>{body}</body></html>"
    )
}
