//! The journal on a real store, with nobody listening.

use futures_util::future::{join, join_all};
use tempfile::TempDir;

use super::test_store::{LIMITS, TestStore};
use super::*;
use crate::log::{Direction, Log, PageLimit};
use crate::model::channel::ChannelKind;
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::json::Canonical;
use crate::wal::Durability;

fn start(dir: &TempDir, limits: JournalLimits) -> TestStore {
    TestStore::start(dir.path(), Durability::Flush, limits)
}

fn channel(no: u32) -> Arc<Channel> {
    Arc::new(Channel {
        no,
        kind: ChannelKind::Map,
        id: format!("map-{no}").into(),
        slug: "map".into(),
        name: "map".into(),
        inserted_ms: 0,
        updated_ms: 0,
        event_names: None,
        webhooks_enabled: false,
    })
}

fn draft(n: usize, dedupe_id: Option<&str>) -> Draft {
    Draft {
        kind: EventType::new("test").unwrap(),
        ts_ms: None,
        session: None,
        payload: Canonical::parse(&format!("{{\"n\":{n}}}")).unwrap(),
        dedupe_id: dedupe_id.map(Into::into),
        validated: None,
    }
}

fn stored(log: &Log) -> Vec<Event> {
    let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
    log.read(ChannelNo::ALL, EventId::ZERO, limit, Direction::Forward).unwrap().events
}

fn key(text: &str) -> Option<DedupeKey> {
    Some(DedupeKey::of_request(text))
}

