//! What is gone: the ids that retention took or damage destroyed, so that readers can be told.
//!
//! The ledger is in memory. What changes in it comes out as [`LossChange`]s, documents that the caller stores and hands
//! back at the next start. What retention takes is stored before it is taken. Damage is visible from the moment on at which it is
//! found, and waits in [`LossLedger::take_unsaved`] until it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// Damaged ranges that are kept apart. Beyond it the two oldest are made one.
pub const RANGES_MAX: usize = 256;

/// Events of a channel that may be missing: those with ids in (after, through]. Channel 0 stands for all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DamagedRange {
    pub after: EventId,
    pub through: EventId,
    pub channel: u32,
}

impl DamagedRange {
    pub fn new(no: ChannelNo, after: EventId, through: EventId) -> DamagedRange {
        DamagedRange { after, through, channel: no.0 }
    }

    fn concerns(&self, no: ChannelNo) -> bool {
        no == ChannelNo::ALL || self.channel == ChannelNo::ALL.0 || self.channel == no.0
    }

    fn covers(&self, other: &DamagedRange) -> bool {
        self.concerns(ChannelNo(other.channel))
            && (self.channel == other.channel || self.channel == ChannelNo::ALL.0)
            && self.after <= other.after
            && other.through <= self.through
    }

    fn key(&self) -> Vec<u8> {
        [b"d".as_slice(), &self.channel.to_be_bytes(), &self.after.to_bytes()].concat()
    }
}

/// One document of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossDocument {
    /// Retention took everything of the channel up to this event.
    Expired {
        channel: u32,
        through: EventId,
    },
    Damaged(DamagedRange),
    /// The newest segment that retention dropped, and the newest event of those that are gone.
    Dropped {
        segment: u64,
        head: EventId,
    },
}

/// A document that is put under a key, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossChange {
    pub key: Vec<u8>,
    pub document: Option<LossDocument>,
}

impl LossChange {
    /// The document under its key.
    pub fn of(document: LossDocument) -> LossChange {
        LossChange::put(document)
    }

    fn put(document: LossDocument) -> LossChange {
        let key = match &document {
            LossDocument::Expired { channel, .. } => [b"e".as_slice(), &channel.to_be_bytes()].concat(),
            LossDocument::Damaged(range) => range.key(),
            LossDocument::Dropped { .. } => b"s".to_vec(),
        };
        LossChange { key, document: Some(document) }
    }

    fn remove(range: &DamagedRange) -> LossChange {
        LossChange { key: range.key(), document: None }
    }
}

#[derive(Debug, Default)]
pub struct LossLedger {
    expired: BTreeMap<u32, EventId>,
    expired_all: EventId,
    /// In order.
    damaged: Vec<DamagedRange>,
    dropped_segment: u64,
    head: EventId,
    unsaved: Vec<LossChange>,
}

impl LossLedger {
    /// Adds what was stored before.
    pub fn restore(&mut self, documents: impl IntoIterator<Item = LossDocument>) {
        for document in documents {
            match document {
                LossDocument::Expired { channel, through } => self.expire(channel, through),
                LossDocument::Damaged(range) => drop(self.insert(range)),
                LossDocument::Dropped { segment, head } => {
                    self.dropped_segment = self.dropped_segment.max(segment);
                    self.head = self.head.max(head);
                }
            }
        }
    }

    /// Takes over what was stored before, after damage was found already: what of that was known is not unsaved.
    pub fn recover(&mut self, documents: impl IntoIterator<Item = LossDocument>) {
        let found = std::mem::take(self).damaged;
        self.restore(documents);
        for range in found {
            self.damage(range);
        }
    }

    fn expire(&mut self, channel: u32, through: EventId) {
        let kept = self.expired.entry(channel).or_default();
        *kept = through.max(*kept);
        self.expired_all = self.expired_all.max(through);
        self.head = self.head.max(through);
    }

    /// What has to be stored before segments up to number `segment`, with these newest ids per channel, are dropped.
    pub fn plan_expiry(&self, segment: u64, newest: &BTreeMap<u32, EventId>) -> Vec<LossChange> {
        let all = newest.values().copied().max().unwrap_or_default();
        let head = self.head.max(all);
        let mut changes = vec![LossChange::put(LossDocument::Dropped { segment, head })];
        let expired =
            newest.iter().map(|(channel, through)| LossDocument::Expired { channel: *channel, through: *through });
        changes.extend(expired.map(LossChange::put));
        // an id that is known to be expired need not be known to be damaged
        let is_known = |range: &&DamagedRange| match range.channel {
            0 => range.through <= all,
            channel => newest.get(&channel).is_some_and(|newest| range.through <= *newest),
        };
        changes.extend(self.damaged.iter().filter(is_known).map(LossChange::remove));
        changes
    }

    /// Takes over changes that are stored now.
    pub fn apply(&mut self, changes: &[LossChange]) {
        for change in changes {
            match &change.document {
                Some(document) => self.restore([document.clone()]),
                None => self.damaged.retain(|range| range.key() != change.key),
            }
        }
    }

