//! ISO-8601 on the wire: UTC with milliseconds going out, any offset coming in.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

/// The last millisecond of the year 9999: the latest time that has a four-digit year.
pub const LAST_MS: i64 = 253_402_300_799_999;
/// The first millisecond of the year 0.
pub const FIRST_MS: i64 = -62_167_219_200_000;

/// Appends `2025-06-21T12:34:56.789Z`. Times outside the years 0 to 9999 are written as the nearest one inside.
pub fn write_iso(ms: i64, out: &mut Vec<u8>) {
    let ms = ms.clamp(FIRST_MS, LAST_MS);
    // inside the bounds above, so the sum cannot overflow
    let at = OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(ms);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, milli) = at.to_hms_milli();
    digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    digits(out, u32::from(u8::from(month)), 2);
    out.push(b'-');
    digits(out, u32::from(day), 2);
    out.push(b'T');
    digits(out, u32::from(hour), 2);
    out.push(b':');
    digits(out, u32::from(minute), 2);
    out.push(b':');
    digits(out, u32::from(second), 2);
    out.push(b'.');
    digits(out, u32::from(milli), 3);
    out.push(b'Z');
}

fn digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10u32.pow(place) % 10) as u8);
    }
}

/// `2025-06-21T12:34:56.789Z`.
pub fn to_iso(ms: i64) -> String {
    let mut out = Vec::with_capacity(24);
    write_iso(ms, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Unix milliseconds of an RFC 3339 time with an offset; digits after the millisecond are cut off.
pub fn from_iso(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    let ms = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
    (FIRST_MS..=LAST_MS).contains(&ms).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        assert_eq!(to_iso(1_750_509_296_789), "2025-06-21T12:34:56.789Z");
        assert_eq!(to_iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(to_iso(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(to_iso(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(to_iso(i64::MIN), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn any_offset_is_read_and_none_is_refused() {
        assert_eq!(from_iso("2025-06-21T14:34:56.789+02:00"), Some(1_750_509_296_789));
        assert_eq!(from_iso("2025-06-21T12:34:56Z"), Some(1_750_509_296_000));
        for bad in ["2025-06-21T12:34:56", "2025-06-21", "yesterday", "", "2025-13-01T00:00:00Z"] {
            assert_eq!(from_iso(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in FIRST_MS..=LAST_MS) {
            prop_assert_eq!(from_iso(&to_iso(ms)), Some(ms));
        }
    }
}
