//! When a failed delivery is tried again: the retry policy, its form on the wire, jitter and `Retry-After`.

mod change;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use change::PolicyChange;

/// The default schedule of maps after the first attempt, in seconds: 27.6 hours from the first attempt to the last.
pub const DEFAULT_SCHEDULE_S: [u64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
/// The longest delay between two attempts that a policy may ask for, in seconds.
pub const DELAY_MAX_S: u64 = 86_400;
/// The longest delay that a receiver may ask for by `Retry-After`, in milliseconds; a longer one counts as this.
pub const RETRY_AFTER_MAX_MS: u64 = 86_400_000;
/// The most attempts that a policy may ask for, the first included.
pub const ATTEMPTS_MAX: u32 = 100;
/// What jitter takes from a delay or adds to it, in percent.
pub const JITTER_PERCENT: u64 = 20;

const DEFAULT_DELAY_S: u64 = 2;
const DEFAULT_ATTEMPTS: u32 = 15;

/// When a delivery that failed is attempted again, and when it is given up. Checked: whatever exists is within the limits.
///
/// Its serde form is [`RetryPolicyForm`], on disk as on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RetryPolicyForm", into = "RetryPolicyForm")]
pub struct RetryPolicy {
    backoff: Backoff,
    /// All POSTs of a delivery, the first included.
    attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Backoff {
    Schedule { delays_s: Vec<u64> },
    Growing { growth: Growth, delay_s: u64, max_delay_s: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Exponential,
    Linear,
    Constant,
}

impl RetryPolicy {
    /// The default of maps: [`DEFAULT_SCHEDULE_S`].
    pub fn map_default() -> RetryPolicy {
        let backoff = Backoff::Schedule { delays_s: DEFAULT_SCHEDULE_S.to_vec() };
        RetryPolicy { backoff, attempts: DEFAULT_SCHEDULE_S.len() as u32 + 1 }
    }

    /// The default of organizations: exponential from 2 s, 15 attempts.
    pub fn organization_default() -> RetryPolicy {
        let backoff = Backoff::Growing { growth: Growth::Exponential, delay_s: DEFAULT_DELAY_S, max_delay_s: None };
        RetryPolicy { backoff, attempts: DEFAULT_ATTEMPTS }
    }

    /// A policy of fixed delays in seconds, as the settings give it.
    ///
    /// # Errors
    /// A delay is out of bounds, or there are too many of them.
    pub fn schedule(delays_s: &[u64]) -> Result<RetryPolicy, BadPolicy> {
        let schedule_seconds = Some(delays_s.iter().map(|delay| i64::try_from(*delay).unwrap_or(i64::MAX)).collect());
        RetryPolicyForm { schedule_seconds, ..RetryPolicyForm::default() }.check().map_err(BadPolicy)
    }

    /// How many POSTs a delivery gets at most, the first included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The delay before the next attempt when `made` attempts (1 or more) have failed, in milliseconds and without
    /// jitter. None: that was the last one.
    pub fn delay_after_ms(&self, made: u32) -> Option<u64> {
        if made >= self.attempts {
            return None;
        }
        let step = made.max(1);
        let seconds = match &self.backoff {
            Backoff::Schedule { delays_s } => *delays_s.get(step as usize - 1)?,
            Backoff::Growing { growth, delay_s, max_delay_s } => {
                let factor = match growth {
                    Growth::Exponential => 1u64.checked_shl(step - 1).unwrap_or(u64::MAX),
                    Growth::Linear => u64::from(step),
                    Growth::Constant => 1,
                };
                delay_s.saturating_mul(factor).min(max_delay_s.unwrap_or(DELAY_MAX_S))
            }
        };
        Some(seconds * 1_000)
    }
}

/// Spreads `delay_ms` evenly over ±[`JITTER_PERCENT`]; `random` is any number drawn evenly.
pub fn jittered_ms(delay_ms: u64, random: u64) -> u64 {
    let spread = delay_ms * JITTER_PERCENT / 100;
    delay_ms - spread + random % (2 * spread + 1)
}

/// The wait before the next attempt: the jittered delay, or what the receiver asked for where that is longer.
pub fn wait_ms(delay_ms: u64, retry_after_ms: Option<u64>, random: u64) -> u64 {
    jittered_ms(delay_ms, random).max(retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS))
}

/// One field of a policy (or of another setting of an endpoint) that cannot be taken, and what it should have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct BadField {
    /// The name of the field on the wire, below the object that it belongs to.
    pub field: Cow<'static, str>,
    pub message: String,
}

impl BadField {
    pub(super) fn new(field: &'static str, message: impl Into<String>) -> BadField {
        BadField { field: field.into(), message: message.into() }
    }
}

/// Every field of a policy that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(BadField::to_string).collect::<Vec<_>>().join("; "))]
pub struct BadPolicy(pub Vec<BadField>);

/// A retry policy as clients write it: every field optional, nothing checked yet.
///
/// `policy` is `exponential` (the default), `linear`, `constant`, or `schedule` with `scheduleSeconds`. The names are
/// camelCase in every family; snake_case is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicyForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, alias = "delay_seconds", skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    #[serde(default, alias = "max_delay_seconds", skip_serializing_if = "Option::is_none")]
    pub max_delay_seconds: Option<i64>,
    #[serde(default, alias = "schedule_seconds", skip_serializing_if = "Option::is_none")]
    pub schedule_seconds: Option<Vec<i64>>,
}

