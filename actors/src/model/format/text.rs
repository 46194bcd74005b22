//! Text for chats: escaped as each asks for, and cut to a number of characters as each counts them.
//!
//! Chats count in UTF-16 code units at most (Discord and Slack are written in languages that differ there), so that is
//! the measure: whoever counts code points finds fewer. What is escaped is counted as it is sent.

/// How many UTF-16 code units the text has.
pub(super) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Stands where a text was cut.
const CUT: char = '…';

/// The text with `escape` applied to each character, cut so that it has at most `max` UTF-16 units with the mark of the
/// cut. Neither a character nor an escape is cut in two. `escape` gets the character before as well.
pub(super) fn fit(text: &str, max: usize, escape: impl Fn(Option<char>, char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len().min(max) + 8);
    let (mut used, mut before) = (0, None);
    // where the output ended, the last time that the mark still fitted behind it
    let mut last_fit = 0;
    for c in text.chars() {
        if used < max {
            last_fit = out.len();
        }
        let start = out.len();
        escape(before, c, &mut out);
        used += units(&out[start..]);
        if used > max {
            out.truncate(last_fit);
            if max > 0 {
                out.push(CUT);
            }
            return out;
        }
        before = Some(c);
    }
    out
}

/// Leaves every character as it is.
pub(super) fn plain(_: Option<char>, c: char, out: &mut String) {
    out.push(c);
}

/// Discord's Markdown shows the text as it is: no emphasis, link, mention, emoji, spoiler, quote or heading comes of it.
pub(super) fn markdown(before: Option<char>, c: char, out: &mut String) {
    let special = matches!(c, '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '#');
    if special || before.is_none() && matches!(c, '-' | '+') {
        out.push('\\');
    }
    out.push(c);
}

/// Inside a code block of Discord: backticks are kept apart by a zero-width space, so that no three of them end it.
pub(super) fn code(before: Option<char>, c: char, out: &mut String) {
    if c == '`' && before == Some('`') {
        out.push('\u{200b}');
    }
    out.push(c);
}

/// Slack's control characters as entities, so that no mention, channel or link comes of the text.
pub(super) fn entities(_: Option<char>, c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(c),
    }
}

/// Inside a code block of Slack.
pub(super) fn entities_in_code(before: Option<char>, c: char, out: &mut String) {
    if c == '`' && before == Some('`') {
        out.push('\u{200b}');
    }
    entities(before, c, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_cut_between_characters_and_between_escapes() {
        for (text, max, cut) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("🚀🚀", 4, "🚀🚀"),
            ("🚀🚀", 3, "🚀…"),
            ("🚀🚀", 2, "…"),
            ("**", 4, "\\*\\*"),
            ("**", 3, "\\*…"),
            ("a", 0, ""),
            ("", 0, ""),
        ] {
            assert_eq!(fit(text, max, markdown), cut, "{text} {max}");
        }
        assert_eq!(fit("a<b>", 8, entities), "a&lt;b…");
    }

    #[test]
    fn a_code_block_cannot_be_ended_from_inside() {
        assert!(!fit("a```b``````", 100, code).contains("``"));
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_it_may_be(text in any::<String>(), max in 0usize..40) {
            for escape in [plain, markdown, code, entities, entities_in_code] {
                let cut = fit(&text, max, escape);
                prop_assert!(cut.encode_utf16().count() <= max);
                prop_assert_eq!(units(&cut), cut.encode_utf16().count());
                prop_assert!(!text.is_empty() && max > 0 || cut.is_empty());
            }
        }
    }
}
