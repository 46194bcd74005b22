//! From the bytes of a body to the JSON text that is read (RFC 8259, 8): UTF-8, without a byte order mark, and without
//! escapes that are only half of a character.

use std::borrow::Cow;

use super::JsonError;

/// U+FEFF at the beginning of a text, which some writers put there and a reader may pass over (RFC 8259, 8.1).
const BYTE_ORDER_MARK: char = '\u{feff}';
/// As long as the escape that it replaces, so that places in the text stay.
const REPLACEMENT: &str = "\\ufffd";

/// The text of a body: one byte order mark is passed over, and the escape of a lone surrogate (what JavaScript makes of a text
/// that was cut inside an emoji) becomes U+FFFD.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn text(bytes: &[u8]) -> Result<Cow<'_, str>, JsonError> {
    let text = utf8(bytes)?;
    Ok(without_lone_surrogates(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)))
}

/// The bytes as text, or the place of the first byte that is not UTF-8.
fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        JsonError {
            line: 1 + before.iter().filter(|b| **b == b'\n').count(),
            column: 1 + before.len() - line_start,
            message: "invalid UTF-8".into(),
        }
    })
}

/// The text with U+FFFD in place of each escaped surrogate without its other half (RFC 8259, 8.2). Of the same length.
pub fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut mended, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        at += found;
        at += match (escaped_unit(bytes, at), escaped_unit(bytes, at + UNIT_BYTES)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * UNIT_BYTES,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str(&text[kept..at]);
                mended.push_str(REPLACEMENT);
                kept = at + UNIT_BYTES;
                UNIT_BYTES
            }
            // an escaped backslash begins no other escape; a text may end behind a single one
            _ => 2.min(bytes.len() - at),
        };
    }
    match kept {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(mended + &text[kept..]),
    }
}

/// `\ud83d`
const UNIT_BYTES: usize = 6;

/// The UTF-16 code unit whose escape stands at this place.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + UNIT_BYTES)?.strip_prefix(b"\\u")?;
    let digit = |unit: u16, b: &u8| Some(unit << 4 | u16::try_from(char::from(*b).to_digit(16)?).ok()?);
    digits.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#""cut \ud83d""#, r#""cut \ufffd""#)]
    #[case(r#""\uDE00 late""#, r#""\ufffd late""#)]
    #[case(r#""\ud83d\ude00""#, r#""\ud83d\ude00""#)]
    #[case(r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#)]
    #[case(r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#)]
    #[case(r#""\\ud83d""#, r#""\\ud83d""#)]
    #[case(r#""\\\ud83d""#, r#""\\\ufffd""#)]
    #[case(r#"{"\udfff":"\ud800\n"}"#, r#"{"\ufffd":"\ufffd\n"}"#)]
    #[case(r#""\ud83d\u00e9""#, r#""\ufffd\u00e9""#)]
    #[case(r#""\ud83d x \ude00""#, r#""\ufffd x \ufffd""#)]
    #[case(r#""\ud83"#, r#""\ud83"#)]
    #[case(r#""\"#, r#""\"#)]
    fn a_surrogate_without_its_other_half_becomes_the_replacement_character(#[case] given: &str, #[case] read: &str) {
        assert_eq!(without_lone_surrogates(given), read);
    }

    #[test]
    fn one_byte_order_mark_is_passed_over_and_no_second_one() {
        assert_eq!(text(b"\xef\xbb\xbf{}").expect("UTF-8"), "{}");
        assert_eq!(text(b"\xef\xbb\xbf\xef\xbb\xbf{}").expect("UTF-8"), "\u{feff}{}");
        assert_eq!(text(b"\xef\xbb\xbf").expect("UTF-8"), "");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let error = text(b"{\n\"a\":\"\xff\"}").unwrap_err();
        assert_eq!((error.line, error.column, &*error.message), (2, 6, "invalid UTF-8"));
    }

    proptest! {
        /// What JavaScript writes of any text of UTF-16, whole or cut, is read, and what was whole is not changed.
        #[test]
        fn any_text_of_utf16_is_read(units in proptest::collection::vec(prop_oneof![0xd7f0u16..0xe010, 0x20u16..0x7f], 0..40)) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let quoted = format!("\"{escaped}\"");
            let mended = text(quoted.as_bytes()).expect("UTF-8");
            prop_assert_eq!(mended.len(), quoted.len());
            let read: String = serde_json::from_str(&mended).expect("JSON");
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
