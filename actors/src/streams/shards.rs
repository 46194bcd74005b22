//! The shards of all HTTP threads, to tell each of them something. A thread adds its shard before its first session opens,
//! so that no session misses the deletion of its channel or the stop of the server.

use std::time::Duration;

use actix::{Handler, Message};
use futures_util::future::join_all;
use parking_lot::RwLock;

use crate::clock;
use crate::streams::shard::Shard;
use crate::supervision::ActorHandle;

/// How long is waited for the answers of all shards. They come at once, but for a shard that is about to be started again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Shards {
    running: RwLock<Vec<ActorHandle<Shard>>>,
}

impl Shards {
    pub(super) fn add(&self, shard: ActorHandle<Shard>) {
        let mut running = self.running.write();
        // those of threads that have ended
        running.retain(ActorHandle::connected);
        running.push(shard);
    }

    /// Tells every shard, without waiting. For what is rare, because it does not heed the bounds of mailboxes.
    pub(super) fn tell<M>(&self, message: M)
    where
        Shard: Handler<M>,
        M: Message<Result = ()> + Clone + Send + 'static,
    {
        self.running.read().iter().for_each(|shard| shard.do_send(message.clone()));
    }

    /// Asks every shard, and waits until each has answered, but no longer than [`ANSWERS_WITHIN`]. Returns the answers.
    pub(super) async fn ask<M>(&self, message: M) -> Vec<M::Result>
    where
        Shard: Handler<M>,
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        let within = |asked| clock::timeout(ANSWERS_WITHIN, asked);
        let asked: Vec<_> = self.running.read().iter().map(|shard| within(shard.send(message.clone()))).collect();
        // a shard that died over it answers nothing; the next one finds out by itself
        join_all(asked).await.into_iter().flatten().flatten().collect()
    }
}
