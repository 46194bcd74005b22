//! `--since` and `--until`: an event's id, a moment, or how long ago.

use std::str::FromStr;

use actors::model::id::EventId;
use actors::model::timestamp;

/// A place in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Right after this event.
    After(EventId),
    /// A moment, in Unix milliseconds.
    At(i64),
    /// This many milliseconds before now.
    Ago(i64),
}

impl Since {
    /// The moment, in Unix milliseconds, unless it is an event.
    pub fn moment(self, now_ms: i64) -> Option<i64> {
        match self {
            Self::After(_) => None,
            Self::At(ms) => Some(ms),
            Self::Ago(ms) => Some(now_ms.saturating_sub(ms)),
        }
    }

    /// The cursor from which a stream gets everything that was appended since then.
    pub fn cursor(self, now_ms: i64) -> EventId {
        match self {
            Self::After(id) => id,
            // a clock before 1970 has no event
            Self::At(_) | Self::Ago(_) => {
                EventId::at_time(self.moment(now_ms).unwrap_or(0).try_into().unwrap_or(0)).before()
            }
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(ms) = timestamp::from_iso(text) {
            return Ok(Self::At(ms));
        }
        if let Some(ms) = duration_ms(text) {
            return Ok(Self::Ago(ms));
        }
        text.parse().map(Self::After).map_err(|_| {
            "give an event's id, a time such as 2027-01-31T12:00:00Z, or how long ago such as 10m (s, m, h, d)"
                .to_owned()
        })
    }
}

/// A whole number and one of `s m h d`, in milliseconds.
pub fn duration_ms(text: &str) -> Option<i64> {
    let unit_ms = match text.chars().last()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let number: i64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_750_509_296_789;

    #[test]
    fn ids_moments_and_durations_are_told_apart() {
        let id = EventId::at_time(NOW_MS as u64).plus(3);
        for (text, since) in [
            (id.to_string(), Since::After(id)),
            (format!("evt_{id}"), Since::After(id)),
            ("2025-06-21T12:34:56.789Z".to_owned(), Since::At(NOW_MS)),
            ("2025-06-21T14:34:56.789+02:00".to_owned(), Since::At(NOW_MS)),
            ("10m".to_owned(), Since::Ago(600_000)),
            ("2d".to_owned(), Since::Ago(172_800_000)),
        ] {
            assert_eq!(text.parse(), Ok(since), "{text}");
        }
        for wrong in ["", "m", "-1m", "+1m", "1.5h", "yesterday", "2025-06-21", "10", "10ä", "99999999999999999d"] {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_of_a_moment_lies_just_before_what_was_appended_then() {
        let first = EventId::at_time(NOW_MS as u64);
        assert!(Since::At(NOW_MS).cursor(0) < first);
        assert_eq!(Since::At(NOW_MS).cursor(0), first.before());
        assert_eq!(Since::Ago(600_000).cursor(NOW_MS), EventId::at_time(NOW_MS as u64 - 600_000).before());
        assert_eq!(Since::At(-5).cursor(0), EventId::ZERO);
    }
}
