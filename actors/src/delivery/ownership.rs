//! For which webhooks this server delivers: for all of them, or, as one node of many, for those of the slots that it owns.
//!
//! A node owns nothing for longer than its lease, which is over before the other nodes count it as gone: what is to extend the
//! lease may hang, and then another node delivers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::journal::Fence;

/// Into how many slots webhooks are spread.
pub const SLOTS: usize = 64;

/// The slot of a webhook. All nodes have to agree on it, whatever their version.
pub fn slot_of(webhook: &str) -> u8 {
    // ids are random, and so are their checksums
    (crc32fast::hash(webhook.as_bytes()) as usize % SLOTS) as u8
}

/// This node does not deliver for the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwned;

#[derive(Debug, Default)]
pub struct Ownership {
    /// None: every webhook is this server's.
    slots: Option<Box<Slots>>,
}

#[derive(Debug)]
struct Slots {
    /// The claim by which each slot is owned, 0 where it is not.
    claims: [AtomicU64; SLOTS],
    begun: Instant,
    /// Until when the claims hold, in milliseconds since then, by a clock that nobody sets.
    leased_until_ms: AtomicU64,
}

impl Slots {
    fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

impl Ownership {
    /// Of one node of many, which owns nothing yet.
    pub fn of_slots() -> Ownership {
        let claims = [const { AtomicU64::new(0) }; SLOTS];
        Ownership { slots: Some(Box::new(Slots { claims, begun: Instant::now(), leased_until_ms: AtomicU64::new(0) })) }
    }

    /// From now on the claims hold for so long, and not longer unless this is called again.
    pub fn lease(&self, time: Duration) {
        if let Some(slots) = &self.slots {
            slots.leased_until_ms.store(slots.elapsed_ms() + time.as_millis() as u64, Ordering::Release);
        }
    }

    /// Whether something may be begun for a webhook of this server now: if not, another node may do it.
    pub fn may_begin(&self) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots.elapsed_ms() < slots.leased_until_ms.load(Ordering::Acquire))
    }

    /// Whether this server delivers for a webhook.
    pub fn is_mine(&self, webhook: &str) -> bool {
        self.slots.is_none() || self.claim(slot_of(webhook)).is_some()
    }

    /// In whose name the actor of a webhook writes; none where every webhook is this server's.
    ///
    /// # Errors
    /// The webhook is another node's, or nobody's.
    pub fn fence(&self, webhook: &str) -> Result<Option<Fence>, NotOwned> {
        if self.slots.is_none() {
            return Ok(None);
        }
        let slot = slot_of(webhook);
        self.claim(slot).map(|claim| Some(Fence { slot, claim })).ok_or(NotOwned)
    }

    /// The claim by which this node owns a slot.
    pub fn claim(&self, slot: u8) -> Option<u64> {
        let claim = self.slots.as_ref()?.claims.get(usize::from(slot))?.load(Ordering::Acquire);
        (claim > 0).then_some(claim)
    }

    /// How many slots this node owns.
    pub fn owned(&self) -> usize {
        (0..SLOTS).filter(|slot| self.claim(*slot as u8).is_some()).count()
    }

    /// From now on the slot is owned by this claim, or, with none, not any more. Answers with what was before.
    pub fn set(&self, slot: u8, claim: Option<u64>) -> Option<u64> {
        let of_slot = self.slots.as_ref()?.claims.get(usize::from(slot))?;
        let before = of_slot.swap(claim.unwrap_or(0), Ordering::AcqRel);
        (before > 0).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_needs_no_fence_and_a_node_writes_by_the_claim_that_it_holds() {
        assert_eq!(Ownership::default().fence("wh_1"), Ok(None));
        let (ownership, slot) = (Ownership::of_slots(), slot_of("wh_1"));
        assert_eq!(ownership.fence("wh_1"), Err(NotOwned));
        assert_eq!(ownership.set(slot, Some(7)), None);
        assert_eq!(ownership.fence("wh_1"), Ok(Some(Fence { slot, claim: 7 })));
        assert_eq!(ownership.set(slot, Some(9)), Some(7));
        assert_eq!(ownership.fence("wh_1"), Ok(Some(Fence { slot, claim: 9 })));
        assert_eq!((ownership.set(slot, None), ownership.owned()), (Some(9), 0));
        assert_eq!(ownership.fence("wh_1"), Err(NotOwned));
    }

    #[test]
    fn nothing_is_begun_by_a_node_whose_lease_is_over_though_it_holds_its_claims() {
        assert!(Ownership::default().may_begin(), "a server alone needs no lease");
        let ownership = Ownership::of_slots();
        ownership.set(3, Some(7));
        assert!(!ownership.may_begin(), "none was given yet");
        ownership.lease(Duration::from_secs(3_600));
        assert!(ownership.may_begin());
        ownership.lease(Duration::ZERO);
        assert!(!ownership.may_begin());
        assert_eq!(ownership.claim(3), Some(7), "who owns the slot is said by its document");
    }
}
