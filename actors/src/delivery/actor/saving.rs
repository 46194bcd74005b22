//! How a webhook actor makes durable what its state machine asks for: one write at a time; a write that fails is tried
//! again, and until then what waits is kept in memory, the newest version of each document.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::clock;
use crate::delivery::actor::{WebhookActor, random};
use crate::delivery::storage::{self, OfWebhook};
use crate::documents::Table;
use crate::journal::{AppendError, DocumentChanges, Pending, Urgency};
use crate::model::delivery::{Change, Input};

/// Writes that fail in a row before people are told: a queue that is full for a moment is no news.
const LATE_FAILURES: u32 = 3;
/// Writes that fail in a row while the server stops. Then the actor ends all the same: what is not durable is done again by
/// the next start, as after a crash.
const STOP_FAILURES_MAX: u32 = 3;

impl WebhookActor {
    /// Adds request number `seq` of the state machine to what is to be written.
    pub(super) fn keep(&mut self, seq: u64, changes: Vec<Change>) {
        let stored = OfWebhook { documents: &self.handles.documents, webhook: &self.ready.webhook.id };
        self.unsaved.add(seq, changes, &stored);
    }

    /// Writes what waits, unless a write is under way or one that failed is tried again later.
    pub(super) fn save(&mut self, ctx: &mut Context<Self>) {
        if self.is_discarded || self.save_again.is_some() {
            return;
        }
        match self.queue() {
            None => {}
            Some(Ok(pending)) => {
                // without a limit of time: the journal answers in any case, and there is one write at a time
                ctx.spawn(pending.into_actor(self).map(|written, actor, ctx| actor.written(written, ctx)));
            }
            Some(Err(e)) => self.written(Err(e), ctx),
        }
    }

    /// Hands the next batch to the journal; none where there is none to write.
    fn queue(&mut self) -> Option<Result<Pending<()>, AppendError>> {
        let webhook = &*self.ready.webhook.id;
        let batch = self.unsaved.begin()?;
        let journal = &self.handles.journal;
        if journal.storage_full() {
            // before anything is made of it: all webhooks try again and again
            return Some(Err(AppendError::StorageFull));
        }
        let changes = storage::changes(webhook, batch).map_err(|e| AppendError::Store(e.to_string()));
        Some(changes.and_then(|changes| {
            journal.change(DocumentChanges {
                changes,
                // the late write of a webhook that was deleted is refused
                requires: Some((Table::Webhooks, webhook.into())),
                fence: self.fence,
                urgency: Urgency::Normal,
                epoch: None,
            })
        }))
    }

    fn written(&mut self, written: Result<(), AppendError>, ctx: &mut Context<Self>) {
        match written {
            _ if self.is_discarded => self.end(ctx),
            Ok(()) => self.saved(ctx),
            Err(AppendError::Gone) => {
                let webhook = &*self.ready.webhook.id;
                log::info!(webhook; "the webhook was deleted or is another node's, and its actor ends");
                self.end(ctx);
            }
            Err(e) => self.not_saved(&e, ctx),
        }
    }

    fn saved(&mut self, ctx: &mut Context<Self>) {
        if self.is_late() {
            self.handles.late_writes.leave();
        }
        let through = self.unsaved.saved();
        self.sweep();
        self.saved_seq = through;
        for (_, outcome, tell) in self.waiting.extract_if(.., |(seq, ..)| *seq <= through) {
            // whoever asked may have gone
            let _ = tell.send(outcome);
        }
        self.tell(Input::Persisted { through }, ctx);
    }

    /// After a write of unknown outcome, deletes what it has made and the state machine has given up since.
    fn sweep(&mut self) {
        if let Some(endpoint) = &self.endpoint
            && self.unsaved.is_to_be_swept()
        {
            let stored = OfWebhook { documents: &self.handles.documents, webhook: &self.ready.webhook.id };
            let (rows, jobs) = stored.strays(endpoint.rows(), endpoint.jobs());
            self.unsaved.sweep(rows, jobs);
        }
    }

    /// Whether people were told that the state of this webhook waits in memory.
    pub(super) fn is_late(&self) -> bool {
        self.unsaved.failures() >= LATE_FAILURES
    }

    fn not_saved(&mut self, reason: &AppendError, ctx: &mut Context<Self>) {
        let webhook = &*self.ready.webhook.id;
        let is_doubtful = matches!(reason, AppendError::OutcomeUnknown | AppendError::Failed);
        let stored = OfWebhook { documents: &self.handles.documents, webhook };
        let again = self.unsaved.failed(is_doubtful, &stored, random());
        if self.unsaved.failures() == LATE_FAILURES {
            self.handles.late_writes.enter(webhook, &reason.to_string());
        }
        let is_at_rest =
            self.endpoint.as_ref().is_none_or(|endpoint| endpoint.observe().in_flight == Default::default());
        if !self.stopping.is_empty() && is_at_rest && self.unsaved.failures() >= STOP_FAILURES_MAX {
            log::warn!(webhook; "the last state of a webhook could not be written; the next start repeats deliveries");
            return self.stopped(ctx);
        }
        self.save_again = Some(clock::later(ctx, again, |actor, ctx| {
            actor.save_again = None;
            actor.save(ctx);
        }));
    }
}
