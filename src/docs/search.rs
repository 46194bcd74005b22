//! Finds the sections that answer a question. The work is bounded by the size of the index and the words of a question.

use std::collections::HashMap;

use super::{INDEX, Index, POSTING_BYTES, words};

/// The longest question, in characters; what is behind it is not read.
const QUESTION_CHARS_MAX: usize = 200;
/// Most words of a question that are looked for.
const TERMS_MAX: usize = 16;
/// Most sections that are shown.
const FOUND_MAX: usize = 12;
/// Most sections of one page.
const OF_A_PAGE_MAX: usize = 3;
/// A word that is not known is taken for the beginning of so many known ones at most.
const COMPLETIONS_MAX: usize = 20;
/// From so many letters on.
const COMPLETED_FROM: usize = 3;
/// What a word that the heading has counts where the line to show is chosen.
const IN_HEADING: f64 = 0.25;
/// Length of what is shown of a section, in characters.
const EXCERPT_CHARS: usize = 240;

/// A section, and what of it answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The address of the page below `/docs/`.
    pub page: &'static str,
    pub title: &'static str,
    /// Empty at the top of the page.
    pub anchor: &'static str,
    pub heading: &'static str,
    /// Pieces of its text; those that were asked for are marked.
    pub excerpt: Vec<(String, bool)>,
}

/// The sections that say most about a question, the best first. Empty when it has no word that the documentation knows.
pub fn search(question: &str) -> Vec<Found> {
    INDEX.search(question)
}

/// How much a term weighs, and in which sections it occurs.
struct Wanted {
    term: String,
    weights: HashMap<usize, f64>,
}

impl Index {
    fn search(&self, question: &str) -> Vec<Found> {
        let wanted = self.wanted(question);
        let mut scores: HashMap<usize, (f64, usize)> = HashMap::new();
        for Wanted { weights, .. } in &wanted {
            for (section, weight) in weights {
                let (score, count) = scores.entry(*section).or_default();
                *score += weight;
                *count += 1;
            }
        }
        // what has most of the words goes before what says one of them often
        let rank = |(section, (score, count)): (usize, (f64, usize))| {
            let share = count as f64 / wanted.len() as f64;
            (section, score * share * share)
        };
        let mut ranked: Vec<(usize, f64)> = scores.into_iter().map(rank).collect();
        ranked.sort_by(|(one, a), (other, b)| b.total_cmp(a).then(one.cmp(other)));
        let mut of_page: HashMap<usize, usize> = HashMap::new();
        let ranked = ranked.into_iter().filter(|(section, _)| {
            let count = of_page.entry(self.sections[*section].page).or_default();
            *count += 1;
            *count <= OF_A_PAGE_MAX
        });
        ranked.take(FOUND_MAX).map(|(section, _)| self.found(section, &wanted)).collect()
    }

    /// The words of a question that the index knows. Common words count only where there is nothing else.
    fn wanted(&self, question: &str) -> Vec<Wanted> {
        let end = question.char_indices().nth(QUESTION_CHARS_MAX).map_or(question.len(), |(at, _)| at);
        let question = &question[..end];
        let said: Vec<&str> = words::places(question).into_iter().map(|(from, to)| &question[from..to]).collect();
        let telling: Vec<&str> = said.iter().copied().filter(|word| !words::is_common(word)).collect();
        let mut terms: Vec<String> = Vec::new();
        for word in if telling.is_empty() { said } else { telling } {
            // the whole of a name is enough where it is known
            let of_word = words::terms(word);
            let known = of_word.first().is_some_and(|whole| self.postings_of(whole).is_some());
            for term in of_word.into_iter().take(if known { 1 } else { TERMS_MAX }) {
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        terms.truncate(TERMS_MAX);
        let wanted = terms.into_iter().map(|term| Wanted { weights: self.weights(&term), term });
        wanted.filter(|wanted| !wanted.weights.is_empty()).collect()
    }

    fn postings_of(&self, term: &str) -> Option<&'static [u8]> {
        let at = self.terms.binary_search_by(|(known, ..)| (*known).cmp(term)).ok()?;
        Some(self.postings_at(at))
    }

    fn postings_at(&self, at: usize) -> &'static [u8] {
        let (_, from, count) = self.terms[at];
        &self.postings[from * POSTING_BYTES..(from + count) * POSTING_BYTES]
    }

