//! Makes of the documentation in Markdown the pages that the server shows below `/docs`, and the index by which they are searched.
//!
//! A page is whole HTML, with the list of all pages beside it, that reads without JavaScript. All its addresses are relative, so
//! that a proxy may serve it below a path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::words;

/// Pages beside those of `docs/`, and their names.
const OTHERS: [(&str, &str); 8] = [
    ("clients/README.md", "clients"),
    ("clients/python/README.md", "clients/python"),
    ("clients/typescript/README.md", "clients/typescript"),
    ("clients/go/README.md", "clients/go"),
    ("CHANGELOG.md", "changelog"),
    ("ARCHITECTURE.md", "architecture"),
    ("CONTRIBUTING.md", "contributing"),
    ("SECURITY.md", "report-a-vulnerability"),
];
/// How much pages count that are more often meant than others, or less often.
const SHARES: [(&str, f64); 7] = [
    ("errors", 1.3),
    ("cli", 0.9),
    ("metrics", 0.8),
    ("settings", 0.7),
    ("architecture", 0.5),
    ("changelog", 0.5),
    ("contributing", 0.5),
];
/// The list of all pages, which is the first page.
const CONTENTS: &str = "docs/README.md";
const TEMPLATE: &str = include_str!("page.html");

pub struct Made {
    /// Files to be served, by their names below `/`.
    pub files: Vec<(String, Vec<u8>)>,
    /// The index, as an expression of Rust.
    pub index: String,
    /// Where a section occurs, three bytes each: its number, little endian, and its weight.
    pub postings: Vec<u8>,
}

/// A page as it is written.
struct Source {
    /// From the top of the repository.
    path: String,
    /// Its address below `/docs/`; empty is `/docs` itself.
    name: String,
    text: String,
}

/// A heading and what stands below it.
struct Section {
    page: usize,
    anchor: String,
    heading: String,
    /// A line for each paragraph, row or line of code.
    text: String,
    /// What stands as code in the first column of its tables: what the rows are about.
    keys: String,
}

/// A page that was read.
struct Page {
    title: String,
    body: String,
    sections: Vec<Section>,
}

/// Where everything is, for links.
struct Places<'a> {
    root: &'a Path,
    names: BTreeMap<&'a str, &'a str>,
    /// Files of the repository that pages lead to, and the names under which they are shown.
    files: BTreeMap<String, String>,
}

pub fn make(root: &Path) -> io::Result<Made> {
    let sources = sources(root)?;
    let names = sources.iter().map(|source| (source.path.as_str(), source.name.as_str())).collect();
    let mut places = Places { root, names, files: BTreeMap::new() };
    let pages: Vec<Page> =
        sources.iter().enumerate().map(|(n, source)| read(n, source, &mut places)).collect::<Result<_, _>>()?;
    let contents = contents(&sources, &places)?;
    let mut files = Vec::new();
    for (source, page) in sources.iter().zip(&pages) {
        let name = if source.name.is_empty() { "docs".to_owned() } else { format!("docs/{}", source.name) };
        files.push((format!("{name}.html"), whole(&source.name, page, &contents).into_bytes()));
    }
    for (path, name) in &places.files {
        println!("cargo::rerun-if-changed={path}");
        let text = escaped(&fs::read_to_string(root.join(path))?);
        let body = format!("<h1>{path}</h1>\n<pre tabindex=\"0\"><code>{text}</code></pre>\n");
        let page = Page { title: path.clone(), body, sections: Vec::new() };
        files.push((format!("docs/{name}.html"), whole(name, &page, &contents).into_bytes()));
    }
    // what is asked for and found is put into it by the server
    let search = Page { title: "Search".into(), body: "\0results".into(), sections: Vec::new() };
    files.push(("docs/search.html".into(), whole("search", &search, &contents).into_bytes()));
    for entry in fs::read_dir(root.join("docs"))? {
        // the pictures of pages
        let path = entry?.path();
        if let (Some("svg"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_name()) {
            files.push((format!("docs/{}", name.to_string_lossy()), fs::read(&path)?));
        }
    }
    let (index, postings) = index(&sources, &pages);
    Ok(Made { files, index, postings })
}

fn sources(root: &Path) -> io::Result<Vec<Source>> {
    let mut paths: Vec<(String, String)> = OTHERS.map(|(path, name)| (path.into(), name.into())).into();
    for folder in ["docs", "docs/operations"] {
        println!("cargo::rerun-if-changed={folder}");
        for entry in fs::read_dir(root.join(folder))? {
            let name = entry?.file_name().into_string().map_err(|_| io::Error::other("a name that is no text"))?;
            if let Some(stem) = name.strip_suffix(".md") {
                let path = format!("{folder}/{name}");
                let name = if path == CONTENTS { "" } else { stem };
                let below = folder.strip_prefix("docs/").map_or_else(String::new, |below| format!("{below}/"));
                paths.push((path, format!("{below}{name}")));
            }
        }
    }
    paths.sort();
    let read = |(path, name): (String, String)| {
        println!("cargo::rerun-if-changed={path}");
        let text = fs::read_to_string(root.join(&path)).map_err(|e| io::Error::other(format!("{path}: {e}")))?;
        Ok(Source { path, name, text })
    };
    paths.into_iter().map(read).collect()
}

/// How a page gets to the top of the server.
fn up(name: &str) -> &'static str {
    match (name.is_empty(), name.contains('/')) {
        (true, _) => "",
        (false, false) => "../",
        (false, true) => "../../",
    }
}

