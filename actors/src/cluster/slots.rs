//! Which node delivers for which webhooks. Webhooks are spread over slots, and a slot has one owner: the node that its
//! document names. Who wants to be it changes the document, on the condition that nobody has since it looked; every write of an
//! owner names its claim, and the writer of the log refuses what comes in the name of a claim that is over. A claim is used once:
//! whoever has ended what it did by one needs another to go on, so that a late write of before cannot land behind a new one.
//!
//! The wanted owner of a slot is the live node with the highest hash of slot and node, so that each node that comes or
//! goes moves only its own share. A node is live that was heard a moment ago.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::delivery::ownership::SLOTS;
use crate::documents::{Change, DocumentError, Documents, Table};

/// Beats in the time after which a node that is not heard counts as gone. A node that does not hear itself lets go of its slots
/// one of them before others may take them.
const BEATS: u64 = 6;
const BEAT_MAX_MS: u64 = 250;

/// How often a node says that it is there.
pub fn beat_ms(silent_ms: u64) -> u64 {
    (silent_ms / BEATS).clamp(1, BEAT_MAX_MS)
}

/// The document of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub node: Arc<str>,
    /// Of the node's process.
    pub life: u64,
    /// Names the claim; never 0.
    pub claim: u64,
}

impl Claim {
    /// # Errors
    /// None that can be: it has a JSON form.
    pub fn change(&self, slot: u8) -> Result<Change, DocumentError> {
        Change::put(Table::Slots, [slot], self)
    }
}

/// Who owns which slot by the documents of the copy.
#[derive(Debug)]
pub struct Claims {
    by_slot: Vec<Option<Claim>>,
}

impl Claims {
    /// # Errors
    /// A document is damaged.
    pub fn load(documents: &Documents) -> Result<Claims, DocumentError> {
        let mut claims = Claims { by_slot: vec![None; SLOTS] };
        for (key, claim) in documents.scan::<Claim>(Table::Slots, b"")? {
            if let Some(of_slot) = key.first().and_then(|slot| claims.by_slot.get_mut(usize::from(*slot))) {
                *of_slot = Some(claim);
            }
        }
        Ok(claims)
    }

    /// The claim by which a slot is owned; 0: by nobody.
    pub fn claim(&self, slot: u8) -> u64 {
        self.of(slot).map_or(0, |claim| claim.claim)
    }

    pub fn of(&self, slot: u8) -> Option<&Claim> {
        self.by_slot.get(usize::from(slot))?.as_ref()
    }

    /// Reads the document of a slot anew.
    pub fn reload(&mut self, slot: u8, documents: &Documents) {
        let claim = documents.get(Table::Slots, [slot]).ok().flatten();
        if let Some(of_slot) = self.by_slot.get_mut(usize::from(slot)) {
            *of_slot = claim;
        }
    }

    /// Takes over a change of documents; answers with the slot if it is of one.
    pub fn apply(&mut self, change: &Change) -> Option<u8> {
        let ([slot], Table::Slots) = (change.own_key(), change.table()) else { return None };
        let claim = change.document::<Claim>().ok()?;
        *self.by_slot.get_mut(usize::from(*slot))? = claim;
        Some(*slot)
    }
}

/// Another node, as it was heard last.
#[derive(Clone, Copy, Debug)]
struct Peer {
    life: u64,
    heard_ms: u64,
}

/// What is to be done about a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Write the document: from now on the slot is this node's.
    Take { slot: u8 },
    /// Begin nothing for the slot, end what is done by this claim, and then [`Slots::released`].
    Release { slot: u8, claim: u64 },
    /// Write the document: from now on the slot is that node's.
    Give { slot: u8, node: Arc<str>, life: u64 },
    /// End what is done for the slot at once: others may believe that this node is gone.
    LetGo { slot: u8 },
}

