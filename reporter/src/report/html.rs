//! FINAL_REPORT.html: the document as one file that needs nothing else.

use askama::Template;

use super::charts::canvas;
use super::document::{Block, Document};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    document: &'a Document,
    chart_style: String,
}

/// The document as HTML.
pub fn render(document: &Document) -> anyhow::Result<String> {
    let chart_style = canvas::style(".chart ", ".chart ");
    Ok(Page { document, chart_style }.render()?)
}

/// Escapes a text for HTML and makes `code` of what stands between backticks.
pub(crate) fn ticks(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;");
    let parts: Vec<&str> = escaped.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escaped;
    }
    let code = |(index, part): (usize, &&str)| match index % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn what_a_server_wrote_cannot_become_markup() {
        assert_eq!(
            ticks("<script>`a&b`</script>"),
            "&lt;script&gt;<code>a&amp;b</code>&lt;/script&gt;"
        );
        assert_eq!(ticks("one ` tick"), "one ` tick");
    }
}
