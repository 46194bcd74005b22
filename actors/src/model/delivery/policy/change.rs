//! Changing a retry policy by naming some of its fields, as owners do who want one of them otherwise.

use serde_json::{Map, Value};

use super::{BadField, RetryPolicy, RetryPolicyForm};

/// What is to become of a retry policy.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyChange {
    /// The default again.
    Default,
    /// What the fields say; see [`RetryPolicyForm`] for their names.
    Fields(Map<String, Value>),
}

impl From<RetryPolicyForm> for PolicyChange {
    /// The fields that the form has.
    fn from(form: RetryPolicyForm) -> PolicyChange {
        // a form of numbers and texts is an object of JSON
        match serde_json::to_value(form) {
            Ok(Value::Object(fields)) => PolicyChange::Fields(fields),
            _ => PolicyChange::Default,
        }
    }
}

impl PolicyChange {
    /// The policy after the change, or every field that cannot be taken.
    ///
    /// A field that is named is changed, one that is `null` takes its default again, and the others stay as they are in
    /// `current` (none: as in the default of the form). A policy of another kind, a schedule instead of delays that grow or
    /// the other way round, begins anew: the fields of one mean nothing in the other.
    ///
    /// # Errors
    /// Every field that is unknown, has the wrong type, is out of bounds, or does not go with the kind of policy.
    pub fn apply(&self, current: Option<&RetryPolicy>, default: &RetryPolicy) -> Result<RetryPolicy, Vec<BadField>> {
        let PolicyChange::Fields(fields) = self else { return Ok(default.clone()) };
        let mut bad = Vec::new();
        let named = Named::read(fields, &mut bad);
        let mut form = current.cloned().map(RetryPolicyForm::from).unwrap_or_default();
        let scheduled = form.policy.as_deref() == Some("schedule");
        let anew = if scheduled { named.grows() && !named.is_scheduled() } else { named.is_scheduled() };
        if anew {
            form = RetryPolicyForm::default();
        }
        if named.schedule_seconds.is_some() {
            // as many as the new schedule has, unless it is said how many
            form.attempts = None;
        }
        named.lay_over(&mut form);
        match form.check() {
            Ok(policy) if bad.is_empty() => Ok(policy),
            Ok(_) => Err(bad),
            Err(more) => {
                let known: Vec<_> = bad.iter().map(|bad| bad.field.clone()).collect();
                bad.extend(more.into_iter().filter(|more| !known.contains(&more.field)));
                Err(bad)
            }
        }
    }
}

/// The fields that are named; the inner `None` is a `null`.
#[derive(Default)]
struct Named {
    policy: Option<Option<String>>,
    delay_seconds: Option<Option<i64>>,
    attempts: Option<Option<i64>>,
    max_delay_seconds: Option<Option<i64>>,
    schedule_seconds: Option<Option<Vec<i64>>>,
}

impl Named {
    fn read(fields: &Map<String, Value>, bad: &mut Vec<BadField>) -> Named {
        let mut named = Named::default();
        for (name, value) in fields {
            match name.as_str() {
                "policy" => {
                    let text = |value: &Value| value.as_str().map(str::to_owned);
                    take(&mut named.policy, value, text, "policy", "must be a text or null", bad);
                }
                "delaySeconds" | "delay_seconds" => {
                    take(&mut named.delay_seconds, value, Value::as_i64, "delaySeconds", NUMBER, bad);
                }
                "attempts" => take(&mut named.attempts, value, Value::as_i64, "attempts", NUMBER, bad),
                "maxDelaySeconds" | "max_delay_seconds" => {
                    take(&mut named.max_delay_seconds, value, Value::as_i64, "maxDelaySeconds", NUMBER, bad);
                }
                "scheduleSeconds" | "schedule_seconds" => {
                    let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_i64).collect();
                    let expected = "must be a list of whole numbers or null";
                    take(&mut named.schedule_seconds, value, numbers, "scheduleSeconds", expected, bad);
                }
                unknown => bad.push(BadField {
                    field: unknown.chars().take(64).collect::<String>().into(),
                    message: "is not known".into(),
                }),
            }
        }
        named
    }

    fn is_scheduled(&self) -> bool {
        matches!(&self.policy, Some(Some(name)) if name == "schedule") || matches!(self.schedule_seconds, Some(Some(_)))
    }

    fn grows(&self) -> bool {
        matches!(&self.policy, Some(name) if name.as_deref() != Some("schedule"))
            || matches!(self.delay_seconds, Some(Some(_)))
            || matches!(self.max_delay_seconds, Some(Some(_)))
    }

    fn lay_over(self, form: &mut RetryPolicyForm) {
        let Named { policy, delay_seconds, attempts, max_delay_seconds, schedule_seconds } = self;
        form.policy = policy.unwrap_or(form.policy.take());
        form.delay_seconds = delay_seconds.unwrap_or(form.delay_seconds);
        form.attempts = attempts.unwrap_or(form.attempts);
        form.max_delay_seconds = max_delay_seconds.unwrap_or(form.max_delay_seconds);
        form.schedule_seconds = schedule_seconds.unwrap_or(form.schedule_seconds.take());
    }
}

