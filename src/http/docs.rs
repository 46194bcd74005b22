//! `GET /docs/search`: what the documentation says about a question, as a page that needs no script.

use std::fmt::Write as _;

use actix_web::HttpResponse;

use super::pages;
use super::query::Pairs;
use crate::docs::{self, Found};

/// Stands in the page where the results are put in.
const RESULTS: &str = "\0results";
/// The field of the question, as the page has it.
const FIELD: &str = "name=\"q\" aria-label=\"Search the documentation\" placeholder=\"Search, or ask a question\" maxlength=\"200\" value=\"\"";

/// `GET /docs/search?q=...`
pub async fn search(query: Pairs) -> HttpResponse {
    let question = query.get("q").unwrap_or_default().trim();
    let field = FIELD.replace("value=\"\"", &format!("value=\"{}\"", escaped(question)));
    let page = pages::text("docs/search.html").replace(FIELD, &field).replace(RESULTS, &results(question));
    pages::made(page)
}

fn results(question: &str) -> String {
    let mut text = String::from("<h1>Search</h1>\n");
    if question.is_empty() {
        text.push_str("<p>Type some words, the code of an error, the name of a setting, or a question.</p>\n");
        return text;
    }
    let found = docs::search(question);
    if found.is_empty() {
        text.push_str("<p>Nothing was found. Try other words, or look through the list of all pages.</p>\n");
        return text;
    }
    text.push_str("<ol class=\"found\">\n");
    for Found { page, title, anchor, heading, excerpt } in found {
        let fragment = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
        // writing into a text cannot fail
        let _ = write!(text, "<li><a href=\"../docs/{page}{fragment}\">{}</a>", escaped(heading));
        if heading != title {
            let _ = write!(text, " <span class=\"soft\">in {}</span>", escaped(title));
        }
        text.push_str("<p>");
        for (piece, is_marked) in excerpt {
            let piece = escaped(&piece);
            match is_marked {
                true => drop(write!(text, "<mark>{piece}</mark>")),
                false => text.push_str(&piece),
            }
        }
        text.push_str("</p></li>\n");
    }
    text.push_str("</ol>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_places_that_are_filled() {
        let page = pages::text("docs/search.html");
        assert_eq!((page.matches(FIELD).count(), page.matches(RESULTS).count()), (1, 1));
    }
}
