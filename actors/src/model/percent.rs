//! Percent-encoding (RFC 3986, 2.1), for texts that are no forms: a `+` stays a `+`.

/// The bytes that a text stands for. A `%` without two hexadecimal digits behind it stands for itself.
pub fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // two hexadecimal digits are below 256
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}