    /// Notes damage. Readers see it at once. False when it was known.
    pub fn damage(&mut self, range: DamagedRange) -> bool {
        let changes = self.insert(range);
        let is_new = !changes.is_empty();
        self.unsaved.extend(changes);
        is_new
    }

    fn insert(&mut self, mut range: DamagedRange) -> Vec<LossChange> {
        if range.after >= range.through || self.damaged.iter().any(|known| known.covers(&range)) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        // an id in a damaged range may have been given out, and none is given out twice
        self.head = self.head.max(range.through);
        // one that grows may touch others
        while let Some(at) = self.damaged.iter().position(|known| touch(known, &range) || range.covers(known)) {
            let known = self.damaged.remove(at);
            if known.channel == range.channel {
                range.after = range.after.min(known.after);
                range.through = range.through.max(known.through);
            }
            changes.push(LossChange::remove(&known));
        }
        self.damaged.push(range);
        self.damaged.sort_unstable();
        changes.push(LossChange::put(LossDocument::Damaged(range)));
        if self.damaged.len() > RANGES_MAX {
            let (first, second) = (self.damaged.remove(0), self.damaged.remove(0));
            changes.extend([LossChange::remove(&first), LossChange::remove(&second)]);
            let channel = if first.channel == second.channel { first.channel } else { ChannelNo::ALL.0 };
            let (after, through) = (first.after, first.through.max(second.through));
            changes.extend(self.insert(DamagedRange { after, through, channel }));
        }
        changes
    }

    /// Damage that is not stored yet. Who takes it stores it, or gives it back.
    pub fn take_unsaved(&mut self) -> Vec<LossChange> {
        std::mem::take(&mut self.unsaved)
    }

    /// Takes back what could not be stored.
    pub fn give_back(&mut self, changes: Vec<LossChange>) {
        let later = std::mem::replace(&mut self.unsaved, changes);
        self.unsaved.extend(later);
    }

    /// The newest id that was ever given out, as far as what is gone shows.
    pub fn head(&self) -> EventId {
        self.head
    }

    /// The newest segment that retention dropped; 0 while it dropped none.
    pub fn dropped_segment(&self) -> u64 {
        self.dropped_segment
    }

    /// The highest channel of which anything is known to be gone.
    pub fn highest_channel(&self) -> u32 {
        let damaged = self.damaged.iter().map(|range| range.channel);
        damaged.chain(self.expired.last_key_value().map(|(channel, _)| *channel)).max().unwrap_or(0)
    }

    /// The newest event of the channel (or of all) that retention took; zero while it took none.
    pub fn expired(&self, no: ChannelNo) -> EventId {
        match no {
            ChannelNo::ALL => self.expired_all,
            no => self.expired.get(&no.0).copied().unwrap_or_default(),
        }
    }

    /// Channels of which retention took events behind `after`, each with the newest one.
    pub fn expired_after(&self, after: EventId) -> Vec<(ChannelNo, EventId)> {
        if self.expired_all <= after {
            return Vec::new();
        }
        let newer = self.expired.iter().filter(|(_, through)| **through > after);
        newer.map(|(channel, through)| (ChannelNo(*channel), *through)).collect()
    }

    /// Whether events of the channel (or of any) with ids in (after, through] may be gone.
    pub fn between(&self, no: ChannelNo, after: EventId, through: EventId) -> bool {
        self.expired(no) > after || self.damaged_between(no, after, through).is_some()
    }

    /// The first part of (after, through] in which events of the channel (or of any) may be missing because of damage.
    pub fn damaged_between(&self, no: ChannelNo, after: EventId, through: EventId) -> Option<(EventId, EventId)> {
        let concerned = self.damaged.iter().filter(|range| range.concerns(no));
        let within = concerned.map(|range| (range.after.max(after), range.through.min(through)));
        within.filter(|(after, through)| after < through).min()
    }

    /// All that is known to be gone, as documents.
    pub fn documents(&self) -> Vec<LossDocument> {
        let expired = self
            .expired
            .iter()
            .map(|(channel, through)| LossDocument::Expired { channel: *channel, through: *through });
        let damaged = self.damaged.iter().copied().map(LossDocument::Damaged);
        let dropped = LossDocument::Dropped { segment: self.dropped_segment, head: self.head };
        expired.chain(damaged).chain([dropped]).collect()
    }

    /// All damaged ranges.
    pub fn damaged(&self) -> &[DamagedRange] {
        &self.damaged
    }
}

/// Whether two ranges are one.
fn touch(a: &DamagedRange, b: &DamagedRange) -> bool {
    a.channel == b.channel && a.after <= b.through && b.after <= a.through
}

