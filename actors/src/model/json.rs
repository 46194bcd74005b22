//! JSON in the one form that we store and send.

/// JSON text that is a fixed point of JavaScript's `JSON.stringify(JSON.parse(text))`.
#[derive(Clone, PartialEq, Eq)]
pub struct Canonical(bytes::Bytes);
impl Canonical {
    pub fn as_str(&self) -> &str {
        // sound: only valid UTF-8 is put in
        std::str::from_utf8(&self.0).expect("canonical JSON is UTF-8")
    }
}
impl std::fmt::Debug for Canonical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
