//! The headers of an attempt as they are kept for people: one text, since there may be a dozen on each of many deliveries.

use serde::{Deserialize, Serialize};

const BETWEEN: &str = ": ";

/// Headers in their order, a line each: `name: value`. A value is one line, as HTTP has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(String);

impl Headers {
    pub fn with_capacity(bytes: usize) -> Headers {
        Headers(String::with_capacity(bytes))
    }

    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push_str(BETWEEN);
        // neither a client nor HTTP lets a line break through; should one come, it must not become another header
        self.0.extend(value.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        self.0.push('\n');
    }

    /// As [`Headers::push`], with the name in lower case: receivers write names in many ways.
    pub(super) fn push_lowercase(&mut self, name: &str, value: &str) {
        let start = self.0.len();
        self.push(name, value);
        self.0[start..start + name.len()].make_ascii_lowercase();
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.split_once(BETWEEN))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives back what is not needed of the memory.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub fn clear(&mut self) {
        self.0 = String::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_out_as_they_went_in() {
        let mut headers = Headers::default();
        let pairs =
            [("date", "Fri, 27 Nov 2026 09:00:00 GMT"), ("x-empty", ""), ("x", "a: b"), ("set-cookie", "\u{e9}")];
        for (name, value) in pairs {
            headers.push(name, value);
        }
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        let text = serde_json::to_string(&headers).unwrap();
        assert_eq!(serde_json::from_str::<Headers>(&text).unwrap(), headers);
    }

    #[test]
    fn a_value_cannot_become_another_header() {
        let mut headers = Headers::default();
        headers.push("x", "a\r\nadmin: yes");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x", "a  admin: yes")]);
    }
}