/// What was lost before a backup was taken or while it was, as what has to be stored in the folder that is restored: as far as it
/// concerns events up to `head`, the newest one of the backup. `dropped`: the segment of that folder before its first one.
pub fn restored_losses(
    documents: impl IntoIterator<Item = LossDocument>,
    dropped: u64,
    head: EventId,
) -> Vec<LossChange> {
    let mut ledger = LossLedger::default();
    let concerned = documents.into_iter().filter_map(|document| match document {
        LossDocument::Expired { channel, through } => {
            Some(LossDocument::Expired { channel, through: through.min(head) })
        }
        LossDocument::Damaged(range) => {
            Some(LossDocument::Damaged(DamagedRange { through: range.through.min(head), ..range }))
        }
        LossDocument::Dropped { .. } => None,
    });
    ledger.restore(concerned);
    ledger.restore([LossDocument::Dropped { segment: dropped, head }]);
    ledger.documents().into_iter().map(LossChange::of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::tests::id;

    fn damaged(no: u32, after: u32, through: u32) -> DamagedRange {
        DamagedRange::new(ChannelNo(no), id(after), id(through))
    }

    /// A ledger as it stands after a restart: made of what the changes left stored.
    #[derive(Default)]
    struct Stored(BTreeMap<Vec<u8>, LossDocument>);

    impl Stored {
        fn store(&mut self, changes: Vec<LossChange>) {
            for LossChange { key, document } in changes {
                match document {
                    Some(document) => {
                        let text = serde_json::to_vec(&document).unwrap();
                        self.0.insert(key, serde_json::from_slice(&text).unwrap())
                    }
                    None => self.0.remove(&key),
                };
            }
        }

        fn ledger(&self) -> LossLedger {
            let mut ledger = LossLedger::default();
            ledger.restore(self.0.values().cloned());
            ledger
        }
    }

    #[test]
    fn damage_of_one_channel_does_not_concern_another() {
        let mut ledger = LossLedger::default();
        assert!(ledger.damage(damaged(1, 3, 5)));
        assert!(!ledger.damage(damaged(1, 4, 5)), "it is known");
        assert!(ledger.between(ChannelNo(1), id(0), id(9)));
        assert!(!ledger.between(ChannelNo(2), id(0), id(9)));
        assert_eq!(ledger.damaged_between(ChannelNo::ALL, id(4), id(9)), Some((id(4), id(5))));
        ledger.damage(damaged(0, 7, 8));
        assert_eq!(ledger.damaged_between(ChannelNo(2), id(0), id(9)), Some((id(7), id(8))));
        assert_eq!(ledger.head(), id(8));
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let (mut ledger, mut stored) = (LossLedger::default(), Stored::default());
        for range in [damaged(1, 1, 3), damaged(1, 5, 7), damaged(2, 3, 5), damaged(1, 3, 5)] {
            ledger.damage(range);
        }
        stored.store(ledger.take_unsaved());
        assert_eq!(ledger.damaged(), [damaged(1, 1, 7), damaged(2, 3, 5)]);
        assert_eq!(stored.ledger().damaged(), ledger.damaged());
        ledger.damage(damaged(0, 0, 9));
        stored.store(ledger.take_unsaved());
        assert_eq!(stored.ledger().damaged(), [damaged(0, 0, 9)]);
    }

    #[test]
    fn what_could_not_be_stored_waits_for_the_next_attempt() {
        let (mut ledger, mut stored) = (LossLedger::default(), Stored::default());
        ledger.damage(damaged(1, 1, 3));
        let unsaved = ledger.take_unsaved();
        ledger.damage(damaged(1, 3, 4));
        ledger.give_back(unsaved);
        stored.store(ledger.take_unsaved());
        assert_eq!(stored.ledger().damaged(), [damaged(1, 1, 4)]);
        assert_eq!(ledger.take_unsaved(), []);
    }

    #[test]
    fn expiry_is_known_after_a_restart_and_swallows_damage() {
        let (mut ledger, mut stored) = (LossLedger::default(), Stored::default());
        ledger.damage(damaged(1, 1, 3));
        ledger.damage(damaged(2, 1, 30));
        stored.store(ledger.take_unsaved());
        let changes = ledger.plan_expiry(4, &BTreeMap::from([(1, id(8)), (2, id(9))]));
        assert_eq!(ledger.expired(ChannelNo::ALL), EventId::ZERO, "it is only planned");
        ledger.apply(&changes);
        stored.store(changes);
        for ledger in [ledger, stored.ledger()] {
            assert_eq!((ledger.expired(ChannelNo(1)), ledger.expired(ChannelNo::ALL)), (id(8), id(9)));
            assert_eq!((ledger.dropped_segment(), ledger.head(), ledger.highest_channel()), (4, id(30), 2));
            assert_eq!(ledger.damaged(), [damaged(2, 1, 30)]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_was_damaged_is_ever_forgotten(ranges in proptest::collection::vec((0u32..4, 0u32..3000, 1u32..3), 1..600)) {
            let (mut ledger, mut stored) = (LossLedger::default(), Stored::default());
            for (no, after, len) in &ranges {
                ledger.damage(damaged(*no, *after, after + len));
                stored.store(ledger.take_unsaved());
            }
            prop_assert!(ledger.damaged().len() <= RANGES_MAX);
            let stored = stored.ledger();
            prop_assert_eq!(stored.damaged(), ledger.damaged());
            for (no, after, len) in ranges {
                prop_assert!(ledger.damaged_between(ChannelNo(no), id(after), id(after + len)).is_some());
            }
        }
    }
}
