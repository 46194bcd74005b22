//! Endpoints that hang never slow another one.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::webhooks::{delivering, webhook};
use crate::support::{Map, Receiver, eventually};

const FAST: usize = 50;
const HANGING: usize = 50;
/// Events before the measurement, which open the connections and fill the slots of those that hang.
const WARM_UP: usize = 20;
const EVENTS: usize = 40;
/// Time between two events.
const PACE: Duration = Duration::from_millis(40);
/// How often it is measured beside those that hang; the median counts, so that one busy moment of the machine does not.
const ROUNDS: usize = 3;
/// Below this the ratio says nothing: it is what a busy machine adds.
const FLOOR: Duration = Duration::from_millis(300);

/// Accepts connections and never answers.
struct Hanging {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Hanging {
    fn start() -> Hanging {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (accepted, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (ours, count, stop) = (listener.try_clone().expect("it can be shared"), accepted.clone(), stopping.clone());
        let accepting = std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            for stream in ours.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                open.push(stream);
                count.store(open.len(), Ordering::Release);
            }
        });
        Hanging { listener, accepted, stopping, accepting: Some(accepting) }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().expect("an address"))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // wakes the thread, which then ends
        if self.listener.local_addr().and_then(TcpStream::connect).is_ok() {
            let _ = self.accepting.take().expect("it runs").join();
        }
    }
}

/// Publishes events at a pace and returns how late the 99th of 100 deliveries to the fast endpoints was.
fn measure(map: &Map, receiver: &Receiver) -> Duration {
    let before = receiver.received().len();
    let mut published = Vec::with_capacity(EVENTS);
    let begun = Instant::now();
    for n in 0..EVENTS {
        let due = begun + PACE * n as u32;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        published.push(Instant::now());
        map.publish(&json!({"type": "map_kill", "payload": {"n": n}}));
    }
    let mut got = receiver.expect(before + EVENTS * FAST).split_off(before);
    let n = |got: &crate::support::Received| got.json()["payload"]["n"].as_u64().expect("a number") as usize;
    let mut late: Vec<Duration> =
        got.drain(..).map(|got| got.at.saturating_duration_since(published[n(&got)])).collect();
    late.sort();
    late[late.len() * 99 / 100]
}

fn warm_up(map: &Map, receiver: &Receiver) {
    let before = receiver.received().len();
    map.publish_many(WARM_UP);
    receiver.expect(before + WARM_UP * FAST);
}

#[test]
fn fifty_endpoints_that_hang_do_not_slow_the_fifty_others() {
    let (_server, map) = delivering(&[
        ("limits.webhooks_per_map", "200"),
        ("limits.api_requests_per_minute", "0"),
        // none gives up while it is measured
        ("webhooks.attempt_timeout_s", "120"),
        ("log.level", "error"),
    ]);
    let receiver = Receiver::start(&[]);
    for n in 0..FAST {
        webhook(&map, json!({"url": format!("{}/{n}", receiver.url())}));
    }
    warm_up(&map, &receiver);
    let alone = measure(&map, &receiver);

    let hanging: Vec<_> = (0..HANGING).map(|_| Hanging::start()).collect();
    for one in &hanging {
        webhook(&map, json!({"url": one.url()}));
    }
    warm_up(&map, &receiver);
    let slots = || hanging.iter().all(|one| one.accepted.load(Ordering::Acquire) >= 16);
    eventually("those that hang use all their slots", slots);
    let most = (alone * 2).max(FLOOR);
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| measure(&map, &receiver)).collect();
    rounds.sort();
    println!("p99 alone {alone:?}, beside {HANGING} that hang {rounds:?}");
    assert!(rounds[ROUNDS / 2] <= most, "the p99 alone was {alone:?}, beside those that hang {rounds:?}");
}