/// Which slots this node owns, wants and gives away. Pure: time is an argument.
#[derive(Debug)]
pub struct Slots {
    node: Arc<str>,
    life: u64,
    silent_ms: u64,
    peers: HashMap<Arc<str>, Peer>,
    /// Since when nodes neither came nor went.
    settled_ms: u64,
    /// Of each slot: a document is being written.
    writing: [bool; SLOTS],
    /// Of each slot: the claim of this node that is used up, because what was done by it was told to end; 0: none.
    used: [u64; SLOTS],
    /// Of each slot: what was done by that claim is being ended in order, or has ended (true).
    releasing: [Option<bool>; SLOTS],
    /// After it was away this node does nothing until it has heard the others.
    away_until_ms: Option<u64>,
    looked_ms: u64,
    /// When this node heard its own beat: what it says reaches the others.
    own_heard_ms: u64,
}

impl Slots {
    pub fn new(node: Arc<str>, life: u64, silent_ms: u64, now_ms: u64) -> Slots {
        Slots {
            node,
            life,
            silent_ms,
            peers: HashMap::new(),
            settled_ms: now_ms,
            writing: [false; SLOTS],
            used: [0; SLOTS],
            releasing: [None; SLOTS],
            // others may be there that were not heard yet
            away_until_ms: Some(now_ms + silent_ms),
            looked_ms: now_ms,
            own_heard_ms: now_ms,
        }
    }

    /// A node beats. Of this one `now_ms` is when it said so: what was heard late is worth no more for that.
    pub fn heard(&mut self, node: Arc<str>, life: u64, now_ms: u64) {
        if node == self.node {
            self.own_heard_ms = if life == self.life { now_ms.max(self.own_heard_ms) } else { self.own_heard_ms };
            return;
        }
        let before = self.peers.insert(node, Peer { life, heard_ms: now_ms });
        if before.is_none_or(|peer| peer.life != life) {
            self.settled_ms = now_ms;
        }
    }

    /// Another node says that it ends.
    pub fn left(&mut self, node: &str, now_ms: u64) {
        if self.peers.remove(node).is_some() {
            self.settled_ms = now_ms;
        }
    }

    /// The names of the nodes that are live, this one included, in order.
    pub fn live(&self) -> Vec<Arc<str>> {
        let mut live: Vec<_> = self.peers.keys().cloned().chain([self.node.clone()]).collect();
        live.sort_unstable();
        live
    }

    /// What was done for the slot by a claim has ended.
    pub fn released(&mut self, slot: u8, claim: u64) {
        let n = usize::from(slot);
        if self.used.get(n) == Some(&claim) {
            self.releasing[n] = self.releasing[n].map(|_| true);
        }
    }

    /// The write of a slot's document was answered.
    pub fn written(&mut self, slot: u8) {
        self.writing[usize::from(slot)] = false;
    }

    /// Whether the slot is this node's by its document.
    fn is_mine(&self, claim: Option<&Claim>) -> bool {
        claim.is_some_and(|claim| claim.node == self.node && claim.life == self.life)
    }

    /// Whether this node may do anything for slots now: it was not away a moment ago.
    fn is_present(&self) -> bool {
        self.away_until_ms.is_none()
    }

    /// Until when this node may begin something for its slots, whatever becomes of it meanwhile; none: it may not now. Others
    /// count it as gone later than that: they have heard the beat that it has heard itself, and wait longer.
    pub fn leased_until_ms(&self) -> Option<u64> {
        self.is_present().then(|| self.own_heard_ms + self.silent_ms - beat_ms(self.silent_ms))
    }

    /// The claim, if this node may begin something for the slot by it.
    pub fn held(&self, slot: u8, claim: &Claim) -> Option<u64> {
        let is_used = self.used.get(usize::from(slot)) == Some(&claim.claim);
        (self.is_mine(Some(claim)) && self.is_present() && !is_used).then_some(claim.claim)
    }

    /// The claims of this node are used up from now on; the slots that they are of.
    fn use_up_all(&mut self, claims: &Claims) -> Vec<u8> {
        let mut of_slots = Vec::new();
        for slot in 0..SLOTS as u8 {
            if let Some(claim) = claims.of(slot).filter(|claim| self.is_mine(Some(claim))) {
                self.used[usize::from(slot)] = claim.claim;
                of_slots.push(slot);
            }
        }
        of_slots
    }

