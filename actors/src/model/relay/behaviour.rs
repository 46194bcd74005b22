//! One node, step by step: what it says to the stream and to others, and when.

use std::sync::Arc;

use super::*;
use crate::model::id::EventId;

type Effects = Vec<Effect<&'static str, ()>>;

const CLOCK_MS: u64 = 1_750_000_000_000;

struct Bench {
    relay: Relay<&'static str, ()>,
    now_ms: u64,
    clock_ms: u64,
}

impl Bench {
    /// A node with an empty copy, and what it does first.
    fn open(limits: RelayLimits, term: Option<Term>) -> (Bench, Effects) {
        let opened = Opened { node: "here".into(), life: 1, applied: 0, last_id: EventId::ZERO, term };
        let mut effects = Vec::new();
        let now = Now { elapsed_ms: 0, clock_ms: CLOCK_MS };
        (Bench { relay: Relay::open(now, limits, opened, &mut effects), now_ms: 0, clock_ms: CLOCK_MS }, effects)
    }

    /// One whose copy holds the stream up to here, and whose stream has a term of another node.
    fn beside(writer: Term, end: u64) -> Bench {
        let (mut bench, first) = Bench::open(RelayLimits::default(), None);
        assert_eq!(first, [Effect::Fetch { from: 1, at_leader: false }]);
        let filler = (1..=end).map(|sequence| {
            let body = match sequence == writer.number {
                true => Body::Term(writer.claim.clone()),
                false => Body::Events(Arc::new(message(sequence, Vec::new()))),
            };
            TailMessage { sequence, time_ms: CLOCK_MS, body }
        });
        let messages = filler.collect();
        bench.step(Input::Fetched { from: 1, at_leader: false, messages, end });
        bench.step(Input::Applied { through: end });
        bench
    }

    fn step(&mut self, input: Input<&'static str, ()>) -> Effects {
        let mut effects = Vec::new();
        let now = Now { elapsed_ms: self.now_ms, clock_ms: self.clock_ms + self.now_ms };
        self.relay.step(now, input, &mut effects);
        effects
    }

    fn publish(&mut self, ticket: u64) -> Effects {
        self.step(Input::Publish { ticket, load: Load { events: 1, bytes: 100 }, draft: "draft" })
    }

    /// Ticks until a time, as often as the relay wants.
    fn wait_until(&mut self, until_ms: u64) -> Effects {
        let mut effects = Vec::new();
        while self.now_ms < until_ms {
            self.now_ms = self.relay.wake_at_ms().clamp(self.now_ms + 1, until_ms);
            effects.extend(self.step(Input::Tick));
        }
        effects
    }
}

fn message(sequence: u64, requests: Vec<(Nonce, Receipt)>) -> Message<()> {
    Message { term: 0, requests, last_id: event_id(CLOCK_MS, sequence, 0), content: () }
}

fn theirs(number: u64) -> Term {
    Term { number, claim: Claim { node: "there".into(), life: 2, number: 1 } }
}

fn run(sequence: u64) -> Receipt {
    vec![Run { first: event_id(CLOCK_MS, sequence, 0), count: 1 }]
}

#[test]
fn a_node_alone_claims_writes_and_answers_when_its_copy_has_the_event() {
    let (mut bench, first) = Bench::open(RelayLimits::default(), None);
    assert_eq!(first, [Effect::Fetch { from: 1, at_leader: false }]);
    assert!(bench.publish(7).is_empty(), "its copy may not be whole");
    let claim = Claim { node: "here".into(), life: 1, number: 1 };
    let claims = bench.step(Input::Fetched { from: 1, at_leader: false, messages: Vec::new(), end: 0 });
    assert_eq!(claims, [Effect::Claim { previous: 0, claim: claim.clone() }]);

    let told = bench.step(Input::Claimed { number: 1, answer: ClaimAnswer::Stored { sequence: 1 } });
    let term = TailMessage { sequence: 1, time_ms: CLOCK_MS, body: Body::Term(claim) };
    let beat = Beat { node: "here".into(), term: 1, head: 1 };
    assert_eq!(told, [Effect::Apply(term), Effect::Beat(beat)], "nothing is written before the copy has the term");

    let nonce = Nonce { life: 1, number: 1 };
    let requests = vec![Request { nonce, load: Load { events: 1, bytes: 100 }, draft: "draft" }];
    let plan = Effect::Plan { number: 1, term: 1, sequence: 2, ms: CLOCK_MS, requests };
    assert_eq!(bench.step(Input::Applied { through: 1 }), [plan]);

    let events = message(2, vec![(nonce, run(2))]);
    let messages: Arc<[_]> = [Arc::new(events.clone())].into();
    let commit = Commit { number: 1, term: 1, head: 1, messages: Arc::clone(&messages) };
    let planned = bench.step(Input::Planned { number: 1, messages: vec![events], settled: Vec::new() });
    assert_eq!(planned, [Effect::Commit(commit)]);

    let stored = bench.step(Input::Committed { number: 1, answer: CommitAnswer::Stored { last: 2 } });
    let body = Body::Events(Arc::clone(&messages[0]));
    assert_eq!(stored, [Effect::Apply(TailMessage { sequence: 2, time_ms: CLOCK_MS, body })]);
    let outcome = Outcome::Stored { receipt: run(2), repeated: false };
    assert_eq!(bench.step(Input::Applied { through: 2 }), [Effect::Answer { ticket: 7, outcome }]);
}

