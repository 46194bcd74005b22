//! The marker in the payload of each event: its number and when it was published. A reader finds it by searching the bytes
//! that arrive, in whatever envelope they come, so that the load costs little.

use memchr::memmem::Finder;

const PREFIX: &[u8] = b"~stentor~";
/// Sixteen hexadecimal digits each for the number and the time.
pub const MARKER_BYTES: usize = PREFIX.len() + 32;

/// A number and a time as text that JSON leaves as it is.
pub fn write(number: u64, at_ns: u64) -> String {
    format!("~stentor~{number:016x}{at_ns:016x}")
}

/// Monotonic nanoseconds.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is ours to write to; CLOCK_MONOTONIC always exists
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Finds markers.
pub struct Scanner(Finder<'static>);

impl Scanner {
    pub fn new() -> Scanner {
        Scanner(Finder::new(PREFIX))
    }

    /// Calls `found` for each whole marker. Returns where a marker may begin that is not whole yet.
    pub fn scan(&self, bytes: &[u8], mut found: impl FnMut(u64, u64)) -> usize {
        let mut at = 0;
        while let Some(begin) = self.0.find(&bytes[at..]).map(|offset| at + offset) {
            let Some(marker) = bytes.get(begin..begin + MARKER_BYTES) else { return begin };
            let (number, time) = marker[PREFIX.len()..].split_at(16);
            if let (Some(number), Some(time)) = (hexadecimal(number), hexadecimal(time)) {
                found(number, time);
            }
            at = begin + MARKER_BYTES;
        }
        at.max(bytes.len().saturating_sub(PREFIX.len() - 1))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | u64::from((*digit as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_wherever_the_bytes_are_cut() {
        let text = format!("data: {{\"msg\":\"{}xx\"}}\n\ndata: {}\n~stento", write(7, 123), write(u64::MAX, 0));
        let bytes = text.as_bytes();
        for cut in 0..=bytes.len() {
            let (scanner, mut all) = (Scanner::new(), Vec::new());
            let kept = scanner.scan(&bytes[..cut], |number, time| all.push((number, time)));
            let rest = scanner.scan(&bytes[kept..], |number, time| all.push((number, time)));
            assert_eq!(all, [(7, 123), (u64::MAX, 0)], "cut at {cut}");
            assert!(cut - kept < MARKER_BYTES && bytes.len() - kept - rest < MARKER_BYTES);
        }
    }

    #[test]
    fn what_only_begins_like_a_marker_is_passed_over() {
        let text = format!("~stentor~{} {}", "z".repeat(32), write(1, 2));
        let mut all = Vec::new();
        Scanner::new().scan(text.as_bytes(), |number, time| all.push((number, time)));
        assert_eq!(all, [(1, 2)]);
    }
}