    /// Rare terms weigh more. A term that is not known is taken for the beginning of others.
    fn weights(&self, term: &str) -> HashMap<usize, f64> {
        let mut weights = HashMap::new();
        let mut add = |postings: &[u8]| {
            let sections = self.sections.len() as f64;
            let rarity = (1.0 + sections / (postings.len() / POSTING_BYTES) as f64).ln();
            for posting in postings.chunks_exact(POSTING_BYTES) {
                let section = usize::from(u16::from_le_bytes([posting[0], posting[1]]));
                let weight = f64::from(posting[2]) * rarity;
                let kept: &mut f64 = weights.entry(section).or_default();
                *kept = kept.max(weight);
            }
        };
        match self.postings_of(term) {
            Some(postings) => add(postings),
            None if term.len() >= COMPLETED_FROM => {
                let from = self.terms.partition_point(|(known, ..)| *known < term);
                let longer = (from..self.terms.len()).take_while(|at| self.terms[*at].0.starts_with(term));
                longer.take(COMPLETIONS_MAX).for_each(|at| add(self.postings_at(at)));
            }
            None => {}
        }
        weights
    }

    fn found(&self, section: usize, wanted: &[Wanted]) -> Found {
        let section = &self.sections[section];
        let (page, title) = self.pages[section.page];
        let is_wanted = |word: &str| {
            let of_word = words::terms(word);
            wanted.iter().any(|wanted| of_word.contains(&wanted.term))
        };
        let marks = |line: &str| -> Vec<(usize, usize)> {
            words::places(line).into_iter().filter(|(from, to)| is_wanted(&line[*from..*to])).collect()
        };
        // how much a line says: rare words tell more, what the heading says already tells less, and each counts once
        let heading: Vec<String> = words::places(section.heading)
            .into_iter()
            .flat_map(|(a, b)| words::terms(&section.heading[a..b]))
            .collect();
        let told = |line: &str, marks: &[(usize, usize)]| -> f64 {
            let said: Vec<String> = marks.iter().flat_map(|(from, to)| words::terms(&line[*from..*to])).collect();
            let sections = self.sections.len() as f64;
            let rarity = |wanted: &Wanted| {
                let share = if heading.contains(&wanted.term) { IN_HEADING } else { 1.0 };
                share * (1.0 + sections / wanted.weights.len() as f64).ln()
            };
            wanted.iter().filter(|wanted| said.contains(&wanted.term)).map(rarity).sum()
        };
        // a paragraph, or a row of a table
        let mut best: (f64, &str, Vec<(usize, usize)>) =
            (0.0, section.text.lines().next().unwrap_or_default(), Vec::new());
        for line in section.text.lines() {
            let marks = marks(line);
            let told = told(line, &marks);
            if told > best.0 {
                best = (told, line, marks);
            }
        }
        let (_, line, marks) = best;
        Found { page, title, anchor: section.anchor, heading: section.heading, excerpt: excerpt(line, &marks) }
    }
}