#[test]
fn a_request_goes_to_the_writer_again_and_again_until_it_is_acknowledged() {
    let mut bench = Bench::beside(theirs(3), 3);
    let [Effect::Forward { to, forward }] = &bench.publish(7)[..] else { panic!("it is forwarded") };
    assert_eq!((&**to, forward.term, forward.writer, forward.left_ms), ("there", 3, 2, 15_000));
    let again = bench.wait_until(300);
    assert!(matches!(&again[..], [Effect::Forward { forward, .. }] if forward.left_ms == 14_700), "{again:?}");
    let reply = Reply { term: 3, nonce: forward.nonce, kind: ReplyKind::Queued };
    bench.step(Input::Replied(reply));
    bench.step(Input::Beat(Beat { node: "there".into(), term: 3, head: 3 }));
    let asked = bench.wait_until(1_300);
    assert!(asked.iter().any(|effect| matches!(effect, Effect::Ask { .. })), "{asked:?}");
    assert!(!asked.iter().any(|effect| matches!(effect, Effect::Forward { .. })), "{asked:?}");
}

#[test]
fn a_writer_without_a_process_is_replaced_at_once_and_a_silent_one_after_a_while() {
    for nobody_listens in [true, false] {
        let mut bench = Bench::beside(theirs(3), 3);
        let [Effect::Forward { forward, .. }] = &bench.publish(7)[..] else { panic!("it is forwarded") };
        let nonce = forward.nonce;
        let claims = match nobody_listens {
            true => bench.step(Input::NoResponders { term: 3, nonce }),
            false => {
                let before = bench.wait_until(1_499);
                assert!(!before.iter().any(|effect| matches!(effect, Effect::Claim { .. })), "too early: {before:?}");
                bench.wait_until(1_500)
            }
        };
        let is_claim = |effect: &Effect<_, _>| matches!(effect, Effect::Claim { previous: 3, .. });
        assert!(claims.iter().any(is_claim), "{claims:?}");
    }
}

#[test]
fn a_full_queue_refuses_at_once_and_an_unknown_outcome_is_told_in_time() {
    let (mut bench, _) = Bench::open(RelayLimits { queue_events: 2, ..RelayLimits::default() }, None);
    assert!(bench.publish(1).is_empty() && bench.publish(2).is_empty());
    let outcome = Outcome::Refused(Refusal::QueueFull);
    assert_eq!(bench.publish(3), [Effect::Answer { ticket: 3, outcome }]);
    let answers: Effects = bench.wait_until(15_000);
    let answers: Vec<_> = answers.iter().filter(|effect| matches!(effect, Effect::Answer { .. })).collect();
    let unknown = |ticket| Effect::Answer { ticket, outcome: Outcome::Unknown };
    assert_eq!(answers, [&unknown(1), &unknown(2)]);
    assert_eq!(bench.now_ms, 15_000);
}

#[test]
fn a_hole_is_read_from_a_replica_then_from_the_leader_and_is_lost_when_that_has_not_got_it_either() {
    let mut bench = Bench::beside(theirs(3), 3);
    let live = |sequence: u64| {
        let body = Body::Events(Arc::new(message(sequence, Vec::new())));
        TailMessage { sequence, time_ms: CLOCK_MS, body }
    };
    let fetch = |from, at_leader| Effect::Fetch { from, at_leader };
    assert_eq!(bench.step(Input::Live(vec![live(6)])), [fetch(4, false)]);
    let messages = vec![live(6), live(8)];
    assert_eq!(bench.step(Input::Fetched { from: 4, at_leader: false, messages, end: 8 }), [fetch(4, true)]);
    let messages = vec![live(6), live(8)];
    let lost = bench.step(Input::Fetched { from: 4, at_leader: true, messages, end: 8 });
    let expected = [
        Effect::Lost { from: 4, through: 5 },
        Effect::Apply(live(6)),
        Effect::Lost { from: 7, through: 7 },
        Effect::Apply(live(8)),
    ];
    assert_eq!(lost, expected);
}

#[test]
fn a_node_whose_clock_is_far_from_the_streams_does_not_write() {
    let mut bench = Bench::beside(theirs(3), 3);
    let [Effect::Forward { forward, .. }] = &bench.publish(7)[..] else { panic!("it is forwarded") };
    let nonce = forward.nonce;
    let body = Body::Events(Arc::new(message(4, Vec::new())));
    bench.step(Input::Live(vec![TailMessage { sequence: 4, time_ms: CLOCK_MS + 31_000, body }]));
    assert!(bench.relay.observe().clock_off);
    let effects = bench.step(Input::NoResponders { term: 3, nonce });
    assert!(effects.is_empty(), "somebody else is to claim: {effects:?}");
    // somebody sets the clock
    bench.clock_ms += 31_000;
    assert!(bench.wait_until(500).iter().any(|effect| matches!(effect, Effect::Claim { .. })), "then it does");
}

#[test]
fn a_term_that_is_not_where_the_stream_ends_is_a_stream_that_has_lost_something() {
    let mut bench = Bench::beside(theirs(3), 9);
    let [Effect::Forward { forward, .. }] = &bench.publish(7)[..] else { panic!("it is forwarded") };
    let nonce = forward.nonce;
    bench.step(Input::NoResponders { term: 3, nonce });
    let told = bench.step(Input::Claimed { number: 1, answer: ClaimAnswer::Stored { sequence: 6 } });
    assert_eq!(told, [Effect::WentBack { expected: 10, found: 6 }]);
}
