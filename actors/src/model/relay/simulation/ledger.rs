//! What publishers asked for and were told, held against the stream.

use std::collections::BTreeMap;

use super::stream::Stream;
use super::{Draft, Totals};
use crate::model::relay::{Outcome, Refusal, RelayLimits, Run, sequence_of};

/// A request and what is known of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub draft: Draft,
    pub publisher: usize,
    pub node: usize,
    pub life: u64,
    pub asked_ms: u64,
    pub answer: Option<Outcome>,
    pub answered_ms: Option<u64>,
    /// The node died over it.
    pub is_void: bool,
    /// The request of this publisher that was acknowledged before this one was made.
    pub after: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub asked: BTreeMap<u64, Asked>,
    /// Those without an answer, by node.
    pub open: BTreeMap<u64, usize>,
}

/// How much later than at its deadline an answer may come, for timers, clocks that are slow by 2 %, and a node that is busy.
const SLACK_MS: u64 = 700;

impl Ledger {
    pub fn ask(&mut self, asked: Asked) {
        self.open.insert(asked.draft.request, asked.node);
        self.asked.insert(asked.draft.request, asked);
    }

    /// A node died: its requests get no answer any more.
    pub fn void(&mut self, node: usize) -> u64 {
        let gone: Vec<u64> = self.open.iter().filter(|(_, at)| **at == node).map(|(request, _)| *request).collect();
        for request in &gone {
            self.open.remove(request);
            self.asked.get_mut(request).expect("it was asked").is_void = true;
        }
        gone.len() as u64
    }

    /// When an answer is late, for a node that could have given it since `awake_ms`.
    fn due_ms(asked: &Asked, awake_ms: u64, limits: &RelayLimits) -> u64 {
        (asked.asked_ms + limits.answer_timeout_ms).max(awake_ms) + SLACK_MS
    }

    pub fn check_open(&self, now_ms: u64, awake_ms: impl Fn(usize) -> Option<u64>, limits: &RelayLimits) {
        let Some((request, node)) = self.open.first_key_value() else { return };
        let Some(awake_ms) = awake_ms(*node) else { return };
        let due_ms = Ledger::due_ms(&self.asked[request], awake_ms, limits);
        assert!(now_ms <= due_ms, "the answer of {request} is late: {:?}", self.asked[request]);
    }

    /// A node gives an answer. `applied`: how far its copy reaches.
    #[expect(clippy::too_many_arguments)]
    pub fn answered(
        &mut self,
        now_ms: u64,
        (node, life): (usize, u64),
        request: u64,
        outcome: Outcome,
        (applied, awake_ms): (u64, u64),
        stream: &Stream,
        limits: &RelayLimits,
        totals: &mut Totals,
    ) {
        let asked = self.asked.get_mut(&request).expect("it was asked");
        assert_eq!((asked.node, asked.life), (node, life), "another node answers");
        assert_eq!(asked.answer, None, "{request} is answered twice");
        assert!(now_ms <= Ledger::due_ms(asked, awake_ms, limits), "the answer of {request} is late");
        self.open.remove(&request);
        match &outcome {
            Outcome::Stored { receipt, repeated } => {
                *if *repeated { &mut totals.known } else { &mut totals.stored } += 1;
                let count: u32 = receipt.iter().map(|run| run.count).sum();
                assert!(count == u32::from(asked.draft.events), "{request} is acknowledged before it has ids");
                let through = receipt.iter().map(|run| sequence_of(run.first)).max().unwrap_or(0);
                let in_time = now_ms < asked.asked_ms + limits.answer_timeout_ms * 98 / 100;
                assert!(applied >= through || !in_time, "{request} is acknowledged before the copy has it");
                check_receipt(&asked.draft, receipt, stream);
            }
            Outcome::Refused(refusal) => {
                *match refusal {
                    Refusal::QueueFull => &mut totals.refused_full,
                    Refusal::StorageFull => &mut totals.refused_storage,
                    Refusal::Failed => &mut totals.refused_failed,
                    _ => &mut totals.refused_gone,
                } += 1;
            }
            Outcome::Unknown => totals.unknown += 1,
        }
        (asked.answer, asked.answered_ms) = (Some(outcome), Some(now_ms));
        self.check_one(request, stream);
    }

    /// What must hold of a request at any time.
    pub fn check_one(&self, request: u64, stream: &Stream) {
        let asked = &self.asked[&request];
        let is_stored = stream.stored.contains_key(&(request, 0));
        match &asked.answer {
            Some(Outcome::Refused(_)) => assert!(!is_stored, "{request} was refused and is stored: {asked:?}"),
            Some(Outcome::Stored { repeated: true, .. }) => assert!(!is_stored, "{request} was known, and is stored"),
            Some(Outcome::Stored { receipt, .. }) => {
                check_receipt(&asked.draft, receipt, stream);
                if let Some(before) = asked.after.filter(|_| is_stored) {
                    let place = |request| stream.stored.get(&(request, 0));
                    assert!(place(before) < place(request), "{request} lies before {before}: out of order");
                }
            }
            Some(Outcome::Unknown) | None => {}
        }
    }

    pub fn check_all(&self, stream: &Stream) {
        assert!(self.open.is_empty(), "without an answer: {:?}", self.open);
        self.asked.keys().for_each(|request| self.check_one(*request, stream));
        self.check_order(stream);
    }

    /// What a node has answered, in whatever way, does not land behind what it was asked for later.
    fn check_order(&self, stream: &Stream) {
        let place = |request: u64| stream.stored.get(&(request, 0));
        let mut of_lives: BTreeMap<u64, Vec<(u64, &Asked)>> = BTreeMap::new();
        for (request, asked) in self.asked.iter().filter(|(request, _)| place(**request).is_some()) {
            of_lives.entry(asked.life).or_default().push((*request, asked));
        }
        for requests in of_lives.values() {
            for (at, (later, asked)) in requests.iter().enumerate() {
                for (earlier, before) in &requests[..at] {
                    let is_after = before.answered_ms.is_some_and(|answered_ms| answered_ms < asked.asked_ms);
                    assert!(
                        !is_after || place(*earlier) <= place(*later),
                        "{earlier} was answered before {later} was asked for, and lies behind it: out of order"
                    );
                }
            }
        }
    }
}

/// The receipt names the events of the request, or those of the first one with its key.
fn check_receipt(draft: &Draft, receipt: &[Run], stream: &Stream) {
    let mut ids = receipt.iter().flat_map(|run| (0..run.count).map(|n| run.first.plus(n)));
    if let Some(key) = draft.key {
        let (_, first) = stream.keys.get(&key).expect("what has a key and is acknowledged is stored");
        assert!(first.iter().eq(receipt), "another receipt for the same key");
        return;
    }
    let first = ids.next().map(|id| (id, stream.stored.get(&(draft.request, 0))));
    match first {
        Some((id, Some(sequence))) => assert_eq!(sequence_of(id), *sequence, "the receipt names another message"),
        other => panic!("{} is acknowledged and not stored: {other:?}", draft.request),
    }
    for place in 0..draft.events {
        assert!(stream.stored.contains_key(&(draft.request, place)), "a part of {} is not stored", draft.request);
    }
}
