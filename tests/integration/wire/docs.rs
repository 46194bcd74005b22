//! The documentation that the server shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::TestServer;

/// The address that a link of a page leads to, and the heading; none where it leads to another host.
fn target(page: &str, link: &str) -> Option<(String, String)> {
    if link.contains("://") || link.starts_with("data:") {
        return None;
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    if path.is_empty() {
        return Some((page.to_owned(), fragment.to_owned()));
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => assert!(parts.pop().is_some_and(|part| !part.is_empty()), "{page}: {link} leads above the top"),
            "." => {}
            part => parts.push(part),
        }
    }
    Some((format!("/{}", parts.join("/").trim_start_matches('/')), fragment.to_owned()))
}

fn values<'a>(text: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    text.split(&begin).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0)).collect()
}

#[test]
fn every_link_of_the_documentation_leads_to_a_page_and_a_heading_that_are_there() {
    let server = TestServer::start(&[]);
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut open = vec!["/docs".to_owned(), "/docs/search?q=webhook".to_owned()];
    let mut wanted: BTreeSet<(String, String, String)> = BTreeSet::new();
    while let Some(page) = open.pop() {
        if texts.contains_key(&page) {
            continue;
        }
        assert!(texts.len() < 300, "the pages have no end");
        let answer = server.request("GET", &page).send();
        assert_eq!(answer.status, 200, "{page}");
        let is_page = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        let text = answer.text().to_owned();
        if is_page && page.starts_with("/docs") {
            let policy = answer.header("content-security-policy").expect("a policy");
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            assert!(!text.contains("<script>") && !text.contains(" style="), "{page} has what its policy forbids");
            let path = page.split('?').next().expect("a path");
            for link in ["href", "src", "action"].iter().flat_map(|attribute| values(&text, attribute)) {
                assert!(!link.starts_with('/'), "{page}: {link} would not be found below the path of a proxy");
                let Some((to, fragment)) = target(path, link) else { continue };
                if !fragment.is_empty() {
                    wanted.insert((page.clone(), to.clone(), fragment.replace("%20", " ")));
                }
                open.push(to);
            }
        }
        texts.insert(page, text);
    }
    let pages = texts.keys().filter(|page| page.starts_with("/docs/")).count();
    assert!(pages > 40, "{pages} pages");
    for (page, to, fragment) in wanted.into_iter().filter(|(_, to, _)| to.starts_with("/docs")) {
        let text = texts.get(&to).or_else(|| texts.get(&page)).expect("it was read");
        assert!(values(text, "id").contains(&fragment.as_str()), "{page}: {to}#{fragment} leads to no heading");
    }
}

#[test]
fn a_question_is_answered_without_a_script_and_shown_as_it_was_asked() {
    let server = TestServer::start(&[]);
    let ask = |query: &str| server.request("GET", &format!("/docs/search?{query}")).send();
    let answer = ask("q=what+does+4408+mean");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("../docs/errors#websockets-that-are-closed"), "{}", answer.text());
    assert!(answer.text().contains("<mark>4408</mark>") && answer.text().contains("value=\"what does 4408 mean\""));
    let script = ask("q=%3Cscript%3Ealert(1)%3C/script%3E%22%3E+webhook");
    assert!(!script.text().contains("<script>"), "{}", script.text());
    assert!(script.text().contains("value=\"&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt; webhook\""));
    assert!(ask("q=qqzzyyxx").text().contains("Nothing was found"));
    assert!(ask("utm_source=x").text().contains("Type some words"));
    assert!(ask(&format!("q={}", "limit+".repeat(1000))).text().contains("<mark>"));
    assert_eq!(ask("q=%ff%00").status, 200);
    assert_eq!(server.request("GET", "/docs/nonsense").send().status, 404);
    assert_eq!(server.request("GET", "/docs/search.html").send().status, 404);
}
