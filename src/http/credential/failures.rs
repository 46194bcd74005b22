//! How many wrong credentials came from each address in the current minute. It limits floods and not guesses, which the
//! length of every key makes hopeless; a right credential is never refused for what others have sent.

use std::net::IpAddr;

use parking_lot::Mutex;

use crate::http::per_minute::PerMinute;

/// Addresses that are told apart within a minute. Those beyond count together as one, so that memory has an end.
const ADDRESSES_MAX: usize = 10_000;

/// Failures that are reported at once, after a quiet time, and how many more each minute: a stranger with a thousand addresses
/// must not fill the organization `system`.
const REPORTS_MAX: u64 = 60;
const REPORTS_PER_MINUTE: u64 = 1;

/// Whoever is counted as one: an IPv4 address, or an IPv6 network of /64, of which one customer has all addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source([u8; 8], bool);

impl Source {
    /// None, without an address, is a source of its own.
    pub fn of(address: Option<IpAddr>) -> Source {
        match address {
            Some(IpAddr::V4(address)) => {
                let mut block = [0; 8];
                block[..4].copy_from_slice(&address.octets());
                Source(block, false)
            }
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Source([a, b, c, d, e, f, g, h], true)
            }
            None => Source([0xff; 8], false),
        }
    }
}

/// What follows from a wrong credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// It is the first of its address in this minute and is to be reported, with the number of those that were not since the
    /// report before.
    pub report: Option<u64>,
    /// Seconds until the address may fail again; none while it may.
    pub wait_s: Option<u64>,
}

pub struct FailedLogins {
    per_minute: u32,
    failed: PerMinute<Source>,
    reports: Mutex<Reports>,
}

/// How much may still be reported.
struct Reports {
    /// The minute of the last report.
    at: i64,
    left: u64,
    unreported: u64,
}

impl Reports {
    fn take(&mut self, at: i64) -> Option<u64> {
        let minutes = at.abs_diff(self.at);
        self.at = at;
        self.left = minutes.saturating_mul(REPORTS_PER_MINUTE).saturating_add(self.left).min(REPORTS_MAX);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.unreported))
            }
            None => {
                self.unreported += 1;
                None
            }
        }
    }
}

impl FailedLogins {
    /// `per_minute` 0 = no limit.
    pub fn new(per_minute: u32) -> FailedLogins {
        let reports = Mutex::new(Reports { at: 0, left: REPORTS_MAX, unreported: 0 });
        FailedLogins { per_minute, failed: PerMinute::new(ADDRESSES_MAX), reports }
    }

    /// Counts a wrong credential.
    pub fn count(&self, source: Source, now_s: i64) -> Verdict {
        let failed = self.failed.count(&source, now_s);
        let is_too_many = self.per_minute > 0 && failed.times > self.per_minute;
        let report = if failed.times == 1 { self.reports.lock().take(now_s.div_euclid(60)) } else { None };
        Verdict { report, wait_s: is_too_many.then_some(failed.left_s) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(Some(text.parse().expect("an address")))
    }

    #[test]
    fn an_address_that_failed_too_often_waits_for_the_next_minute_and_no_other_does() {
        let failed = FailedLogins::new(2);
        let one = source("192.0.2.1");
        assert_eq!(failed.count(one, 60), Verdict { report: Some(0), wait_s: None });
        assert_eq!(failed.count(one, 61), Verdict { report: None, wait_s: None });
        assert_eq!(failed.count(one, 70).wait_s, Some(50));
        assert_eq!(failed.count(source("192.0.2.2"), 70).wait_s, None);
        assert_eq!(failed.count(one, 120), Verdict { report: Some(0), wait_s: None });
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("192.0.2.1"), source("c000:201::"));
        assert_ne!(Source::of(None), source("255.255.255.255"));
    }

    #[test]
    fn addresses_without_room_count_together() {
        let failed = FailedLogins::new(1);
        for n in 0..ADDRESSES_MAX as u32 {
            assert_eq!(failed.count(Source::of(Some(IpAddr::V4(n.into()))), 0).wait_s, None);
        }
        let beyond = |text| failed.count(source(text), 0);
        assert_eq!(beyond("192.0.2.1").wait_s, None);
        assert_eq!(beyond("192.0.2.2").wait_s, Some(60));
        assert_eq!(failed.count(Source::of(Some(IpAddr::V4(5.into()))), 0).wait_s, Some(60));
    }

    #[test]
    fn a_stranger_with_many_addresses_is_reported_a_few_times_and_then_counted() {
        let failed = FailedLogins::new(60);
        let reports = |minute: i64, addresses: u32| {
            let verdict = |n: u32| failed.count(Source::of(Some(IpAddr::V4(n.into()))), minute * 60).report;
            (0..addresses).filter_map(verdict).collect::<Vec<_>>()
        };
        assert_eq!(reports(0, 1_000), vec![0; 60]);
        assert_eq!(reports(1, 1_000), [940]);
        assert_eq!(reports(2, 1), [999]);
        assert_eq!(reports(600, 1_000), vec![0; 60]);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let failed = FailedLogins::new(0);
        assert!((0..100).all(|_| failed.count(source("192.0.2.1"), 0).wait_s.is_none()));
    }
}
