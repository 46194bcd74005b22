//! Which deliveries of a webhook are asked for.

use std::str::FromStr;

use super::{AttemptRecord, Delivery, DeliveryStatus};
use crate::model::delivery::FailureCode;
use crate::model::event::EventType;

/// Which deliveries of a webhook are asked for; what is absent, or empty, is no condition.
#[derive(Clone, Debug, Default)]
pub struct DeliveriesQuery {
    pub status: Option<DeliveryStatus>,
    /// One of its events has one of these types.
    pub types: Vec<EventType>,
    /// Its latest attempt ended in one of these ways.
    pub codes: Vec<OutcomeCode>,
    /// Made at this time or later, in Unix milliseconds, and before that one.
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    /// In lower case; found, in whatever case, in an id, a type, a reason, or an answer.
    pub text: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeCode {
    /// With this status of the receiver.
    Status(u16),
    /// With a status of this hundred: 5 is 500 to 599.
    Class(u16),
    /// With this failure, whatever the status.
    Failure(FailureCode),
}

/// The text is no [`OutcomeCode`].
#[derive(Debug, thiserror::Error)]
#[error("a status such as 503, a class such as 5xx, or one of {} is expected", failures())]
pub struct UnknownCode;

fn failures() -> String {
    FailureCode::ALL.map(FailureCode::as_str).join(", ")
}

impl FromStr for OutcomeCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<OutcomeCode, UnknownCode> {
        let statuses = 100..600;
        if let Some(failure) = FailureCode::ALL.into_iter().find(|failure| failure.as_str() == text) {
            return Ok(OutcomeCode::Failure(failure));
        }
        if let Some(digit) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
            let class = digit.parse().ok().filter(|class: &u16| statuses.contains(&class.saturating_mul(100)));
            return class.map(OutcomeCode::Class).ok_or(UnknownCode);
        }
        text.parse().ok().filter(|status| statuses.contains(status)).map(OutcomeCode::Status).ok_or(UnknownCode)
    }
}

impl OutcomeCode {
    fn is_of(self, attempt: &AttemptRecord) -> bool {
        match self {
            OutcomeCode::Status(status) => attempt.status_code == Some(status),
            OutcomeCode::Class(class) => attempt.status_code.is_some_and(|status| status / 100 == class),
            OutcomeCode::Failure(failure) => attempt.error_code.as_deref() == Some(failure.as_str()),
        }
    }
}

impl From<Option<DeliveryStatus>> for DeliveriesQuery {
    /// Those that stand so, or all.
    fn from(status: Option<DeliveryStatus>) -> DeliveriesQuery {
        DeliveriesQuery { status, ..DeliveriesQuery::default() }
    }
}

impl DeliveriesQuery {
    /// Whether the delivery is one that is asked for.
    pub(super) fn has(&self, delivery: &Delivery) -> bool {
        let made_ms = delivery.id.time_ms();
        let ended = |code: &OutcomeCode| delivery.attempts.last().is_some_and(|attempt| code.is_of(attempt));
        let is_in = |kind: &EventType| delivery.event_types.iter().any(|other| other == kind.as_str());
        self.status.is_none_or(|status| delivery.status == status)
            && self.since_ms.is_none_or(|since| made_ms >= since)
            && self.until_ms.is_none_or(|until| made_ms < until)
            && (self.types.is_empty() || self.types.iter().any(is_in))
            && (self.codes.is_empty() || self.codes.iter().any(ended))
            && self.text.as_deref().is_none_or(|text| holds(delivery, text))
    }
}

/// Whether something of the delivery holds a text in lower case.
fn holds(delivery: &Delivery, text: &str) -> bool {
    let found = |place: &str| place.to_lowercase().contains(text);
    let in_attempt = |attempt: &AttemptRecord| found(&attempt.detail) || found(&attempt.response_body);
    found(&delivery.id.to_string())
        || delivery.events.iter().any(|id| found(&id.to_string()))
        || delivery.event_types.iter().any(|kind| found(kind))
        || delivery.attempts.iter().any(in_attempt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_a_status_a_class_or_a_failure_and_nothing_else(text in "[0-9a-zX_]{0,6}") {
            let is_status = text.parse::<u16>().is_ok_and(|status| (100..600).contains(&status));
            let is_class = matches!(text.as_bytes(), [b'1'..=b'5', b'x', b'x'] | [b'1'..=b'5', b'X', b'X']);
            prop_assert_eq!(text.parse::<OutcomeCode>().is_ok(), is_status || is_class || text == "timeout");
        }

        #[test]
        fn a_class_has_the_statuses_of_its_hundred(status in 100u16..600, class in 1u16..6) {
            let attempt = serde_json::json!({ "number": 1, "trigger": "first", "started_ms": 0, "duration_ms": 1, "status_code": status });
            let attempt: AttemptRecord = serde_json::from_value(attempt).expect("an attempt");
            let code: OutcomeCode = format!("{class}xx").parse().expect("a class");
            prop_assert_eq!(code.is_of(&attempt), status.to_string().starts_with(&class.to_string()));
            prop_assert!(status.to_string().parse::<OutcomeCode>().expect("a status").is_of(&attempt));
        }
    }

    #[test]
    fn every_failure_has_its_word() {
        for failure in FailureCode::ALL {
            assert_eq!(failure.as_str().parse::<OutcomeCode>().expect("a code"), OutcomeCode::Failure(failure));
        }
        let said = "time_out".parse::<OutcomeCode>().expect_err("no code").to_string();
        assert!(said.contains("5xx") && said.contains("timeout") && said.contains("render_error"), "{said}");
    }
}