    /// What is to be done now.
    pub fn step(&mut self, claims: &Claims, now_ms: u64) -> Vec<Move> {
        let mut moves = Vec::new();
        let stood_still = now_ms.saturating_sub(self.looked_ms) >= self.silent_ms;
        let is_cut_off = now_ms.saturating_sub(self.own_heard_ms) >= self.silent_ms - beat_ms(self.silent_ms);
        if stood_still || is_cut_off && self.away_until_ms.is_none() {
            // others count it as gone, or are about to
            moves.extend(self.use_up_all(claims).into_iter().map(|slot| Move::LetGo { slot }));
            self.away_until_ms = Some(now_ms + self.silent_ms);
            self.peers.values_mut().for_each(|peer| peer.heard_ms = now_ms);
        }
        self.looked_ms = now_ms;
        if is_cut_off {
            // it is away for as long as that lasts, and a while longer
            self.away_until_ms = Some(now_ms + self.silent_ms);
            return moves;
        }
        let silent_ms = self.silent_ms;
        let known = self.peers.len();
        self.peers.retain(|_, peer| now_ms.saturating_sub(peer.heard_ms) < silent_ms);
        if self.peers.len() != known {
            self.settled_ms = now_ms;
        }
        if let Some(until_ms) = self.away_until_ms {
            if now_ms < until_ms {
                return moves;
            }
            self.away_until_ms = None;
            // by what came meanwhile nothing was begun, and it is not said again
            self.use_up_all(claims);
        }
        let is_settled = now_ms.saturating_sub(self.settled_ms) >= self.silent_ms;
        for slot in 0..SLOTS as u8 {
            moves.extend(self.step_slot(slot, claims.of(slot), is_settled));
        }
        moves
    }

    fn step_slot(&mut self, slot: u8, owner: Option<&Claim>, is_settled: bool) -> Option<Move> {
        let n = usize::from(slot);
        let mine = owner.filter(|claim| self.is_mine(Some(claim)));
        let is_used = mine.is_some_and(|claim| claim.claim == self.used[n]);
        if !is_used {
            // what is being ended is of a claim that is over
            self.releasing[n] = None;
        }
        if self.writing[n] || self.releasing[n] == Some(false) {
            return None;
        }
        let has_ended = self.releasing[n] == Some(true);
        let step = match (mine, self.wanted(slot)) {
            (Some(_), Some((node, life))) if is_used && (has_ended || is_settled) => Move::Give { slot, node, life },
            // it was let go, or another node wanted it for a moment
            (Some(_), _) if is_used => Move::Take { slot },
            (Some(claim), Some(_)) if is_settled => {
                self.used[n] = claim.claim;
                self.releasing[n] = Some(false);
                return Some(Move::Release { slot, claim: claim.claim });
            }
            (None, None) if !owner.is_some_and(|owner| self.is_live(owner)) => Move::Take { slot },
            (Some(_) | None, _) => return None,
        };
        self.writing[n] = true;
        Some(step)
    }

    fn is_live(&self, claim: &Claim) -> bool {
        self.peers.get(&claim.node).is_some_and(|peer| peer.life == claim.life)
    }

    /// Who should own the slot: another node, or none for this one.
    fn wanted(&self, slot: u8) -> Option<(Arc<str>, u64)> {
        let own = weight(slot, &self.node);
        let best = self.peers.iter().max_by_key(|(node, _)| (weight(slot, node), (*node).clone()))?;
        (weight(slot, best.0) > own).then(|| (best.0.clone(), best.1.life))
    }
}

