//! The receiver of the simulation: a mode that lasts a while and decides each answer.

use super::Dice;
use crate::model::delivery::{FailureCode, Outcome};
use crate::model::id::EventId;

#[derive(Clone, Copy, Debug)]
pub(super) enum ReceiverMode {
    Good,
    /// Every answer is a 500.
    Broken,
    /// No answer within the time of an attempt.
    Silent,
    /// 429 with `Retry-After`, half of the time.
    Busy {
        retry_after_ms: u64,
    },
    /// One in so many fails.
    Flaky(u64),
    /// Some events always fail, the others never.
    Picky,
    /// 410, now and then.
    Gone,
}

#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) mode: ReceiverMode,
}

impl Receiver {
    /// A new mode and how long it lasts, in milliseconds: from seconds to a week.
    pub(super) fn change(&mut self, dice: &mut Dice) -> u64 {
        self.mode = match dice.below(14) {
            0..4 => ReceiverMode::Good,
            4..7 => ReceiverMode::Broken,
            7 => ReceiverMode::Silent,
            8 => ReceiverMode::Busy { retry_after_ms: dice.pick(&[0, 1_000, 90_000, 86_400_000, u64::MAX]) },
            9..11 => ReceiverMode::Flaky(dice.below(4) + 2),
            11..13 => ReceiverMode::Picky,
            _ => ReceiverMode::Gone,
        };
        let most = dice.pick(&[60_000, 3_600_000, 86_400_000, 7 * 86_400_000]);
        dice.below(most) + 1_000
    }

    /// The answer to a POST and how long it takes, in milliseconds.
    pub(super) fn answer(&self, first: EventId, dice: &mut Dice) -> (Outcome, u64) {
        let failed = |status, code, retry_after_ms| Outcome::Failed { status, code, retry_after_ms };
        let broken = failed(Some(500), FailureCode::HttpStatus, None);
        let quick = dice.below(400) + 1;
        match self.mode {
            ReceiverMode::Good => (Outcome::Success, quick),
            ReceiverMode::Broken => (broken, quick),
            ReceiverMode::Silent => (failed(None, FailureCode::Timeout, None), 15_000),
            ReceiverMode::Busy { retry_after_ms } => match dice.one_in(2) {
                true => (failed(Some(429), FailureCode::HttpStatus, Some(retry_after_ms)), quick),
                false => (failed(Some(503), FailureCode::HttpStatus, Some(retry_after_ms)), quick),
            },
            ReceiverMode::Flaky(n) if dice.one_in(n) => (failed(None, FailureCode::ConnectionReset, None), quick),
            ReceiverMode::Flaky(_) => (Outcome::Success, quick),
            ReceiverMode::Picky if first.to_bytes().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 5 == 0 => {
                (broken, quick)
            }
            ReceiverMode::Picky => (Outcome::Success, quick),
            ReceiverMode::Gone if dice.one_in(3) => (Outcome::Gone, quick),
            ReceiverMode::Gone => (broken, quick),
        }
    }
}
