//! Integers beyond 64 bits keep their digits: the parser gives out a double of them, so their digits are looked up in the text.

use std::borrow::Cow;

/// Fewer digits than this in a row are no integer beyond 64 bits: the smallest is -9223372036854775809.
const DIGITS_MIN: usize = 19;

/// The numbers of a JSON text that the parser gives out as doubles, in their order.
#[derive(Debug)]
pub(super) struct Doubles<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Doubles<'t> {
    /// None where no number of the text can be an integer beyond 64 bits.
    pub(super) fn of(text: &'t str) -> Option<Doubles<'t>> {
        has_digits_in_a_row(text.as_bytes()).then_some(Doubles { text, at: 0 })
    }

    /// The digits of the next double, if it is an integer.
    pub(super) fn next_integer(&mut self) -> Option<&'t str> {
        self.next().filter(|number| is_integer(number))
    }

    fn next_number(&mut self) -> Option<&'t str> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b'"' => self.at = end_of_string(bytes, self.at + 1),
                b'-' | b'0'..=b'9' => {
                    let rest = &bytes[self.at..];
                    let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    let start = self.at;
                    self.at += rest.iter().take_while(|b| part(b)).count();
                    return Some(&self.text[start..self.at]);
                }
                _ => self.at += 1,
            }
        }
    }
}

impl<'t> Iterator for Doubles<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let number = self.next_number()?;
            let fits = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
            // minus zero has no place among the integers
            if !fits || number == "-0" {
                return Some(number);
            }
        }
    }
}

/// The JSON text with `mark` and the digits as a string in place of each integer beyond 64 bits, for whoever reads it into values
/// that have no room for them.
pub fn long_integers_as_text<'t>(text: &'t str, mark: &str) -> Cow<'t, str> {
    let Some(mut doubles) = Doubles::of(text) else { return text.into() };
    let (mut made, mut copied) = (String::new(), 0);
    while let Some(number) = doubles.next() {
        if is_integer(number) {
            made.extend([&text[copied..doubles.at - number.len()], "\"", mark, number, "\""]);
            copied = doubles.at;
        }
    }
    made.push_str(&text[copied..]);
    made.into()
}

fn is_integer(number: &str) -> bool {
    number != "-0" && number.bytes().all(|b| b == b'-' || b.is_ascii_digit())
}

/// Behind the quote that ends the string.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    at
}

/// Whether [`DIGITS_MIN`] digits stand side by side. So many of them cover one of every so many places.
fn has_digits_in_a_row(bytes: &[u8]) -> bool {
    let digits = |part: &mut dyn Iterator<Item = &u8>| part.take(DIGITS_MIN).take_while(|b| b.is_ascii_digit()).count();
    (DIGITS_MIN - 1..bytes.len())
        .step_by(DIGITS_MIN)
        .filter(|at| bytes[*at].is_ascii_digit())
        .any(|at| digits(&mut bytes[..at].iter().rev()) + digits(&mut bytes[at..].iter()) >= DIGITS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_in_a_row_are_found_wherever_they_stand(before in "[a-z]{0,60}", digits in 0usize..45, after in "[a-z]{0,60}") {
            let text = format!("{before}{}{after}", "7".repeat(digits));
            prop_assert_eq!(has_digits_in_a_row(text.as_bytes()), digits >= DIGITS_MIN);
        }
    }

    #[test]
    fn long_integers_become_texts_and_nothing_else_changes() {
        let text = r#"{"a":[18446744073709551616,1,"18446744073709551616",-99999999999999999999],"b":1e30,"c":-0}"#;
        let made =
            r##"{"a":["#18446744073709551616",1,"18446744073709551616","#-99999999999999999999"],"b":1e30,"c":-0}"##;
        assert_eq!(long_integers_as_text(text, "#"), made);
        assert!(matches!(long_integers_as_text(r#"{"a":1}"#, ""), Cow::Borrowed(_)));
    }

    #[test]
    fn only_numbers_outside_of_strings_and_beyond_64_bits_are_doubles() {
        let text = r#"{"99999999999999999999":[1,-0,"\"99999999999999999999",18446744073709551615,18446744073709551616,
            -9223372036854775808,-9223372036854775809,1.5,2e3]}"#;
        let doubles: Vec<_> = Doubles::of(text).expect("there are long numbers").collect();
        assert_eq!(doubles, ["-0", "18446744073709551616", "-9223372036854775809", "1.5", "2e3"]);
        assert!(Doubles::of(r#"{"a":1234567890123456}"#).is_none());
    }
}