/// A piece of a line around the first of what is marked, cut between words.
fn excerpt(line: &str, marks: &[(usize, usize)]) -> Vec<(String, bool)> {
    let places = words::places(line);
    let first = marks.first().map_or(0, |(from, _)| *from);
    let lead = EXCERPT_CHARS / 3;
    let is_short = line.chars().count() <= EXCERPT_CHARS;
    let begins = |from: usize| line[from..first].chars().count() <= lead;
    let from = if is_short {
        0
    } else {
        places.iter().map(|(from, _)| *from).find(|from| *from <= first && begins(*from)).unwrap_or(0)
    };
    let fits = |to: usize| to <= from || line[from..to].chars().count() <= EXCERPT_CHARS;
    let to = if is_short {
        line.len()
    } else {
        places.iter().map(|(_, to)| *to).rfind(|to| fits(*to)).unwrap_or(line.len())
    };
    let mut pieces = Vec::new();
    let mut at = from;
    let mut push = |text: &str, is_marked: bool| {
        if !text.is_empty() {
            pieces.push((text.to_owned(), is_marked));
        }
    };
    if from > 0 {
        push("… ", false);
    }
    for (start, end) in marks.iter().copied().filter(|(start, end)| *start >= from && *end <= to) {
        push(&line[at..start], false);
        push(&line[start..end], true);
        at = end;
    }
    push(&line[at..to.max(at)], false);
    if to < line.len() {
        push(" …", false);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a newcomer asks, and where the answer is: among the first results, as `page#anchor`, with a word that its excerpt has.
    const QUESTIONS: [(&str, &str, &str); 39] = [
        ("where does X-Wanderer come from", "which-api#where-do-x-wanderer-and-the-other-names-come-from", "Wanderer"),
        ("how do I raise the limit of streams", "errors#raise-a-limit", "streams"),
        ("what does 4408 mean", "errors#websockets-that-are-closed", "4408"),
        ("how do I verify in PHP", "receivers#php", "PHP"),
        ("which API do I take for chat messages", "which-api", "chat"),
        ("how do I rotate the admin token", "rotate-keys#the-admin-token", "admin"),
        ("my webhook does not arrive", "errors#a-webhook-does-not-arrive", "webhook"),
        ("run it behind nginx", "operations/nginx", "nginx"),
        ("how do I back up and restore", "operations#backup-and-restore", "backup"),
        ("follow events in React", "frameworks#react", "React"),
        ("API_KEY_CONNECTION_LIMIT", "errors#by-code", "API_KEY_CONNECTION_LIMIT"),
        ("what is a gap", "glossary#gap", "missing"),
        ("resume after a disconnect", "concepts", "cursor"),
        ("migrate from ntfy", "migrate", "ntfy"),
        ("how long are events kept", "operations#retention", "kept"),
        ("what does OUTCOME_UNKNOWN mean", "errors#by-code", "OUTCOME_UNKNOWN"),
        ("difference between a map and an organization", "which-api#common-questions", "difference"),
        ("test webhooks locally", "laptop", "locally"),
        ("is every event delivered exactly once", "concepts#what-is-promised", "once"),
        ("alert when a disk is full", "operations#metrics-and-alerts", "disk"),
        // the same and others in other words
        (
            "why are the headers called X-Wanderer",
            "which-api#where-do-x-wanderer-and-the-other-names-come-from",
            "Wanderer",
        ),
        ("too many streams, 429", "errors", "streams"),
        ("websocket closed with code 4408", "errors#websockets-that-are-closed", "4408"),
        ("check the signature of a webhook in PHP", "receivers#php", "PHP"),
        ("send chat messages, which api", "which-api", "chat"),
        ("change the admin token", "rotate-keys#the-admin-token", "admin"),
        ("receiver gets nothing", "errors#a-webhook-does-not-arrive", "receiver"),
        ("a reverse proxy with nginx", "operations/nginx", "proxy"),
        ("upgrade without downtime", "upgrade#in-short", "upgrade"),
        ("retry a failed delivery", "cli#stentor-webhook-retry", "failed"),
        ("who is connected", "api#connections", "connected"),
        ("resume where I left off", "concepts#cursors", "left off"),
        ("401", "errors#by-status", "401"),
        ("socket activation", "operations#install", "socket activation"),
        ("replace the secret key", "rotate-keys#the-secret-key-of-the-data-folder", "secret key"),
        ("report a vulnerability", "report-a-vulnerability", "vulnerability"),
        ("limit on the size of an event", "errors#raise-a-limit", "size"),
        ("install with helm", "operations#install", "Helm"),
        ("forward webhooks to localhost", "cli#stentor-listen", "localhost"),
    ];

    #[test]
    fn the_questions_of_a_newcomer_are_answered_among_the_first_results() {
        for (question, wanted, word) in QUESTIONS {
            let found = search(question);
            let (page, anchor) = wanted.split_once('#').unwrap_or((wanted, ""));
            let fits = |found: &&Found| found.page == page && (anchor.is_empty() || found.anchor == anchor);
            let place = found.iter().position(|found| fits(&found));
            let shown: Vec<_> = found.iter().take(5).map(|found| format!("{}#{}", found.page, found.anchor)).collect();
            assert!(place.is_some_and(|place| place < 3), "{question}: {wanted} is not among {shown:?}");
            let answers = found.iter().filter(fits).any(|found| {
                let text: String = found.excerpt.iter().map(|(text, _)| text.as_str()).collect();
                format!("{} {text}", found.heading).to_lowercase().contains(&word.to_lowercase())
            });
            assert!(answers, "{question}: {found:#?}");
        }
    }

    #[test]
    fn a_word_that_is_still_being_typed_finds_what_begins_so() {
        assert!(search("webho").iter().any(|found| found.page == "webhooks"));
        assert_eq!(search("wz"), []);
    }

    #[test]
    fn nonsense_finds_nothing_and_whatever_is_asked_is_bounded() {
        for nothing in ["", "   ", "?!", "qqzzyyxx", "\u{0}", "😀"] {
            assert_eq!(search(nothing), [], "{nothing:?}");
        }
        let long = "webhook stream limit token ".repeat(1000) + &"ß".repeat(1000);
        assert!(search(&long).len() <= FOUND_MAX);
        for found in search("the of and a webhook's STENTOR_TOKEN <script>alert(1)</script> ✓ é") {
            let text: String = found.excerpt.iter().map(|(text, _)| text.as_str()).collect();
            assert!(text.chars().count() <= EXCERPT_CHARS + 4, "{text}");
        }
    }

    #[test]
    fn an_excerpt_marks_what_was_asked_for_and_is_cut_between_words() {
        let line = format!("{}the limit {}", "one two ".repeat(60), "three ".repeat(60));
        let at = line.find("limit").expect("it is there");
        let pieces = excerpt(&line, &[(at, at + 5)]);
        assert!(pieces.contains(&("limit".into(), true)));
        let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        assert!(text.starts_with("… ") && text.ends_with("three …"), "{text}");
        assert!(text.contains("two the limit three"), "{text}");
        assert_eq!(excerpt("", &[]), []);
    }
}
