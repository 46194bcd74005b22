//! What GitHub sends (and those who send in its form, as Gitea does), as people are shown it: who did what to which
//! repository, and the page where it is.

use serde_json::Value;

use super::rows::{BLUE, GREEN, Path, RED};
use super::{Card, Piece, Text, shown};

/// The longest link in bytes: one that every chat has room for.
const LINK_BYTES_MAX: usize = 115;

/// What the event is about, the most telling first.
const SUBJECT: &[Path] = &[
    "head_commit.message",
    "pull_request.title",
    "issue.title",
    "release.name",
    "release.tag_name",
    "workflow_run.name",
    "check_run.name",
    "discussion.title",
    "ref",
];
const LINK: &[Path] = &[
    "comment.html_url",
    "review.html_url",
    "pull_request.html_url",
    "issue.html_url",
    "release.html_url",
    "workflow_run.html_url",
    "check_run.html_url",
    "discussion.html_url",
    "compare",
    "head_commit.url",
    "repository.html_url",
];
const GOOD: [&str; 6] = ["opened", "created", "published", "reopened", "success", "approved"];
const BAD: [&str; 5] = ["closed", "deleted", "failure", "cancelled", "timed_out"];

/// The card of an event that has a repository and somebody who did it; none for any other.
pub(super) fn card(kind: &str, body: &Value) -> Option<Card> {
    let repository = shown(body, &["repository.full_name"])?;
    let sender = shown(body, &["sender.login"])?;
    let action = shown(body, &["action"]);
    let outcome = shown(body, &["workflow_run.conclusion", "check_run.conclusion"]).or_else(|| action.clone());
    let mut pieces = vec![Piece::Name(sender)];
    if let Some(subject) = subject(body) {
        pieces.extend([Piece::Words(": "), Piece::Name(subject)]);
    }
    let mut facts = Vec::new();
    let branch = shown(body, &["pull_request.head.ref", "workflow_run.head_branch", "ref"]);
    facts.extend(branch.map(|branch| ("Branch", branch.trim_start_matches("refs/heads/").to_owned())));
    facts.extend(body.get("commits").and_then(Value::as_array).map(|commits| ("Commits", commits.len().to_string())));
    facts.extend(shown(body, &["pull_request.number", "issue.number"]).map(|number| ("Number", number)));
    facts.extend(shown(body, &["workflow_run.conclusion", "check_run.conclusion"]).map(|end| ("Conclusion", end)));
    let is = |words: &[&str]| outcome.as_deref().is_some_and(|outcome| words.contains(&outcome));
    Some(Card {
        title: match action {
            Some(action) => format!("{kind} {action} in {repository}"),
            None => format!("{kind} in {repository}"),
        },
        colour: if is(&GOOD) {
            GREEN
        } else if is(&BAD) {
            RED
        } else {
            BLUE
        },
        text: Text::Sentence(pieces),
        facts,
        link: LINK.iter().find_map(|path| link(&shown(body, &[*path])?)),
    })
}

/// The first line, as commits have one.
fn subject(body: &Value) -> Option<String> {
    let message = super::at(body, SUBJECT[0]).and_then(Value::as_str);
    let first = message.and_then(|message| super::line_of(&message.lines().next()?.into()));
    first.or_else(|| shown(body, &SUBJECT[1..]))
}

/// A web address in which nothing can end the link that a chat makes of it.
fn link(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"<>|\"'()[]\\`*~".contains(&b);
    (text.starts_with("https://") && text.len() <= LINK_BYTES_MAX && text.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_push_says_who_what_where() {
        let body = json!({
            "ref": "refs/heads/main", "compare": "https://github.com/octo/hello/compare/a...b",
            "commits": [{}, {}], "head_commit": {"message": "Fix the door\n\nIt was open."},
            "repository": {"full_name": "octo/hello", "html_url": "https://github.com/octo/hello"},
            "sender": {"login": "octocat"},
        });
        let card = card("push", &body).expect("a card");
        assert_eq!(card.title, "push in octo/hello");
        assert_eq!(
            card.text,
            Text::Sentence(vec![Piece::Name("octocat".into()), Piece::Words(": "), Piece::Name("Fix the door".into())])
        );
        assert_eq!(card.facts, [("Branch", "main".to_string()), ("Commits", "2".to_string())]);
        assert_eq!(card.link.as_deref(), Some("https://github.com/octo/hello/compare/a...b"));
    }

    #[test]
    fn what_happened_gives_the_colour_and_nothing_the_link_but_an_address() {
        let of = |action: &str, url: &str| {
            let body = json!({
                "action": action, "pull_request": {"title": "T", "number": 7, "html_url": url, "head": {"ref": "topic"}},
                "repository": {"full_name": "octo/hello"}, "sender": {"login": "octocat"},
            });
            let card = card("pull_request", &body).expect("a card");
            (card.title, card.colour, card.link)
        };
        let good = "https://github.com/octo/hello/pull/7";
        assert_eq!(of("opened", good), ("pull_request opened in octo/hello".into(), GREEN, Some(good.into())));
        assert_eq!(of("closed", good).1, RED);
        assert_eq!(of("labeled", good).1, BLUE);
        for bad in [
            "javascript:alert(1)",
            "http://x",
            "https://x|y>",
            "https://x) [y](z",
            &format!("https://{}", "x".repeat(200)),
        ] {
            assert_eq!(of("opened", bad).2, None, "{bad}");
        }
    }

    #[test]
    fn a_body_without_a_repository_has_no_such_card() {
        for body in [json!({}), json!({"repository": "x"}), json!({"repository": {"full_name": "a/b"}})] {
            assert!(card("push", &body).is_none(), "{body}");
        }
    }
}