const NUMBER: &str = "must be a whole number or null";

/// Reads one field into its slot, or writes it down as wrong.
fn take<T>(
    slot: &mut Option<Option<T>>,
    value: &Value,
    read: impl FnOnce(&Value) -> Option<T>,
    field: &'static str,
    expected: &str,
    bad: &mut Vec<BadField>,
) {
    let read = if value.is_null() { Some(None) } else { read(value).map(Some) };
    match read {
        Some(_) if slot.is_some() => bad.push(BadField::new(field, "is given twice; give it once")),
        Some(read) => *slot = Some(read),
        None => bad.push(BadField::new(field, expected)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(value: Value) -> RetryPolicy {
        serde_json::from_value(value).expect("a policy")
    }

    fn changed(current: Option<Value>, fields: Value) -> Result<Value, Vec<String>> {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        let current = current.map(policy);
        let changed = PolicyChange::Fields(fields).apply(current.as_ref(), &RetryPolicy::map_default());
        let names = |bad: Vec<BadField>| bad.into_iter().map(|bad| bad.field.into_owned()).collect();
        changed.map(|policy| serde_json::to_value(policy).expect("JSON")).map_err(names)
    }

    #[test]
    fn what_is_named_is_changed_and_the_rest_stays() {
        let linear = || Some(json!({"policy": "linear", "delaySeconds": 7, "attempts": 9, "maxDelaySeconds": 20}));
        let schedule = || Some(json!({"scheduleSeconds": [1, 2, 3], "attempts": 3}));
        for (current, fields, expected) in [
            (
                linear(),
                json!({"attempts": 3}),
                json!({"policy": "linear", "delaySeconds": 7, "attempts": 3, "maxDelaySeconds": 20}),
            ),
            (linear(), json!({"maxDelaySeconds": null}), json!({"policy": "linear", "delaySeconds": 7, "attempts": 9})),
            (
                linear(),
                json!({"policy": "constant", "delay_seconds": null}),
                json!({"policy": "constant", "delaySeconds": 2, "attempts": 9, "maxDelaySeconds": 20}),
            ),
            (
                linear(),
                json!({"policy": null, "maxDelaySeconds": null}),
                json!({"policy": "exponential", "delaySeconds": 7, "attempts": 9}),
            ),
            (
                linear(),
                json!({"scheduleSeconds": [5]}),
                json!({"policy": "schedule", "attempts": 2, "scheduleSeconds": [5]}),
            ),
            (
                schedule(),
                json!({"attempts": 2}),
                json!({"policy": "schedule", "attempts": 2, "scheduleSeconds": [1, 2, 3]}),
            ),
            (
                schedule(),
                json!({"attempts": null}),
                json!({"policy": "schedule", "attempts": 4, "scheduleSeconds": [1, 2, 3]}),
            ),
            (
                schedule(),
                json!({"scheduleSeconds": [9]}),
                json!({"policy": "schedule", "attempts": 2, "scheduleSeconds": [9]}),
            ),
            (
                schedule(),
                json!({"delaySeconds": 4}),
                json!({"policy": "exponential", "delaySeconds": 4, "attempts": 15}),
            ),
            (None, json!({"attempts": 4}), json!({"policy": "exponential", "delaySeconds": 2, "attempts": 4})),
        ] {
            assert_eq!(changed(current.clone(), fields.clone()), Ok(expected), "{fields} over {current:?}");
        }
    }

    #[test]
    fn the_default_is_the_one_of_the_interface() {
        let default = RetryPolicy::map_default();
        let current = policy(json!({"policy": "constant"}));
        assert_eq!(PolicyChange::Default.apply(Some(&current), &default), Ok(default));
    }

    #[test]
    fn every_field_that_cannot_be_taken_is_named_once() {
        for (fields, bad) in [
            (json!({"attempts": "3", "delaySeconds": 1.5}), vec!["attempts", "delaySeconds"]),
            (json!({"policy": 1, "scheduleSeconds": [1, "2"]}), vec!["policy", "scheduleSeconds"]),
            (json!({"attempts": 0, "retries": 4}), vec!["retries", "attempts"]),
            (json!({"delaySeconds": 1, "delay_seconds": 2}), vec!["delaySeconds"]),
            (json!({"policy": "schedule"}), vec!["scheduleSeconds"]),
            (json!({"policy": "weekly"}), vec!["policy"]),
            (json!({"maxDelaySeconds": 1}), vec!["maxDelaySeconds"]),
        ] {
            let bad: Vec<String> = bad.into_iter().map(str::to_owned).collect();
            assert_eq!(changed(None, fields.clone()), Err(bad), "{fields}");
        }
    }
}