impl RetryPolicyForm {
    /// The policy, or every field that is wrong.
    ///
    /// # Errors
    /// Every field that is out of bounds or does not go with the kind of policy.
    pub fn check(&self) -> Result<RetryPolicy, Vec<BadField>> {
        let mut bad = Vec::new();
        let name = match (&self.policy, &self.schedule_seconds) {
            (Some(name), _) => name.as_str(),
            (None, Some(_)) => "schedule",
            (None, None) => "exponential",
        };
        let attempts = within(self.attempts, 1, u64::from(ATTEMPTS_MAX), "attempts", &mut bad).map(|n| n as u32);
        let policy = match name {
            "schedule" => self.check_schedule(attempts, &mut bad),
            "exponential" => self.check_growing(Growth::Exponential, attempts, &mut bad),
            "linear" => self.check_growing(Growth::Linear, attempts, &mut bad),
            "constant" => self.check_growing(Growth::Constant, attempts, &mut bad),
            _ => {
                bad.push(BadField::new("policy", "must be exponential, linear, constant or schedule"));
                None
            }
        };
        match policy {
            Some(policy) if bad.is_empty() => Ok(policy),
            _ => Err(bad),
        }
    }

    fn check_schedule(&self, attempts: Option<u32>, bad: &mut Vec<BadField>) -> Option<RetryPolicy> {
        for (field, given) in [("delaySeconds", self.delay_seconds), ("maxDelaySeconds", self.max_delay_seconds)] {
            if given.is_some() {
                bad.push(BadField::new(field, "does not go with a schedule: leave it out"));
            }
        }
        let Some(given) = &self.schedule_seconds else {
            bad.push(BadField::new("scheduleSeconds", "is missing: list the delays after each failed attempt"));
            return None;
        };
        let all = given.len();
        let delays_s: Vec<u64> = given
            .iter()
            .filter_map(|delay| u64::try_from(*delay).ok())
            .filter(|s| (1..=DELAY_MAX_S).contains(s))
            .collect();
        if delays_s.len() != all || all >= ATTEMPTS_MAX as usize {
            let message = format!("must be at most {} numbers from 1 to {DELAY_MAX_S}", ATTEMPTS_MAX - 1);
            bad.push(BadField::new("scheduleSeconds", message));
            return None;
        }
        let most = all as u32 + 1;
        if attempts.is_some_and(|attempts| attempts > most) {
            bad.push(BadField::new(
                "attempts",
                format!("must be at most {most}, one more than the schedule has delays"),
            ));
        }
        Some(RetryPolicy { backoff: Backoff::Schedule { delays_s }, attempts: attempts.unwrap_or(most) })
    }

