//! Answers that take long and end by themselves: exports and backups. A server whose place another process takes lets them end first.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;

/// How many of them are under way.
#[derive(Clone, Debug)]
pub struct LongAnswers(Arc<watch::Sender<usize>>);

/// One of them, from its first byte until this is dropped.
struct LongAnswer(LongAnswers);

impl Default for LongAnswers {
    fn default() -> LongAnswers {
        LongAnswers(Arc::new(watch::Sender::new(0)))
    }
}

impl LongAnswers {
    /// A body that counts until it was read or dropped.
    pub fn counting<S: Stream>(&self, body: S) -> impl Stream<Item = S::Item> + use<S> {
        let answer = self.begin();
        let hold = move |piece| {
            let _held = &answer;
            piece
        };
        body.map(hold)
    }

    fn begin(&self) -> LongAnswer {
        self.0.send_modify(|count| *count += 1);
        LongAnswer(self.clone())
    }

    /// Waits until none is under way, for so long at most; how many still are.
    pub async fn end(&self, patience: Duration) -> usize {
        let mut count = self.0.subscribe();
        match tokio::time::timeout(patience, count.wait_for(|count| *count == 0)).await {
            Ok(_) => 0,
            Err(_) => *self.0.borrow(),
        }
    }
}

impl Drop for LongAnswer {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_body_counts_until_it_was_read_and_dropped() {
        let answers = LongAnswers::default();
        let mut body = Box::pin(answers.counting(futures_util::stream::iter([1, 2])));
        assert_eq!(body.next().await, Some(1));
        assert_eq!(answers.end(Duration::ZERO).await, 1);
        drop(body);
        assert_eq!(answers.end(Duration::ZERO).await, 0);
    }

    #[actix_web::test]
    async fn whoever_waits_goes_on_when_the_last_one_ends_or_when_it_takes_too_long() {
        let answers = LongAnswers::default();
        assert_eq!(answers.end(Duration::ZERO).await, 0);
        let (one, other) = (answers.begin(), answers.begin());
        assert_eq!(answers.end(Duration::ZERO).await, 2);
        drop(one);
        let waiting = answers.end(Duration::from_secs(60));
        let ended = async {
            tokio::task::yield_now().await;
            drop(other);
        };
        assert_eq!(futures_util::future::join(waiting, ended).await.0, 0);
    }
}