/// The address of a page as seen from another one.
fn address(from: &str, to: &str) -> String {
    if to.is_empty() { format!("{}docs", up(from)) } else { format!("{}docs/{to}", up(from)) }
}

impl Places<'_> {
    /// Where a link of a page leads; none where there is nothing that the server could show.
    fn target(&mut self, source: &Source, link: &str) -> Option<String> {
        if link.starts_with('#') || link.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/')) {
            return Some(link.to_owned());
        }
        let (path, fragment) = link.split_once('#').map_or((link, None), |(path, fragment)| (path, Some(fragment)));
        let path = beside(&source.path, path);
        let to = match path.as_str() {
            // the pages that show the documents, and lead to them
            "docs/openapi.json" => "reference".to_owned(),
            "docs/asyncapi.json" => "streams".to_owned(),
            "README.md" => String::new(),
            path => match self.names.get(path) {
                Some(name) => (*name).to_owned(),
                None if self.root.join(path).is_file() => {
                    let name = format!("file/{}", path.replace('/', "-"));
                    self.files.insert(path.to_owned(), name.clone());
                    name
                }
                None => return None,
            },
        };
        let fragment = fragment.map_or_else(String::new, |fragment| format!("#{fragment}"));
        Some(address(&source.name, &to) + &fragment)
    }
}

/// A path that is relative to a file, from the top of the repository.
fn beside(file: &str, path: &str) -> String {
    let joined = Path::new(file).parent().unwrap_or(Path::new("")).join(path);
    let mut parts = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(part) => parts.push(part),
            _ => {}
        }
    }
    parts.to_string_lossy().into_owned()
}

/// What GitHub calls a heading, so that links that work there work here.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn read(n: usize, source: &Source, places: &mut Places<'_>) -> io::Result<Page> {
    let mut page = Page { title: String::new(), body: String::new(), sections: Vec::new() };
    let mut events: Vec<Event<'_>> = Vec::new();
    // the place of the heading that is being read, and its text
    let mut heading: Option<(usize, HeadingLevel, String)> = None;
    let mut text = String::new();
    let mut is_dead = Vec::new();
    let mut in_code = false;
    // how many cells of the row have begun
    let mut cells = 0;
    for event in Parser::new_ext(&source.text, Options::ENABLE_TABLES) {
        let is_new_line = matches!(
            event,
            Event::End(TagEnd::Paragraph | TagEnd::TableRow | TagEnd::TableHead | TagEnd::Item | TagEnd::CodeBlock)
        );
        match &event {
            Event::Start(Tag::TableRow | Tag::TableHead) => cells = 0,
            Event::Start(Tag::TableCell) => cells += 1,
            Event::End(TagEnd::TableRow) => cells = 0,
            Event::Code(said) if cells == 1 => {
                if let Some(section) = page.sections.last_mut() {
                    section.keys.push_str(said);
                    section.keys.push('\n');
                }
            }
            _ => {}
        }
        match &event {
            Event::Text(said) | Event::Code(said) => match &mut heading {
                Some((_, _, heading)) => heading.push_str(said),
                None => text.push_str(said),
            },
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            Event::End(TagEnd::TableCell) => text.push_str("  "),
            _ => {}
        }
        match event {
            // they steer the tests of the documentation
            Event::Html(said) | Event::InlineHtml(said)
                if said.trim_start().starts_with("<!--") || said.trim().is_empty() =>
            {
                continue;
            }
            Event::Html(said) | Event::InlineHtml(said) => {
                return Err(io::Error::other(format!(
                    "{} has HTML, which the server does not show: {said}",
                    source.path
                )));
            }
            Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => continue,
            Event::Start(Tag::Heading { level, .. }) => {
                heading = Some((events.len(), level, String::new()));
                events.push(event);
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some((at, level, said)) = heading.take() {
                    headed(&mut page, n, &said, level, &mut text);
                    if let Some(Event::Start(Tag::Heading { id, .. })) = events.get_mut(at) {
                        *id = Some(anchor(&said).into());
                    }
                }
                events.push(event);
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let target = places.target(source, &dest_url);
                is_dead.push(target.is_none());
                if let Some(target) = target {
                    events.push(Event::Start(Tag::Link { link_type, dest_url: target.into(), title, id }));
                }
            }
            Event::End(TagEnd::Link) if is_dead.pop() == Some(true) => continue,
            // an alignment would be a style, which the pages' policy does not take
            Event::Start(Tag::Table(columns)) => {
                events.push(Event::Html(CowStr::Borrowed("<div class=\"wide\" tabindex=\"0\">")));
                events.push(Event::Start(Tag::Table(vec![Alignment::None; columns.len()])));
            }
            Event::End(TagEnd::Table) => {
                events.push(event);
                events.push(Event::Html(CowStr::Borrowed("</div>\n")));
            }
            Event::Start(Tag::CodeBlock(_)) => {
                in_code = true;
                events.push(event);
            }
            Event::End(TagEnd::CodeBlock) => {
                in_code = false;
                events.push(event);
            }
            event => events.push(event),
        }
        if is_new_line && !in_code {
            text.push('\n');
        }
    }
    close(&mut page, &mut text);
    if page.title.is_empty() {
        return Err(io::Error::other(format!("{} begins with no heading", source.path)));
    }
    html::push_html(&mut page.body, events.into_iter());
    // what may be too wide is scrolled by the keyboard as well
    page.body = page.body.replace("<pre>", "<pre tabindex=\"0\">");
    Ok(page)
}