#[actix::test]
async fn ids_grow_and_requests_of_a_publisher_stay_in_order() {
    let dir = TempDir::new().unwrap();
    let running = start(&dir, LIMITS);
    let publishers = join_all((0..16).map(|publisher| {
        let journal = running.journal.clone();
        async move {
            let channel = channel(publisher % 3);
            let mut ids = Vec::new();
            for round in 0..10usize {
                // two requests at once are answered in the order in which they were made
                let (first, second) = join(
                    journal.append(channel.clone(), vec![draft(round, None); 1 + round % 3], None, "tok_1".into()),
                    journal.append(channel.clone(), vec![draft(round, None)], None, "tok_1".into()),
                )
                .await;
                ids.extend(first.unwrap().ids);
                ids.extend(second.unwrap().ids);
            }
            ids
        }
    }))
    .await;
    for ids in &publishers {
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
    let mut answered: Vec<EventId> = publishers.into_iter().flatten().collect();
    answered.sort();
    let log: Vec<EventId> = stored(&running.log).iter().map(|event| event.id).collect();
    assert!(log.is_sorted_by(|a, b| a < b));
    assert_eq!(log, answered);
    assert_eq!(running.journal.queued(), 0);
    let page = running.log.read(ChannelNo(1), EventId::MAX, PageLimit { events: 1, bytes: 1 }, Direction::Backward);
    assert_eq!(page.unwrap().events[0].channel, ChannelNo(1));
}

#[actix::test]
async fn a_full_queue_refuses_and_takes_again_when_it_has_room() {
    let dir = TempDir::new().unwrap();
    let running = start(&dir, JournalLimits { queue_events: 4, ..LIMITS });
    // one batch larger than the queue is taken; while it waits there is no room for another
    let results =
        join_all((0..20).map(|n| running.journal.append(channel(1), vec![draft(n, None); 5], None, "tok_1".into())))
            .await;
    assert!(results[0].is_ok());
    assert!(results.contains(&Err(AppendError::QueueFull)));
    let taken = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(stored(&running.log).len(), taken * 5);
    assert!(running.journal.append(channel(1), vec![draft(0, None)], None, "tok_1".into()).await.is_ok());
}

#[actix::test]
async fn a_request_with_a_known_key_is_answered_like_the_first() {
    let dir = TempDir::new().unwrap();
    let running = start(&dir, LIMITS);
    let ask = |no: u32, count: usize| {
        running.journal.append(channel(no), vec![draft(0, None); count], key("k"), "tok_1".into())
    };
    let (first, second) = join(ask(1, 3), ask(1, 2)).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(!first.repeated && second.repeated);
    assert_eq!(ask(1, 1).await.unwrap(), second);
    assert_eq!(first.ids, second.ids);
    assert!(!ask(2, 3).await.unwrap().repeated, "a key belongs to its channel");
    assert_eq!(stored(&running.log).len(), 6);
}

#[actix::test]
async fn an_event_with_a_known_key_is_stored_once_also_within_a_batch_and_under_a_request_key() {
    let dir = TempDir::new().unwrap();
    let running = start(&dir, LIMITS);
    let ask = |drafts, key| running.journal.append(channel(1), drafts, key, "tok_1".into());
    let first = ask(vec![draft(0, Some("a")), draft(1, None), draft(2, Some("a"))], None).await.unwrap();
    assert_eq!(first.ids[0], first.ids[2]);
    let mixed = vec![draft(3, Some("b")), draft(4, Some("a")), draft(5, None)];
    let second = ask(mixed.clone(), key("k")).await.unwrap();
    assert_eq!(second.ids[1], first.ids[0]);
    let again = ask(vec![draft(9, None)], key("k")).await.unwrap();
    assert_eq!((again.ids, again.repeated), (second.ids.clone(), true));
    assert_eq!(ask(vec![draft(6, Some("b"))], None).await.unwrap().ids, [second.ids[0]]);
    let payloads: Vec<_> = stored(&running.log).iter().map(|event| event.payload.as_str().to_string()).collect();
    assert_eq!(payloads, ["{\"n\":0}", "{\"n\":1}", "{\"n\":3}", "{\"n\":5}"]);
}

#[actix::test]
async fn the_key_of_a_request_that_stored_nothing_new_is_kept_too() {
    let dir = TempDir::new().unwrap();
    let running = start(&dir, LIMITS);
    let ask = |drafts, key| running.journal.append(channel(1), drafts, key, "tok_1".into());
    let first = ask(vec![draft(0, Some("a"))], None).await.unwrap();
    assert_eq!(ask(vec![draft(1, Some("a"))], key("k")).await.unwrap().ids, first.ids);
    let again = ask(vec![draft(2, None)], key("k")).await.unwrap();
    assert_eq!((again.ids, again.repeated), (first.ids, true));
}

#[actix::test]
async fn stopping_commits_what_is_queued_and_refuses_what_comes_later() {
    let dir = TempDir::new().unwrap();
    for durability in [Durability::Flush, Durability::Fsync, Durability::Interval { every_ms: 3_600_000 }] {
        let running = TestStore::start(dir.path(), durability, LIMITS);
        let before = stored(&running.log).len();
        let appends: Vec<_> = (0..50)
            .map(|n| {
                let (journal, channel) = (running.journal.clone(), channel(1));
                actix_rt::spawn(
                    async move { journal.append(channel, vec![draft(n, None)], None, "tok_1".into()).await },
                )
            })
            .collect();
        // the appends above are polled, and so queued, before this one
        let last = running.journal.append(channel(1), vec![draft(50, None)], None, "tok_1".into()).await;
        running.journal.stop();
        assert_eq!(
            running.journal.append(channel(1), vec![draft(0, None)], None, "tok_1".into()).await,
            Err(AppendError::Stopping)
        );
        running.join();
        let mut acknowledged = usize::from(last.is_ok());
        for append in appends {
            acknowledged += usize::from(append.await.unwrap().is_ok());
        }
        let again = TestStore::start(dir.path(), durability, LIMITS);
        assert_eq!(stored(&again.log).len(), before + acknowledged, "{durability:?}");
        assert_eq!(acknowledged, 51);
        again.journal.stop();
        again.join();
    }
}

#[actix::test]
async fn ids_grow_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut last = EventId::ZERO;
    for _ in 0..3 {
        let running = start(&dir, LIMITS);
        let receipt = running.journal.append(channel(1), vec![draft(0, None); 3], None, "tok_1".into()).await.unwrap();
        assert!(receipt.ids[0] > last);
        last = receipt.ids[2];
        running.journal.stop();
        running.join();
    }
}
