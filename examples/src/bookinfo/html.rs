//! The product page as HTML. Whatever comes from outside is escaped; nothing is loaded from elsewhere.

use std::fmt::Write;

use serde_json::Value;

/// The style sheet.
pub const CSS: &str = include_str!("static/bookinfo.css");
/// The front door.
pub const INDEX: &str = include_str!("static/index.html");

/// What the page shows.
pub struct Page<'a> {
    /// The book's title.
    pub title: &'a str,
    /// Who is signed in.
    pub user: Option<&'a str>,
    /// The answer of details, or why there is none.
    pub details: Result<&'a Value, &'a anyhow::Error>,
    /// The answer of reviews, or why there is none.
    pub reviews: Result<&'a Value, &'a anyhow::Error>,
    /// The pod that renders the page.
    pub pod: &'a str,
}

impl Page<'_> {
    /// The whole document.
    pub fn render(&self) -> String {
        let title = escape(self.title);
        let session = self.session();
        let details = self
            .details
            .map_or_else(|error| unavailable("details", error), details);
        let reviews = self
            .reviews
            .map_or_else(|error| unavailable("reviews", error), reviews);
        let pod = escape(self.pod);
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · BookInfo</title>
<link rel="stylesheet" href="/static/bookinfo.css">
</head>
<body>
<header><a class="brand" href="/productpage">BookInfo</a>{session}</header>
<main>
<section class="hero">
<h1>{title}</h1>
<p>Two pairs of twins, one town, one day, and nobody knows who is who.</p>
</section>
<div class="columns">
<section class="card"><h2>Book details</h2>{details}</section>
<section class="card"><h2>Book reviews</h2>{reviews}</section>
</div>
</main>
<footer>Rendered by <code>{pod}</code>, which speaks HBONE by itself: there is no proxy beside it.</footer>
</body>
</html>
"#
        )
    }

    fn session(&self) -> String {
        match self.user {
            Some(user) => format!(
                r#"<span class="session">Signed in as <b>{}</b> <a class="button" href="/logout">Sign out</a></span>"#,
                escape(user)
            ),
            None => r#"<form class="session" method="post" action="/login">
<input name="username" placeholder="your name" aria-label="your name" maxlength="64" required>
<button>Sign in</button></form>"#
                .to_owned(),
        }
    }
}

/// The facts, in the order a reader expects them.
fn details(details: &Value) -> String {
    const FACTS: [(&str, &str); 8] = [
        ("Author", "author"),
        ("Year", "year"),
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ];
    let mut html = String::from("<dl>");
    for (label, key) in FACTS {
        let _ = write!(html, "<dt>{label}</dt><dd>{}</dd>", escape(&plain(&details[key])));
    }
    html + "</dl>"
}

fn reviews(answer: &Value) -> String {
    let mut html = String::new();
    for review in answer["reviews"].as_array().into_iter().flatten() {
        let _ = write!(
            html,
            "<blockquote><p>{}</p>{}<cite>— {}</cite></blockquote>",
            escape(&plain(&review["text"])),
            stars(review.get("rating")),
            escape(&plain(&review["reviewer"])),
        );
    }
    let pod = escape(&plain(&answer["podname"]));
    let _ = write!(
        html,
        r#"<p class="served">Reviews served by <code>{pod}</code></p>"#
    );
    html
}

/// The stars of one review: none where the version shows none, else black or red.
fn stars(rating: Option<&Value>) -> String {
    let Some(rating) = rating else {
        return String::new();
    };
    if let Some(error) = rating.get("error") {
        return format!(r#"<p class="error">{}</p>"#, escape(&plain(error)));
    }
    let class = if rating["color"] == "red" { "red" } else { "black" };
    let count = rating["stars"].as_u64().unwrap_or(0).min(5);
    let full: String = (0..count).map(|_| '★').collect();
    let empty: String = (count..5).map(|_| '☆').collect();
    format!(r#"<p class="stars {class}" aria-label="{count} of 5 stars">{full}{empty}</p>"#)
}

fn unavailable(section: &str, error: &anyhow::Error) -> String {
    format!(
        r#"<p class="error">Sorry, {section} of this product are currently unavailable.</p><p class="why">{}</p>"#,
        escape(&format!("{error:#}"))
    )
}

/// A JSON value as a person writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text that may stand anywhere in HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(details: &Value, reviews: &Value) -> String {
        let page = Page {
            title: "T",
            user: Some("<b>"),
            details: Ok(details),
            reviews: Ok(reviews),
            pod: "p-1",
        };
        page.render()
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let html = page(
            &json!({ "author": "<script>" }),
            &json!({ "reviews": [{ "text": "a & b" }] }),
        );
        assert!(
            html.contains("&lt;script&gt;")
                && html.contains("a &amp; b")
                && html.contains("<b>&lt;b&gt;</b>")
        );
        assert!(!html.contains("<script>"));
    }

    #[test]
    fn stars_are_none_black_or_red() {
        assert_eq!(stars(None), "");
        assert!(stars(Some(&json!({ "stars": 4, "color": "black" }))).contains("stars black"));
        let red = stars(Some(&json!({ "stars": 5, "color": "red" })));
        assert!(red.contains("stars red") && red.contains("★★★★★"));
    }

    #[test]
    fn a_section_that_is_missing_says_why() {
        let error = anyhow::anyhow!("connection <refused>");
        let details = json!({});
        let page = Page {
            title: "T",
            user: None,
            details: Ok(&details),
            reviews: Err(&error),
            pod: "p",
        }
        .render();
        assert!(page.contains("currently unavailable") && page.contains("connection &lt;refused&gt;"));
    }
}