    fn check_growing(&self, growth: Growth, attempts: Option<u32>, bad: &mut Vec<BadField>) -> Option<RetryPolicy> {
        if self.schedule_seconds.is_some() {
            bad.push(BadField::new("scheduleSeconds", "goes with the policy schedule only"));
        }
        let delay_s = within(self.delay_seconds, 1, DELAY_MAX_S, "delaySeconds", bad).unwrap_or(DEFAULT_DELAY_S);
        let max_delay_s = within(self.max_delay_seconds, 1, DELAY_MAX_S, "maxDelaySeconds", bad);
        if max_delay_s.is_some_and(|max| max < delay_s) {
            bad.push(BadField::new("maxDelaySeconds", "must not be less than delaySeconds"));
        }
        let backoff = Backoff::Growing { growth, delay_s, max_delay_s };
        Some(RetryPolicy { backoff, attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS) })
    }
}

/// The number, where one was given and it lies within the bounds; outside of them it is written down as wrong.
fn within(given: Option<i64>, low: u64, high: u64, field: &'static str, bad: &mut Vec<BadField>) -> Option<u64> {
    let given = given?;
    match u64::try_from(given) {
        Ok(number) if (low..=high).contains(&number) => Some(number),
        _ => {
            bad.push(BadField::new(field, format!("must be a number from {low} to {high}")));
            None
        }
    }
}

impl TryFrom<RetryPolicyForm> for RetryPolicy {
    type Error = BadPolicy;

    fn try_from(form: RetryPolicyForm) -> Result<Self, BadPolicy> {
        form.check().map_err(BadPolicy)
    }
}

