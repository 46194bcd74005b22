//! The slots of webhooks: what is heard of other nodes, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::{Waiting, Worker};
use crate::cluster::inbox::Inbound;
use crate::cluster::request::{Changes, pack_changes};
use crate::cluster::slots::{Claim, Move};
use crate::cluster::status::SlotChange;
use crate::cluster::wire::{self, NodeBeat};
use crate::journal::Load;

impl Worker {
    pub(super) fn heard(&mut self, beat: NodeBeat) {
        let now_ms = self.now().elapsed_ms;
        match beat.is_leaving {
            true => {
                self.slots.left(&beat.node, now_ms);
                self.status.node_left(&beat.node);
            }
            false => {
                let is_own = beat.node == self.node && beat.life == self.life;
                self.slots.heard(beat.node.clone(), beat.life, if is_own { beat.said_ms } else { now_ms });
                self.status.heard_node(beat.node, beat.about);
            }
        }
    }

    /// The document of a slot has changed.
    pub(super) fn slot_changed(&mut self, slot: u8) {
        let claim = self.claims.of(slot);
        self.status.show_owner(slot, claim.map(|claim| claim.node.clone()));
        let held = claim.and_then(|claim| self.slots.held(slot, claim));
        self.own(slot, held);
    }

    fn own(&self, slot: u8, claim: Option<u64>) {
        let before = self.status.ownership().set(slot, claim);
        if before == claim {
            return;
        }
        // by another claim it is another ownership: somebody else may have had the slot in between
        if before.is_some() {
            self.status.tell(slot, SlotChange::Lost);
        }
        if claim.is_some() {
            self.status.tell(slot, SlotChange::Owned);
        }
    }

    pub(super) fn look_at_slots(&mut self) {
        let now_ms = self.now().elapsed_ms;
        for step in self.slots.step(&self.claims, now_ms) {
            match step {
                Move::Take { slot } => self.claim(slot, self.node.clone(), self.life),
                Move::Give { slot, node, life } => self.claim(slot, node, life),
                Move::LetGo { slot } => self.own(slot, None),
                Move::Release { slot, claim } => {
                    // nothing is begun any more; what runs keeps its claim, which is good until another one is written
                    self.status.ownership().set(slot, None);
                    let inbox = self.inbox.clone();
                    let released = Box::new(move || inbox.put(Inbound::Released { slot, claim }));
                    self.status.tell(slot, SlotChange::Releasing(released));
                }
            }
        }
        let left_ms = self.slots.leased_until_ms().map_or(0, |until_ms| until_ms.saturating_sub(self.now().elapsed_ms));
        self.status.ownership().lease(Duration::from_millis(left_ms));
        self.status.show_nodes(self.slots.live());
    }

    /// Names the owner of a slot in its document, unless somebody else does before.
    fn claim(&mut self, slot: u8, node: Arc<str>, life: u64) {
        let claim = Claim { node, life, claim: u64::from_le_bytes(self.committer.clock.random()).max(1) };
        let change = match claim.change(slot) {
            Ok(change) => change,
            Err(e) => return log::error!(slot; "the owner of a slot cannot be written: {e}"),
        };
        let fence = Some((slot, self.claims.claim(slot)));
        let changes = Changes { changes: vec![change], fence, is_claim: true, ..Changes::default() };
        // nobody waits for it at the queue
        self.publish(pack_changes(&changes), Load::default(), Waiting::Slot(slot));
    }

    pub(super) fn beat(&self, is_leaving: bool) {
        let (node, said_ms, about) = (self.node.clone(), self.now().elapsed_ms, self.status.about());
        let beat = NodeBeat { node, life: self.life, is_leaving, said_ms, about };
        self.link.send(self.link.names.nodes(), wire::encode_node_beat(&beat));
    }
}
