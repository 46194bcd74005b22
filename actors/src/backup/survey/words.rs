//! Numbers, sizes and lists as people read them.

use std::collections::BTreeMap;

use super::Counts;
use crate::model::id::EventId;
use crate::model::timestamp::to_iso;

/// Channels that are named one by one.
const CHANNELS_MAX: usize = 20;

/// `1 event`, `2 events`.
pub fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// `12.3 MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, units[0]);
    for next in &units[1..] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.1} {unit}")
}

/// When an event was appended.
pub fn time(id: EventId) -> String {
    to_iso(id.time_ms().min(i64::MAX as u64) as i64)
}

/// A line for each channel with its events, for as many as people read.
pub fn channels(counts: &Counts, names: &BTreeMap<u32, String>) -> Vec<String> {
    let named = |(no, events): (&u32, &u64)| format!("{}: {}", channel(*no, names), count(*events, "event"));
    let mut lines: Vec<String> = counts.iter().take(CHANNELS_MAX).map(named).collect();
    let rest: Vec<u64> = counts.values().skip(CHANNELS_MAX).copied().collect();
    if !rest.is_empty() {
        lines.push(format!("{} more: {}", count(rest.len() as u64, "channel"), count(rest.iter().sum(), "event")));
    }
    lines
}

/// A channel by its name, or by its number where that is not known.
pub fn channel(no: u32, names: &BTreeMap<u32, String>) -> String {
    match (no, names.get(&no)) {
        (0, _) => "all channels".into(),
        (_, Some(name)) => name.clone(),
        (no, None) => format!("channel number {no}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_short() {
        assert_eq!([0, 1023, 1024, 1_572_864, 5 << 40].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB"]);
        assert_eq!((count(1, "event"), count(0, "event")), ("1 event".into(), "0 events".into()));
    }

    #[test]
    fn a_long_list_of_channels_ends_in_a_sum() {
        let counts: Counts = (1..=30).map(|no| (no, u64::from(no))).collect();
        let names = BTreeMap::from([(2, "map:two".to_owned())]);
        let lines = channels(&counts, &names);
        assert_eq!(lines[..2], ["channel number 1: 1 event", "map:two: 2 events"]);
        assert_eq!((lines.len(), lines[20].as_str()), (21, "10 channels more: 255 events"));
    }
}