impl From<RetryPolicy> for RetryPolicyForm {
    fn from(policy: RetryPolicy) -> Self {
        // a checked number fits: none is above 86,400
        let attempts = Some(i64::from(policy.attempts));
        match policy.backoff {
            Backoff::Schedule { delays_s } => RetryPolicyForm {
                policy: Some("schedule".into()),
                attempts,
                schedule_seconds: Some(delays_s.into_iter().map(|s| s as i64).collect()),
                ..RetryPolicyForm::default()
            },
            Backoff::Growing { growth, delay_s, max_delay_s } => {
                let name = match growth {
                    Growth::Exponential => "exponential",
                    Growth::Linear => "linear",
                    Growth::Constant => "constant",
                };
                RetryPolicyForm {
                    policy: Some(name.into()),
                    delay_seconds: Some(delay_s as i64),
                    attempts,
                    max_delay_seconds: max_delay_s.map(|s| s as i64),
                    schedule_seconds: None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn policy(value: serde_json::Value) -> RetryPolicy {
        serde_json::from_value(value).expect("a policy")
    }

    fn delays_s(policy: &RetryPolicy) -> Vec<u64> {
        (1..).map_while(|made| policy.delay_after_ms(made)).map(|ms| ms / 1_000).collect()
    }

    #[test]
    fn each_policy_waits_as_its_name_says() {
        for (form, expected) in [
            (json!({"policy": "constant", "delaySeconds": 3, "attempts": 4}), vec![3, 3, 3]),
            (json!({"policy": "linear", "delaySeconds": 3, "attempts": 5}), vec![3, 6, 9, 12]),
            (json!({"policy": "exponential", "delaySeconds": 3, "attempts": 5}), vec![3, 6, 12, 24]),
            (
                json!({"policy": "exponential", "delay_seconds": 3, "attempts": 5, "maxDelaySeconds": 10}),
                vec![3, 6, 10, 10],
            ),
            (json!({"policy": "schedule", "scheduleSeconds": [1, 9]}), vec![1, 9]),
            (json!({"scheduleSeconds": [1, 9], "attempts": 2}), vec![1]),
            (json!({"policy": "constant", "attempts": 1}), vec![]),
            (json!({"scheduleSeconds": []}), vec![]),
        ] {
            assert_eq!(delays_s(&policy(form.clone())), expected, "{form}");
        }
        assert_eq!(delays_s(&RetryPolicy::map_default()), DEFAULT_SCHEDULE_S);
        assert_eq!(RetryPolicy::map_default().attempts(), 8);
        assert_eq!(policy(json!({})), RetryPolicy::organization_default());
        assert_eq!(delays_s(&RetryPolicy::organization_default())[..4], [2, 4, 8, 16]);
        assert_eq!(RetryPolicy::schedule(&[5, 300]).map(|p| p.attempts()), Ok(3));
    }

    #[test]
    fn what_is_wrong_is_named_field_by_field() {
        for (form, fields) in [
            (json!({"policy": "fibonacci"}), vec!["policy"]),
            (json!({"attempts": 0}), vec!["attempts"]),
            (json!({"attempts": 101, "delaySeconds": -1}), vec!["attempts", "delaySeconds"]),
            (json!({"delaySeconds": 86_401}), vec!["delaySeconds"]),
            (json!({"delaySeconds": 10, "maxDelaySeconds": 9}), vec!["maxDelaySeconds"]),
            (json!({"policy": "schedule"}), vec!["scheduleSeconds"]),
            (json!({"policy": "schedule", "scheduleSeconds": [0]}), vec!["scheduleSeconds"]),
            (json!({"scheduleSeconds": [1], "attempts": 3}), vec!["attempts"]),
            (json!({"scheduleSeconds": [1], "delaySeconds": 3}), vec!["delaySeconds"]),
            (json!({"policy": "linear", "scheduleSeconds": [1]}), vec!["scheduleSeconds"]),
        ] {
            let parsed: RetryPolicyForm = serde_json::from_value(form.clone()).expect("a form");
            let bad = parsed.check().expect_err("a bad policy");
            assert_eq!(bad.iter().map(|b| &*b.field).collect::<Vec<_>>(), fields, "{form}");
            assert!(serde_json::from_value::<RetryPolicy>(form).is_err());
        }
        assert!(serde_json::from_value::<RetryPolicy>(json!({"retries": 3})).is_err());
    }

    #[test]
    fn a_policy_reads_back_from_what_it_writes() {
        for policy in [
            RetryPolicy::map_default(),
            RetryPolicy::organization_default(),
            policy(json!({"policy": "linear", "delaySeconds": 7, "attempts": 9, "maxDelaySeconds": 20})),
            policy(json!({"policy": "constant", "attempts": 1})),
        ] {
            let text = serde_json::to_string(&policy).expect("JSON");
            assert_eq!(serde_json::from_str::<RetryPolicy>(&text).expect("a policy"), policy, "{text}");
        }
    }

    #[test]
    fn retry_after_lengthens_and_never_shortens_and_never_passes_a_day() {
        assert_eq!(wait_ms(10_000, Some(1_000), 2_000), 10_000);
        assert_eq!(wait_ms(10_000, Some(60_000), 0), 60_000);
        assert_eq!(wait_ms(10_000, Some(u64::MAX), 0), RETRY_AFTER_MAX_MS);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_fifth_and_delays_within_a_day(
            made in 1u32..200, delay in 1i64..86_400, attempts in 1i64..100, random in any::<u64>(), growth in 0usize..3,
        ) {
            let name = ["exponential", "linear", "constant"][growth];
            let policy = policy(json!({"policy": name, "delaySeconds": delay, "attempts": attempts}));
            match policy.delay_after_ms(made) {
                None => prop_assert!(i64::from(made) >= attempts),
                Some(ms) => {
                    prop_assert!(i64::from(made) < attempts && (1_000..=DELAY_MAX_S * 1_000).contains(&ms));
                    let wait = jittered_ms(ms, random);
                    prop_assert!(wait >= ms * 4 / 5 && wait <= ms * 6 / 5);
                }
            }
        }
    }
}