/// Ends the section above a heading and begins its own. What stands deeper than the third level belongs to that above it.
fn headed(page: &mut Page, n: usize, heading: &str, level: HeadingLevel, text: &mut String) {
    close(page, text);
    let anchor = if level == HeadingLevel::H1 { String::new() } else { anchor(heading) };
    if level == HeadingLevel::H1 {
        page.title = heading.to_owned();
    }
    page.sections.push(Section {
        page: n,
        anchor,
        heading: heading.to_owned(),
        text: String::new(),
        keys: String::new(),
    });
}

fn close(page: &mut Page, text: &mut String) {
    let text = std::mem::take(text);
    if let Some(section) = page.sections.last_mut() {
        section.text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    }
}

/// Pages that stand together in the list of all pages.
struct Group {
    title: String,
    /// The name of each page, and what it is called there.
    pages: Vec<(String, String)>,
}

/// The groups of pages in their order.
fn contents(sources: &[Source], places: &Places<'_>) -> io::Result<Vec<Group>> {
    let source = sources.iter().find(|source| source.path == CONTENTS);
    let source = source.ok_or_else(|| io::Error::other("docs/README.md is missing"))?;
    let mut groups: Vec<Group> = Vec::new();
    let (mut in_strong, mut in_list, mut link) = (false, 0, None);
    let mut seen = BTreeSet::new();
    for event in Parser::new_ext(&source.text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Strong) if in_list == 0 => {
                in_strong = true;
                groups.push(Group { title: String::new(), pages: Vec::new() });
            }
            Event::End(TagEnd::Strong) => in_strong = false,
            Event::Start(Tag::List(_)) => in_list += 1,
            Event::End(TagEnd::List(_)) => in_list -= 1,
            Event::Start(Tag::Link { dest_url, .. }) if in_list > 0 => {
                let path = beside(CONTENTS, dest_url.split('#').next().unwrap_or_default());
                let name = places.names.get(path.as_str()).map(|name| (*name).to_owned());
                link = name.filter(|name| seen.insert(name.clone())).map(|name| (name, String::new()));
            }
            Event::End(TagEnd::Link) => {
                if let (Some((name, called)), Some(Group { pages, .. })) = (link.take(), groups.last_mut()) {
                    let first: String = called.chars().take(1).flat_map(char::to_uppercase).collect();
                    pages.push((name, first + called.chars().skip(1).collect::<String>().as_str()));
                }
            }
            Event::Text(said) | Event::Code(said) => match (&mut link, groups.last_mut()) {
                (Some((_, called)), _) => called.push_str(&said),
                (None, Some(Group { title, .. })) if in_strong => title.push_str(&said),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(groups)
}

fn whole(name: &str, page: &Page, contents: &[Group]) -> String {
    let mut list = String::new();
    for Group { title, pages } in contents {
        let _ = writeln!(list, "<h2>{}</h2>\n<ul>", escaped(title));
        for (other, called) in pages {
            let current = if other == name { " aria-current=\"page\"" } else { "" };
            let _ = writeln!(list, "<li><a href=\"{}\"{current}>{}</a></li>", address(name, other), escaped(called));
        }
        list.push_str("</ul>\n");
    }
    let all: Vec<_> = contents.iter().flat_map(|group| &group.pages).collect();
    let at = all.iter().position(|(other, _)| other == name);
    let mut turn = String::new();
    let neighbours = [("prev", at.and_then(|at| at.checked_sub(1))), ("next", at.map(|at| at + 1))];
    for (rel, at) in neighbours {
        if let Some((other, called)) = at.and_then(|at| all.get(at)) {
            let _ = writeln!(turn, "<a rel=\"{rel}\" href=\"{}\">{}</a>", address(name, other), escaped(called));
        }
    }
    let mut inside = String::new();
    // the headings of the second level: those of the third stand below them and would make the list long
    let headings: Vec<_> = page.body.split("<h2 id=\"").skip(1).filter_map(|rest| rest.split_once("\">")).collect();
    if headings.len() > 2 {
        inside.push_str("<details class=\"inside\" open><summary>On this page</summary>\n<ul>\n");
        for (anchor, rest) in headings {
            let said = rest.split_once("</h2>").map_or("", |(said, _)| said);
            let _ = writeln!(inside, "<li><a href=\"#{anchor}\">{}</a></li>", without_tags(said));
        }
        inside.push_str("</ul>\n</details>\n");
    }
    let title = escaped(&page.title);
    let body = page.body.replacen("</h1>\n", &format!("</h1>\n{inside}"), 1);
    [("{title}", title.as_str()), ("{list}", &list), ("{turn}", &turn), ("{up}", up(name)), ("{body}", &body)]
        .iter()
        .fold(TEMPLATE.to_owned(), |text, (place, value)| text.replace(place, value))
}

fn without_tags(text: &str) -> String {
    let mut depth = 0;
    text.chars()
        .filter(|c| {
            depth += i32::from(*c == '<');
            let is_shown = depth == 0;
            depth -= i32::from(*c == '>');
            is_shown
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The index: how much each section says about each term, as BM25 has it, with headings and titles counted more.
fn index(sources: &[Source], pages: &[Page]) -> (String, Vec<u8>) {
    // the list of all pages would be found by everything
    let sections: Vec<&Section> =
        pages.iter().zip(sources).filter(|(_, s)| !s.name.is_empty()).flat_map(|(page, _)| &page.sections).collect();
    let terms = |text: &str| {
        let places = words::places(text).into_iter();
        places.flat_map(|(from, to)| words::terms(&text[from..to])).collect::<Vec<_>>()
    };
    let bodies: Vec<_> = sections.iter().map(|section| terms(&section.text)).collect();
    let average = bodies.iter().map(Vec::len).sum::<usize>() as f64 / bodies.len().max(1) as f64;
    let mut weights: BTreeMap<String, BTreeMap<usize, f64>> = BTreeMap::new();
    for (n, (section, body)) in sections.iter().zip(&bodies).enumerate() {
        let name = sources[section.page].name.as_str();
        let share = SHARES.iter().find(|(page, _)| *page == name).map_or(1.0, |(_, share)| *share);
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for term in body {
            *counts.entry(term).or_default() += 1.0;
        }
        let mut add = |term: &str, weight: f64| {
            *weights.entry(term.to_owned()).or_default().entry(n).or_default() += weight * share;
        };
        for (term, count) in counts {
            add(term, count * 2.2 / (count + 1.2 * (0.4 + 0.6 * body.len() as f64 / average)));
        }
        let title = pages[section.page].title.as_str();
        for (text, weight) in [(section.heading.as_str(), 3.0), (section.keys.as_str(), 2.0), (title, 1.5)] {
            for term in terms(text).into_iter().collect::<BTreeSet<_>>() {
                add(&term, weight);
            }
        }
    }
    let (mut table, mut postings) = (String::new(), Vec::new());
    for (term, of) in &weights {
        let from = postings.len() / 3;
        for (section, weight) in of {
            // sections are some hundreds
            postings.extend((*section as u16).to_le_bytes());
            postings.push((weight * 25.0).round().clamp(1.0, 255.0) as u8);
        }
        let _ = writeln!(table, "({term:?}, {from}, {}),", of.len());
    }
    let mut text = String::from("Index {\npages: &[\n");
    for (source, page) in sources.iter().zip(pages) {
        let _ = writeln!(text, "({:?}, {:?}),", source.name, page.title);
    }
    text.push_str("],\nsections: &[\n");
    for Section { page, anchor, heading, text: said, .. } in sections {
        let _ = writeln!(text, "Section {{ page: {page}, anchor: {anchor:?}, heading: {heading:?}, text: {said:?} }},");
    }
    let _ = write!(text, "],\nterms: &[\n{table}],\npostings: include_bytes!(\"postings\"),\n}}");
    (text, postings)
}
