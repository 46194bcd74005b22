//! What is under way on all connections, and how it ends: when the server stops, or when another process takes its place.
//!
//! An end has two stages. First each connection has one answer more, which says that it is the last: whoever is in the middle of
//! sending requests learns that way to come back on a new connection, which waits in the kernel's queue. Then connections
//! without a request are closed.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use actix_web::rt::time::{sleep, timeout};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::conversation::Conversation;

/// How long a connection that has sent no request yet may take over it when all others are closed: its client has only just
/// connected, and the request is on its way.
const FIRST_REQUEST: Duration = Duration::from_millis(200);

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not in sight.
    Open,
    /// The next answer on each connection is its last.
    LastAnswers,
    /// Connections without a request are closed.
    Closing,
}

/// Shared by all listeners and threads of a server.
#[derive(Debug)]
pub struct Traffic {
    stage: watch::Sender<Stage>,
    connections: AtomicUsize,
    /// Requests that are being answered, but for answers without an end, such as streams.
    answers: AtomicUsize,
    /// Told when one of the two became fewer, once the end is in sight.
    fewer: Notify,
    /// Those that serve connections.
    threads: Mutex<Vec<ArbiterHandle>>,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            stage: watch::Sender::new(Stage::Open),
            connections: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            fewer: Notify::new(),
            threads: Mutex::default(),
        }
    }
}

/// Something that is under way as long as this is held.
#[derive(Debug)]
pub struct UnderWay {
    traffic: Arc<Traffic>,
    count: fn(&Traffic) -> &AtomicUsize,
}

impl UnderWay {
    fn new(traffic: &Arc<Traffic>, count: fn(&Traffic) -> &AtomicUsize) -> UnderWay {
        count(traffic).fetch_add(1, Ordering::AcqRel);
        UnderWay { traffic: traffic.clone(), count }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        (self.count)(&self.traffic).fetch_sub(1, Ordering::AcqRel);
        if self.traffic.is_ending() {
            self.traffic.fewer.notify_waiters();
        }
    }
}

impl Traffic {
    /// A connection was accepted.
    pub fn connection(self: &Arc<Self>) -> UnderWay {
        UnderWay::new(self, |traffic| &traffic.connections)
    }

    /// A request came.
    pub fn answer(self: &Arc<Self>) -> UnderWay {
        UnderWay::new(self, |traffic| &traffic.answers)
    }

    /// The caller's thread serves connections.
    pub fn served_here(&self) {
        self.threads.lock().push(Arbiter::current());
    }

    pub fn is_ending(&self) -> bool {
        *self.stage.borrow() > Stage::Open
    }

    /// Goes on to this stage; never back.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|now| stage > *now && std::mem::replace(now, stage) != stage);
    }

    /// Waits until nobody is connected, at most for so long. False: somebody still is.
    pub async fn all_gone(&self, patience: Duration) -> bool {
        self.none_left(&self.connections, patience).await
    }

    /// Waits until every request is answered, at most for so long. False: some are not.
    pub async fn all_answered(&self, patience: Duration) -> bool {
        self.none_left(&self.answers, patience).await
    }

    async fn none_left(&self, count: &AtomicUsize, patience: Duration) -> bool {
        let none_left = async {
            loop {
                let fewer = self.fewer.notified();
                if count.load(Ordering::Acquire) == 0 {
                    return;
                }
                fewer.await;
            }
        };
        timeout(patience, none_left).await.is_ok()
    }

    /// Waits until each thread has done what it was given before, at most for so long. False: one of them does not come to it.
    pub async fn round_of_threads(&self, patience: Duration) -> bool {
        let asked = {
            let mut threads = self.threads.lock();
            let mut asked = Vec::with_capacity(threads.len());
            // one that has died was replaced, and the new one has said so
            threads.retain(|thread| {
                let (tell, told) = oneshot::channel();
                asked.push(told);
                // whoever waits may have given up
                thread.spawn_fn(move || {
                    let _ = tell.send(());
                })
            });
            asked
        };
        timeout(patience, futures_util::future::join_all(asked)).await.is_ok()
    }

    /// Ready when a connection is to take no more requests. HTTP/2 says so in a way that loses none of them (RFC 9113, 6.8).
    pub async fn ends(self: Arc<Self>) {
        self.reaches(Stage::LastAnswers).await;
    }

    /// The same for HTTP/1, where a request that meets a closed connection is lost: so the end is said with an answer, or comes
    /// when nobody speaks.
    pub async fn ends_for(self: Arc<Self>, conversation: Option<Rc<Conversation>>) {
        self.reaches(Stage::LastAnswers).await;
        let Some(conversation) = conversation else { return };
        let silence = Box::pin(async {
            self.reaches(Stage::Closing).await;
            if !conversation.is_between_requests() {
                sleep(FIRST_REQUEST).await;
            }
        });
        tokio::select! {
            () = conversation.answers() => {}
            () = silence => {}
        }
    }

    async fn reaches(&self, stage: Stage) {
        // the sender is our own, so it is there
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn what_is_under_way_is_waited_for_and_no_longer_than_asked() {
        let traffic = Arc::new(Traffic::default());
        assert!(traffic.all_gone(Duration::ZERO).await && traffic.all_answered(Duration::ZERO).await);
        let (connection, answer) = (traffic.connection(), traffic.answer());
        assert!(!traffic.all_gone(Duration::from_millis(1)).await);
        traffic.enter(Stage::LastAnswers);
        let waiting = traffic.clone();
        let waiting = actix_web::rt::spawn(async move { waiting.all_answered(Duration::from_secs(10)).await });
        actix_web::rt::task::yield_now().await;
        drop(answer);
        assert!(waiting.await.expect("it ends"));
        assert!(!traffic.all_gone(Duration::from_millis(1)).await, "an answer is no connection");
        drop(connection);
        assert!(traffic.all_gone(Duration::ZERO).await);
    }

    #[test]
    fn an_end_never_goes_back() {
        let traffic = Traffic::default();
        assert!(!traffic.is_ending());
        traffic.enter(Stage::Closing);
        traffic.enter(Stage::LastAnswers);
        assert_eq!(*traffic.stage.borrow(), Stage::Closing);
    }
}