fn weight(slot: u8, node: &str) -> [u8; 8] {
    let digest = Sha256::new().chain_update([slot]).chain_update(node).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT_MS: u64 = 1_500;

    fn claimed(owner: &str, life: u64, claim: u64) -> Claims {
        Claims { by_slot: vec![Some(Claim { node: owner.into(), life, claim }); SLOTS] }
    }

    fn documents(owner: &str, life: u64) -> Claims {
        claimed(owner, life, 7)
    }

    fn nobody() -> Claims {
        Claims { by_slot: vec![None; SLOTS] }
    }

    /// A node that has listened for others and begins nothing by an older claim.
    fn present(node: &str) -> Slots {
        let mut slots = Slots::new(node.into(), 1, SILENT_MS, 0);
        for now_ms in (0..=SILENT_MS).step_by(250) {
            slots.heard(node.into(), 1, now_ms);
            slots.step(&claimed(node, 1, 6), now_ms);
        }
        (0..SLOTS as u8).for_each(|slot| slots.written(slot));
        slots
    }

    #[test]
    fn a_node_alone_takes_every_slot_once_it_has_listened_for_others() {
        let mut slots = Slots::new("a".into(), 1, SILENT_MS, 0);
        for now_ms in (0..SILENT_MS).step_by(250) {
            slots.heard("a".into(), 1, now_ms);
            assert!(slots.step(&nobody(), now_ms).is_empty());
        }
        let moves = slots.step(&nobody(), SILENT_MS);
        assert_eq!(moves.len(), SLOTS);
        assert!(moves.iter().all(|step| matches!(step, Move::Take { .. })));
        assert!(slots.step(&nobody(), SILENT_MS + 250).is_empty(), "they are being written");
    }

    #[test]
    fn of_two_nodes_each_wants_its_share_and_no_slot_is_wanted_by_both() {
        let (mut a, mut b) = (present("a"), present("b"));
        a.heard("b".into(), 1, 1_600);
        b.heard("a".into(), 1, 1_600);
        let taken = |slots: &mut Slots| slots.step(&nobody(), 1_700).len();
        let (of_a, of_b) = (taken(&mut a), taken(&mut b));
        assert_eq!(of_a + of_b, SLOTS);
        assert!(of_a > SLOTS / 5 && of_b > SLOTS / 5, "{of_a} {of_b}");
    }

    #[test]
    fn slots_are_handed_over_only_after_what_is_done_for_them_has_ended_and_nodes_have_settled() {
        let mut slots = present("a");
        let owned = documents("a", 1);
        let mut released = Vec::new();
        for now_ms in (1_600..6_000).step_by(250) {
            slots.heard("a".into(), 1, now_ms);
            slots.heard("b".into(), 5, now_ms);
            for step in slots.step(&owned, now_ms) {
                match step {
                    Move::Release { slot, claim } => {
                        assert!(now_ms >= 1_600 + SILENT_MS, "{now_ms}");
                        assert_eq!(slots.held(slot, owned.of(slot).unwrap()), None, "nothing is begun by it any more");
                        released.push(slot);
                        slots.released(slot, claim);
                    }
                    Move::Give { slot, node, life } => {
                        assert!(released.contains(&slot));
                        assert_eq!((&*node, life), ("b", 5));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(!released.is_empty() && released.len() < SLOTS);
    }

    #[test]
    fn a_node_that_was_away_lets_go_first_and_goes_on_by_new_claims_where_nobody_took_its_slots() {
        let mut slots = present("a");
        let owned = documents("a", 1);
        assert_eq!(slots.held(3, owned.of(3).unwrap()), Some(7));
        let moves = slots.step(&owned, 1_500 + 4_000);
        assert_eq!(moves.len(), SLOTS);
        assert!(moves.iter().all(|step| matches!(step, Move::LetGo { .. })) && !slots.is_present());
        slots.heard("a".into(), 1, 5_500);
        for now_ms in (5_750..7_000).step_by(250) {
            slots.heard("a".into(), 1, now_ms);
            assert!(slots.step(&owned, now_ms).is_empty());
        }
        let moves = slots.step(&owned, 7_000);
        assert_eq!(moves.len(), SLOTS);
        assert!(moves.iter().all(|step| matches!(step, Move::Take { .. })) && slots.is_present());
        let claim = owned.of(3).unwrap();
        assert_eq!(slots.held(3, claim), None, "writes of before may be under way in its name");
        assert_eq!(slots.held(3, &Claim { claim: 8, ..claim.clone() }), Some(8));
    }

    #[test]
    fn a_lease_is_over_before_others_count_the_node_as_gone_and_is_not_extended_by_what_was_said_long_ago() {
        let mut slots = Slots::new("a".into(), 1, SILENT_MS, 0);
        assert_eq!(slots.leased_until_ms(), None, "it has not listened for others yet");
        slots = present("a");
        let until_ms = slots.leased_until_ms().expect("a lease");
        assert_eq!(until_ms, SILENT_MS + SILENT_MS - 250, "it has said that it is there at 1,500");
        // it stood still for a while, shorter than would be noticed, and hears what it said before
        slots.heard("a".into(), 1, SILENT_MS);
        slots.step(&documents("a", 1), until_ms - 1);
        assert_eq!(slots.leased_until_ms(), Some(until_ms));
        slots.step(&documents("a", 1), until_ms);
        assert_eq!(slots.leased_until_ms(), None);
    }

    #[test]
    fn a_claim_that_came_while_the_node_was_away_is_made_anew_and_not_forgotten() {
        let mut slots = present("a");
        assert!(slots.step(&nobody(), 5_500).is_empty(), "away");
        let owned = documents("a", 1);
        assert_eq!(slots.held(3, owned.of(3).unwrap()), None, "nothing is begun while it is away");
        for now_ms in (5_500..7_000).step_by(250) {
            slots.heard("a".into(), 1, now_ms);
            slots.step(&owned, now_ms);
        }
        slots.heard("a".into(), 1, 7_000);
        let moves = slots.step(&owned, 7_000);
        assert_eq!(moves.len(), SLOTS);
        assert!(moves.iter().all(|step| matches!(step, Move::Take { .. })));
    }

    #[test]
    fn a_slot_whose_release_was_begun_is_taken_by_a_new_claim_when_the_other_node_goes_but_not_before_it_has_ended() {
        let mut slots = present("a");
        let owned = documents("a", 1);
        let mut released = Vec::new();
        let mut now_ms = 1_600;
        while released.is_empty() && now_ms < 10_000 {
            slots.heard("a".into(), 1, now_ms);
            slots.heard("b".into(), 5, now_ms);
            released = slots.step(&owned, now_ms);
            now_ms += 250;
        }
        assert!(!released.is_empty());
        assert!(released.iter().all(|step| matches!(step, Move::Release { claim: 7, .. })));
        slots.left("b", now_ms);
        slots.heard("a".into(), 1, now_ms);
        assert!(slots.step(&owned, now_ms).is_empty(), "what was done for them has not ended");
        for step in &released {
            let Move::Release { slot, claim } = step else { continue };
            slots.released(*slot, claim + 1);
        }
        assert!(slots.step(&owned, now_ms).is_empty(), "that was of another claim");
        for step in &released {
            let Move::Release { slot, claim } = step else { continue };
            slots.released(*slot, *claim);
        }
        let taken = slots.step(&owned, now_ms);
        assert_eq!(taken.len(), released.len());
        assert!(taken.iter().all(|step| matches!(step, Move::Take { .. })));
    }

    #[test]
    fn the_slots_of_a_node_that_is_silent_or_was_started_again_are_taken() {
        let mut slots = present("a");
        slots.heard("b".into(), 5, 1_600);
        let of_b = documents("b", 5);
        assert!(slots.step(&of_b, 2_000).is_empty());
        let mut taken = 0;
        for now_ms in (2_250..3_500).step_by(250) {
            slots.heard("a".into(), 1, now_ms);
            taken += slots.step(&of_b, now_ms).len();
        }
        assert_eq!(taken, SLOTS);
        let mut slots = present("a");
        slots.heard("b".into(), 6, 1_600);
        assert!(!slots.step(&of_b, 1_700).is_empty(), "its former life owns nothing");
    }
}
