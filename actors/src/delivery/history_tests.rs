use super::*;

fn record(number: u32) -> AttemptRecord {
    let mut request_headers = Headers::default();
    request_headers.push("a", "b");
    AttemptRecord {
        number,
        trigger: Trigger::First,
        started_ms: 5,
        duration_ms: 1,
        status_code: Some(200),
        error_code: None,
        detail: String::new(),
        timings: Timings::default(),
        reused: false,
        address: None,
        request_headers,
        request_body: None,
        response_headers: Headers::default(),
        response_body: String::new(),
    }
}

fn id(n: u64) -> DeliveryId {
    DeliveryId::fresh(n, 1)
}

fn history(most: usize) -> History {
    History::new(most, 0, Arc::default())
}

fn deliver(history: &mut History, n: u64) {
    history.note(id(n), Vec::new(), Vec::new(), Standing::Delivered, record(1));
}

fn ids(fresh: &[Delivery]) -> Vec<DeliveryId> {
    fresh.iter().map(|delivery| delivery.id).collect()
}

#[test]
fn only_the_latest_attempts_of_a_delivery_keep_their_details() {
    let mut history = history(3);
    for number in 1..=40 {
        history.note(id(1), Vec::new(), Vec::new(), Standing::Dead, record(number));
    }
    let fresh = history.take(1).expect("it is to be written");
    let attempts = &fresh[0].attempts;
    assert_eq!((attempts.len(), attempts[0].number), (ATTEMPTS_KEPT, 9));
    assert_eq!(attempts.iter().filter(|a| !a.request_headers.is_empty()).count(), DETAILS_KEPT);
}

#[test]
fn a_busy_webhook_writes_its_failures_each_second_and_its_successes_less_often() {
    let mut history = history(1_000);
    let retrying = Standing::Retrying { next_at_ms: 9 };
    let many = SMOOTH_AT_ONCE as u64 + 1;
    assert!(history.take_all(1_000).is_empty());
    (0..many).for_each(|n| deliver(&mut history, n));
    history.note(id(500), Vec::new(), Vec::new(), retrying, record(1));
    assert_eq!(ids(&history.take(2_000).expect("the failure")), [id(500)]);
    assert_eq!(history.take(3_000), None);
    assert_eq!(history.take(1_000 + BUSY_EVERY_MS).expect("all").len() as u64, many);
    // a reader does not wait
    (600..600 + many).for_each(|n| deliver(&mut history, n));
    assert_eq!(history.take_all(7_000).len() as u64, many);
    // nor does anyone after the clock stepped back
    (700..700 + many).for_each(|n| deliver(&mut history, n));
    assert_eq!(history.take(10).expect("all").len() as u64, many);
}

#[test]
fn a_webhook_without_deliveries_still_looks_for_those_that_are_too_old() {
    let mut history = history(10);
    assert_eq!(history.take(TRIM_EVERY_MS - 1), None);
    assert_eq!(history.take(TRIM_EVERY_MS), Some(Vec::new()));
    assert_eq!(history.take(TRIM_EVERY_MS + 1), None);
}

#[test]
fn a_delivery_that_failed_before_it_went_well_is_never_left_out() {
    let mut history = history(10);
    history.note(id(1), Vec::new(), Vec::new(), Standing::Retrying { next_at_ms: 9 }, record(1));
    assert_eq!(history.take(1_000).expect("it")[0].status, DeliveryStatus::Retrying);
    // the disk says that it is retried, which is no longer so
    history.note(id(1), Vec::new(), Vec::new(), Standing::Delivered, record(2));
    (2..100).for_each(|n| deliver(&mut history, n));
    let fresh = history.take_all(2_000);
    assert!(ids(&fresh).contains(&id(1)) && ids(&fresh).contains(&id(99)));
    assert_eq!(fresh.len(), 10);
}

#[test]
fn what_all_webhooks_hold_together_is_bounded() {
    let held = Arc::new(UnwrittenBytes::default());
    let mut all: Vec<_> = (0..4).map(|_| History::new(100_000, 0, held.clone())).collect();
    let body = "x".repeat(4_096);
    for n in 0..4_000 {
        for history in &mut all {
            let record = AttemptRecord { response_body: body.clone(), ..record(1) };
            history.note(id(n), Vec::new(), Vec::new(), Standing::Delivered, record);
        }
    }
    let bytes = held.0.load(Ordering::Relaxed);
    assert!((HELD_BYTES_MAX / 2..=HELD_BYTES_MAX + 8_192).contains(&bytes), "{bytes}");
    // the newest of each
    assert!(all.iter_mut().all(|history| ids(&history.take_all(1)).last() == Some(&id(3_999))));
    assert_eq!(held.0.load(Ordering::Relaxed), 0);
    deliver(&mut all[0], 1);
    drop(all);
    assert_eq!(held.0.load(Ordering::Relaxed), 0);
}
