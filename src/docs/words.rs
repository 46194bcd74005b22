//! How a text of the documentation is taken apart into the words by which it is found. The build makes the index with it
//! (`build/docs.rs`), and a question is read with it, so that both agree.

/// Words that say nothing about what somebody looks for.
const COMMON: [&str; 76] = [
    "a", "about", "after", "all", "am", "an", "and", "any", "are", "as", "at", "be", "because", "but", "by", "can",
    "come", "comes", "could", "did", "do", "does", "for", "from", "get", "had", "has", "have", "how", "i", "if", "in",
    "into", "is", "it", "its", "make", "may", "me", "mean", "means", "must", "my", "need", "no", "not", "of", "on",
    "one", "or", "our", "out", "should", "so", "such", "that", "the", "their", "them", "then", "there", "these",
    "they", "this", "to", "use", "was", "we", "what", "when", "where", "which", "who", "why", "will", "with",
];

/// Words that people use for one another, as they stand after [`stem`].
const SAME: [(&str, &str); 11] = [
    ("c#", "csharp"),
    ("connection", "connect"),
    ("dotnet", "csharp"),
    ("golang", "go"),
    ("js", "javascript"),
    ("k8", "kubernet"),
    ("org", "organization"),
    ("organisation", "organization"),
    ("py", "python"),
    ("ts", "typescript"),
    ("ws", "websocket"),
];

/// Longest word that is looked at, in bytes; what is longer is no word.
const WORD_BYTES_MAX: usize = 64;

/// The places of the words in a text, as ranges of bytes: letters, digits and `_`, and the `#` of `C#`.
pub fn places(text: &str) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut from = None;
    for (at, c) in text.char_indices() {
        match (c.is_alphanumeric() || c == '_', from) {
            (true, None) => from = Some(at),
            (false, Some(start)) => {
                let is_sharp = c == '#' && matches!(&text[start..at], "C" | "c");
                places.push((start, if is_sharp { at + 1 } else { at }));
                from = None;
            }
            _ => {}
        }
    }
    places.extend(from.map(|start| (start, text.len())));
    places
}

/// What a word is found by: itself without its ending, and its parts where it is a name such as `streams_per_token`.
pub fn terms(word: &str) -> Vec<String> {
    if word.len() > WORD_BYTES_MAX {
        return Vec::new();
    }
    let lower = word.to_lowercase();
    let whole = lower.trim_matches('_');
    let mut terms = vec![stem(whole)];
    if whole.contains('_') {
        terms.extend(whole.split('_').filter(|part| !part.is_empty() && !is_common(part)).map(stem));
    }
    // a single letter is a variable; a single digit may be a version
    terms.retain(|term| term.len() > 1 || term.bytes().all(|b| b.is_ascii_digit()));
    terms.retain(|term| !term.is_empty());
    terms
}

/// Whether a word is in almost every question and says nothing.
pub fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word.to_lowercase().as_str()).is_ok()
}

/// A word of lower case without the endings of English, so that `rotate`, `rotated` and `rotating` are one.
pub fn stem(word: &str) -> String {
    let mut stem = word.to_owned();
    if word.is_ascii() && !word.contains('_') {
        let cut = |text: &str, ending: &str, least: usize| {
            text.strip_suffix(ending).filter(|rest| rest.len() >= least).map(str::to_owned)
        };
        if let Some(rest) = cut(&stem, "ies", 3).or_else(|| cut(&stem, "ied", 3)) {
            stem = rest + "y";
        } else if let Some(rest) = cut(&stem, "sses", 2) {
            stem = rest + "ss";
        } else if !["ss", "us", "is"].iter().any(|ending| stem.ends_with(ending)) {
            stem = cut(&stem, "s", 2).unwrap_or(stem);
        }
        if let Some(rest) = cut(&stem, "ing", 3).or_else(|| cut(&stem, "ed", 3)) {
            stem = rest;
            // stopped, stopping: stop
            let bytes = stem.as_bytes();
            if let [.., a, b] = bytes
                && a == b
                && !matches!(b, b'l' | b's' | b'z' | b'e' | b'0'..=b'9')
            {
                stem.pop();
            }
        }
        stem = cut(&stem, "e", 3).unwrap_or(stem);
    }
    SAME.iter().find(|(other, _)| *other == stem).map_or(stem, |(_, word)| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_word_are_one() {
        for forms in [
            &["rotate", "rotates", "rotated", "rotating"][..],
            &["verify", "verifies", "verified", "verifying"],
            &["stop", "stopped", "stopping"],
            &["delivery", "deliveries"],
            &["limit", "limits", "limited"],
            &["header", "headers"],
            &["class", "classes"],
            &["c#", "dotnet"],
        ] {
            let stems: Vec<_> = forms.iter().map(|form| stem(form)).collect();
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{forms:?}: {stems:?}");
        }
        for (one, other) in [("status", "stat"), ("map", "maps_"), ("sse", "s")] {
            assert_ne!(stem(one), stem(other));
        }
    }

    #[test]
    fn names_are_found_whole_and_by_their_parts() {
        let of = |text: &str| {
            places(text).into_iter().flat_map(|(from, to)| terms(&text[from..to])).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("`limits.streams_per_token` is 10"), "limit streams_per_token stream per token is 10");
        assert_eq!(of("X-Wanderer-Signature, in C# (4408)"), "wanderer signatur in csharp 4408");
        assert_eq!(of("Zoë_"), "zoë");
        assert_eq!(of(&"x".repeat(65)), "");
    }

    #[test]
    fn common_words_are_in_order_so_that_they_are_found() {
        assert!(COMMON.is_sorted());
        assert!(is_common("Which") && is_common("the") && !is_common("limit"));
    }
}
