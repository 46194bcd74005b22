//! One behaviour of an endpoint in each test. The simulation covers how they mix.

mod scenario;

use super::*;
use crate::model::id::EventId;
use scenario::{DAY, HOUR, NOW, Scenario, event, failed};

#[test]
fn the_whole_ladder_of_maps_takes_a_day_and_ends_dead() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    let mut total_ms = 0;
    for (rung, delay_s) in DEFAULT_SCHEDULE_S.iter().enumerate() {
        assert_eq!(scenario.attempts.len(), 1, "one attempt at rung {rung}");
        assert_eq!(scenario.end(failed(500)).number as usize, rung + 1);
        let wait_ms = scenario.next_at_ms() - scenario.now_ms;
        assert!((delay_s * 800..=delay_s * 1_200).contains(&wait_ms), "rung {rung}: {wait_ms} ms");
        total_ms += wait_ms;
        scenario.at(scenario.now_ms + wait_ms - 1);
        assert_eq!(scenario.attempts, [], "not a millisecond too soon");
        scenario.at(scenario.now_ms + 1);
        // the process may die after any attempt without a change to the schedule
        scenario = scenario.crash(0);
    }
    assert!(total_ms > 22 * HOUR && total_ms < 34 * HOUR);
    let last = scenario.end(failed(500));
    assert_eq!((last.number, last.trigger), (8, Trigger::Retry));
    assert_eq!(scenario.emitted(), ["webhook.dead_letter"]);
    assert_eq!((scenario.endpoint.observe().dead, scenario.endpoint.observe().retrying), (1, 0));
    scenario.at(scenario.now_ms + 30 * DAY);
    assert_eq!(scenario.attempts, [], "what is dead stays dead");
}

#[test]
fn what_the_template_makes_nothing_of_is_dead_at_once_and_says_nothing_about_the_endpoint() {
    let unrendered = Outcome::Failed { status: None, code: FailureCode::RenderError, retry_after_ms: None };
    for ordered in [false, true] {
        let mut scenario = Scenario::new(|config| config.ordered = ordered);
        scenario.publish(40);
        for _ in 0..40 {
            assert_eq!(scenario.end(unrendered).number, 1);
        }
        let observed = scenario.endpoint.observe();
        assert_eq!((observed.dead, observed.retrying), (40, 0));
        assert_eq!(scenario.endpoint.health(), Health::Healthy);
        scenario.publish(1);
        assert_eq!(scenario.attempts.len(), 1, "the next one is attempted at once");
        scenario.end(Outcome::Success);
        let dead = scenario.endpoint.rows().next().expect("a row").delivery;
        scenario.input(Input::Resend { delivery: dead, events: Vec::new(), attempts: 1 });
        assert_eq!(scenario.end(Outcome::Success).number, 2, "once the template is mended");
    }
}

#[test]
fn a_dead_delivery_is_sent_again_by_hand_under_its_id() {
    let mut scenario = Scenario::new(|config| config.retry_policy = RetryPolicy::schedule(&[]).expect("one attempt"));
    scenario.publish(1);
    let first = scenario.end(failed(500));
    scenario.input(Input::Resend { delivery: first.delivery, events: Vec::new(), attempts: 0 });
    let again = scenario.end(failed(500));
    assert_eq!((again.delivery, again.number, again.trigger), (first.delivery, 2, Trigger::Manual));
    assert_eq!(scenario.endpoint.observe().dead, 1, "it failed once more and stays dead");
    scenario.input(Input::Resend { delivery: first.delivery, events: Vec::new(), attempts: 0 });
    scenario.end(Outcome::Success);
    assert_eq!(scenario.endpoint.rows().count(), 0);
}

#[test]
fn a_request_by_hand_survives_a_crash() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    let first = scenario.end(Outcome::Success);
    scenario.at(NOW + 1_000);
    scenario.input(Input::Resend { delivery: first.delivery, events: first.events.clone(), attempts: 1 });
    let mut scenario = scenario.crash(0);
    let again = scenario.end(Outcome::Success);
    assert_eq!((again.delivery, again.number, again.trigger), (first.delivery, 2, Trigger::Manual));
    scenario.at(scenario.now_ms + 1_000);
    assert_eq!(scenario.crash(0).attempts, []);
}

#[test]
fn an_attempt_in_flight_is_made_again_after_a_crash_with_the_same_id() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(3);
    let before: Vec<DeliveryId> = scenario.attempts.iter().map(|attempt| attempt.delivery).collect();
    let scenario = scenario.crash(0);
    let after: Vec<DeliveryId> = scenario.attempts.iter().map(|attempt| attempt.delivery).collect();
    assert_eq!((before.len(), &before), (3, &after));
}

#[test]
fn retry_after_lengthens_the_wait_and_a_429_holds_the_others_back_for_a_minute_at_most() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    let retry_after_ms = Some(2 * HOUR);
    scenario.end(Outcome::Failed { status: Some(429), code: FailureCode::HttpStatus, retry_after_ms });
    assert_eq!(scenario.next_at_ms(), NOW + 2 * HOUR);
    scenario.publish(1);
    assert_eq!(scenario.attempts, []);
    scenario.at(NOW + 59_999);
    assert_eq!(scenario.attempts, []);
    scenario.at(NOW + 60_000);
    assert_eq!(scenario.attempts.len(), 1);
}

#[test]
fn a_410_disables_at_once_and_enabling_delivers_what_waited() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    scenario.end(Outcome::Gone);
    assert_eq!(scenario.endpoint.health(), Health::Disabled);
    assert_eq!(scenario.endpoint.state().off.map(|off| off.reason), Some(OffReason::Gone));
    assert_eq!(scenario.emitted(), ["webhook.disabled"]);
    scenario.publish(2);
    scenario.at(NOW + DAY);
    let mut scenario = scenario.crash(DAY);
    assert_eq!(scenario.attempts, [], "still disabled after a restart");
    let row = scenario.endpoint.rows().next().expect("the row of the 410").delivery;
    scenario.input(Input::Resend { delivery: row, events: Vec::new(), attempts: 0 });
    assert_eq!(scenario.refused(), Some(Refusal::Off));
    scenario.input(Input::Enable { resume: Resume::Pending, head: event(3) });
    assert_eq!(scenario.attempts.len(), 3, "the row and the two events that waited");
    assert_eq!(scenario.endpoint.health(), Health::Healthy);
}

#[test]
fn enabling_with_skip_forgets_what_waited_and_with_all_revives_the_dead() {
    let one = RetryPolicy::schedule(&[3_600]).expect("a schedule");
    let mut scenario = Scenario::new(|config| config.retry_policy = one);
    scenario.publish(1);
    scenario.end(failed(500));
    scenario.at(scenario.next_at_ms());
    scenario.end(failed(500));
    scenario.publish(1);
    scenario.end(Outcome::Gone);
    scenario.publish(1);
    let kept = (scenario.now_ms, scenario.kept.clone(), scenario.log.clone());

    scenario.input(Input::Enable { resume: Resume::Skip, head: event(3) });
    assert_eq!((scenario.attempts.len(), scenario.endpoint.cursor()), (0, event(3)));
    assert_eq!((scenario.endpoint.observe().retrying, scenario.endpoint.observe().dead), (0, 1));

    let mut scenario = Scenario::open(kept.0, kept.1, kept.2);
    scenario.input(Input::Enable { resume: Resume::All, head: event(3) });
    let sent: Vec<_> = scenario.attempts.iter().map(|attempt| (attempt.events[0], attempt.number)).collect();
    assert_eq!(sent, [(event(3), 1), (event(1), 3)], "the row of the 410 waits for its time");
    scenario.end(failed(500));
    scenario.end(failed(500));
    assert_eq!(scenario.endpoint.observe().dead, 0, "the revived one has its attempts again");
}

#[test]
fn five_days_of_failures_disable_and_the_time_while_the_process_was_down_does_not_count() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    scenario.end(failed(500));
    // six days down: one gap, counted as half a day
    let mut scenario = scenario.crash(6 * DAY);
    scenario.end(failed(500));
    assert_eq!(scenario.endpoint.health(), Health::Healthy, "two failures are no evidence of anything");
    let began = scenario.now_ms;
    while scenario.endpoint.health() != Health::Disabled {
        scenario.at(scenario.now_ms + 6 * HOUR);
        scenario.publish(1);
        while !scenario.attempts.is_empty() {
            scenario.end(failed(503));
        }
        assert!(scenario.now_ms < began + 6 * DAY, "never disabled");
    }
    assert!(scenario.now_ms >= began + 4 * DAY, "disabled after {} h", (scenario.now_ms - began) / HOUR);
    let off = scenario.endpoint.state().off.expect("off");
    assert_eq!((off.reason, off.last.and_then(|last| last.status)), (OffReason::Failing, Some(503)));
}

#[test]
fn one_success_begins_the_five_days_anew() {
    let mut scenario = Scenario::new(|_| {});
    for hours in 0..200 {
        scenario.at(NOW + hours * HOUR);
        scenario.publish(1);
        while !scenario.attempts.is_empty() {
            scenario.end(if hours == 100 { Outcome::Success } else { failed(500) });
        }
    }
    assert_ne!(scenario.endpoint.health(), Health::Disabled);
}

#[test]
fn a_dead_endpoint_costs_few_rows_and_recovers_without_loss() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(5_000);
    let mut failures = 0;
    while !scenario.attempts.is_empty() {
        scenario.end(failed(500));
        failures += 1;
    }
    let observed = scenario.endpoint.observe();
    assert_eq!(observed.health, Health::Probing);
    assert!(failures < 700 && observed.retrying < 700, "{failures} failures, {observed:?}");
    assert_eq!(observed.cursor, event(failures), "the others wait in the log");
    // the receiver comes back; a probe or a retry finds out, and everything drains
    scenario.at(scenario.now_ms + 7 * 60_000);
    let mut delivered = 0;
    for _ in 0..20_000 {
        while !scenario.attempts.is_empty() {
            scenario.end(Outcome::Success);
            delivered += 1;
        }
        scenario.at(scenario.now_ms + 60_000);
    }
    assert_eq!((delivered, scenario.endpoint.cursor()), (5_000, event(5_000)));
    assert_eq!(scenario.endpoint.health(), Health::Healthy);
}

#[test]
fn a_long_outage_is_probed_within_minutes_of_its_end_and_few_events_pay_for_it() {
    let mut scenario = Scenario::new(|_| {});
    for minute in 0..3 * 24 * 60 {
        scenario.at(NOW + minute * 60_000);
        scenario.publish(1);
        while !scenario.attempts.is_empty() {
            scenario.end(failed(500));
        }
    }
    let observed = scenario.endpoint.observe();
    assert!(observed.retrying + observed.dead < 1_000, "{observed:?}");
    // from here on the receiver answers, and the events that waited need no retry to be noticed
    scenario.at(scenario.now_ms + 6 * 60_000);
    assert!(!scenario.attempts.is_empty());
    let waiting = 3 * 24 * 60 - observed.retrying - observed.dead;
    let mut first = 0;
    while !scenario.attempts.is_empty() {
        first += usize::from(scenario.end(Outcome::Success).trigger == Trigger::First);
    }
    assert_eq!(first, waiting);
}

#[test]
fn a_retry_never_takes_the_slot_of_a_first_attempt() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(20);
    assert_eq!(scenario.attempts.len(), 16);
    for _ in 0..20 {
        scenario.end(failed(500));
    }
    scenario.at(NOW + 10_000);
    assert_eq!(scenario.attempts.len(), 8, "retries have slots of their own");
    scenario.publish(16);
    assert_eq!(scenario.attempts.len(), 24, "and these hang while the others go out");
}

#[test]
fn in_ordered_mode_a_failing_event_holds_the_later_ones_back() {
    let mut scenario = Scenario::new(|config| config.ordered = true);
    scenario.publish(3);
    assert_eq!(scenario.attempts.len(), 1);
    scenario.end(failed(500));
    assert_eq!(scenario.attempts, []);
    let mut scenario = scenario.crash(0);
    assert_eq!(scenario.attempts, []);
    scenario.at(scenario.next_at_ms());
    let order: Vec<EventId> = (0..3).map(|_| scenario.end(Outcome::Success).events[0]).collect();
    assert_eq!(order, [event(1), event(2), event(3)]);
}

#[test]
fn in_ordered_mode_a_row_waits_for_an_earlier_event_that_a_crash_left_open() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(2);
    // the first hangs, the second fails, and then the owner wants order
    scenario.attempts.remove(0);
    scenario.end(failed(500));
    scenario.kept.config.ordered = true;
    let mut scenario = scenario.crash(HOUR);
    let order: Vec<EventId> = (0..2).map(|_| scenario.end(Outcome::Success).events[0]).collect();
    assert_eq!(order, [event(1), event(2)]);
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    let mut scenario = Scenario::new(|config| config.batch = Some(Batch { max_events: 3, max_wait_ms: 500 }));
    scenario.publish(4);
    assert_eq!(scenario.attempts.iter().map(|a| a.events.len()).collect::<Vec<_>>(), [3]);
    scenario.at(NOW + 250);
    assert_eq!(scenario.effects.last(), Some(&Effect::WakeAt { at_ms: NOW + 500 }), "after the cursor was saved");
    scenario.at(NOW + 500);
    assert_eq!(scenario.attempts[1].events, [event(4)]);
}

#[test]
fn a_replay_goes_on_after_a_crash_and_ends() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(30);
    while !scenario.attempts.is_empty() {
        scenario.end(Outcome::Success);
    }
    let request = ReplayRequest { after: event(10), until: EventId::MAX, events: None, dead_only: false };
    scenario.input(Input::Replay(request));
    assert_eq!(scenario.attempts.len(), 4, "a budget of its own");
    for _ in 0..5 {
        assert_eq!(scenario.end(Outcome::Success).trigger, Trigger::Replay);
    }
    scenario.at(scenario.now_ms + 1_000);
    let mut scenario = scenario.crash(0);
    assert_eq!(scenario.attempts[0].events, [event(16)]);
    while !scenario.attempts.is_empty() {
        scenario.end(Outcome::Success);
    }
    let job = scenario.endpoint.jobs().next().expect("the job");
    assert_eq!((job.state, job.delivered), (JobState::Done, 20));
}

#[test]
fn what_is_under_way_when_a_replay_is_asked_for_is_sent_again_when_it_has_ended_and_holds_up_nothing_behind_it() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(4);
    // the first hangs, the fourth as well; the two between are delivered
    scenario.attempts.swap(0, 2);
    for _ in 0..2 {
        scenario.end(Outcome::Success);
    }
    let request = ReplayRequest { after: event(0), until: EventId::MAX, events: None, dead_only: false };
    scenario.input(Input::Replay(request));
    // what comes later was never asked for
    scenario.publish(1);
    let state =
        |scenario: &Scenario| scenario.endpoint.jobs().next().map(|job| (job.state, job.delivered, job.skipped));
    assert_eq!(state(&scenario), Some((JobState::Running, 0, 0)));
    let mut sent = Vec::new();
    while !scenario.attempts.is_empty() {
        let attempt = scenario.end(Outcome::Success);
        sent.extend(attempt.events.iter().filter(|_| attempt.trigger == Trigger::Replay).copied());
    }
    sent.sort();
    assert_eq!(sent, (1..=4).map(event).collect::<Vec<_>>());
    assert_eq!(state(&scenario), Some((JobState::Done, 4, 0)));
}

#[test]
fn a_replay_that_reaches_over_the_cursor_ends_after_a_crash() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(3);
    scenario.end(Outcome::Success);
    let request = ReplayRequest { after: event(0), until: EventId::MAX, events: None, dead_only: false };
    scenario.input(Input::Replay(request));
    scenario.at(scenario.now_ms + 1_000);
    let mut scenario = scenario.crash(0);
    let mut sent: Vec<(Trigger, EventId)> = Vec::new();
    while !scenario.attempts.is_empty() {
        let attempt = scenario.end(Outcome::Success);
        sent.push((attempt.trigger, attempt.events[0]));
    }
    for n in 2..=3 {
        assert!(sent.contains(&(Trigger::First, event(n))) && sent.contains(&(Trigger::Replay, event(n))), "{sent:?}");
    }
    assert_eq!(scenario.endpoint.jobs().next().map(|job| job.state), Some(JobState::Done));
}

#[test]
fn a_dead_delivery_that_waits_for_a_replay_is_revived_and_not_held_back_by_itself() {
    let none = RetryPolicy::schedule(&[]).expect("one attempt");
    let mut scenario = Scenario::new(|config| (config.ordered, config.retry_policy) = (true, none));
    scenario.publish(2);
    scenario.end(failed(500));
    let request = ReplayRequest { after: event(0), until: EventId::MAX, events: None, dead_only: true };
    scenario.input(Input::Replay(request));
    scenario.input(Input::Enable { resume: Resume::All, head: event(2) });
    let order: Vec<EventId> = (0..2).map(|_| scenario.end(Outcome::Success).events[0]).collect();
    assert_eq!(order, [event(2), event(1)], "the second was in flight already");
    assert_eq!(scenario.endpoint.jobs().next().map(|job| job.state), Some(JobState::Done));
}

#[test]
fn a_replay_of_dead_deliveries_sends_just_those() {
    let mut scenario = Scenario::new(|config| config.retry_policy = RetryPolicy::schedule(&[]).expect("one attempt"));
    scenario.publish(3);
    for outcome in [failed(500), Outcome::Success, failed(500)] {
        scenario.end(outcome);
    }
    let request = ReplayRequest { after: event(1), until: EventId::MAX, events: None, dead_only: true };
    scenario.input(Input::Replay(request));
    let attempt = scenario.end(Outcome::Success);
    assert_eq!((attempt.events, attempt.number, attempt.trigger), (vec![event(3)], 2, Trigger::Replay));
    assert_eq!(scenario.attempts, [], "the first lies before the range, the second was delivered");
    let job = scenario.endpoint.jobs().next().expect("the job");
    assert_eq!((job.state, job.delivered), (JobState::Done, 1));
}

#[test]
fn events_that_retention_took_are_a_gap_and_the_cursor_goes_on() {
    let mut scenario = Scenario::new(|config| config.active = false);
    scenario.publish(10);
    assert_eq!(scenario.endpoint.health(), Health::Paused);
    scenario.log.drain(..6);
    scenario.input(Input::Lost { through: event(6) });
    let gap = Gap { after: event(0), through: event(6), at_ms: NOW, announced: false };
    assert!(scenario.effects.contains(&Effect::Log(LogEntry::Gap(gap))));
    scenario.input(Input::Configure { config: EndpointConfig::new("wh"), new_target: false });
    let sent: Vec<EventId> = scenario.attempts.iter().map(|attempt| attempt.events[0]).collect();
    assert_eq!(sent, (7..=10).map(event).collect::<Vec<_>>());
    assert_eq!(scenario.kept.state.gaps, [gap]);
    assert!(scenario.emitted().contains(&"webhook.gap"));
    scenario.input(Input::Announced { key: NoticeKey::Gap(event(6)) });
    scenario.at(scenario.now_ms + 1_000);
    assert!(!scenario.crash(0).emitted().contains(&"webhook.gap"));
}

#[test]
fn a_damaged_part_of_the_log_is_one_gap_however_often_it_is_read() {
    let mut scenario = Scenario::new(|_| {});
    let damaged = Input::Damaged { job: None, after: event(2), through: event(5) };
    scenario.input(damaged.clone());
    assert_eq!(scenario.emitted(), ["webhook.gap"]);
    scenario.input(Input::Announced { key: NoticeKey::Gap(event(5)) });
    scenario.at(scenario.now_ms + 1_000);
    let mut scenario = scenario.crash(0);
    scenario.input(damaged);
    assert_eq!((scenario.emitted(), scenario.kept.state.gap_count), (vec![], 1));
    // what lies before and behind is delivered
    scenario.publish(3);
    assert_eq!(scenario.attempts.len(), 3);
}

#[test]
fn a_replay_over_a_damaged_part_of_the_log_says_that_something_may_be_missing() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(3);
    (0..3).for_each(|_| drop(scenario.end(Outcome::Success)));
    let ask = ReplayRequest { after: event(0), until: event(3), events: None, dead_only: false };
    scenario.input(Input::Replay(ask));
    let job = scenario.endpoint.jobs().next().expect("the job").id;
    scenario.input(Input::Damaged { job: Some(job), after: event(1), through: event(2) });
    assert!(scenario.endpoint.jobs().next().expect("the job").lost);
    assert_eq!((scenario.emitted(), scenario.endpoint.state().gap_count), (vec![], 0));
}

#[test]
fn a_shorter_policy_gives_up_what_has_had_its_attempts() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(1);
    scenario.end(failed(500));
    scenario.at(scenario.next_at_ms());
    scenario.end(failed(500));
    let mut config = EndpointConfig::new("wh");
    config.retry_policy = RetryPolicy::schedule(&[9]).expect("a schedule");
    scenario.input(Input::Configure { config, new_target: false });
    assert_eq!(scenario.endpoint.observe().dead, 1);
    assert_eq!(scenario.emitted(), ["webhook.dead_letter"]);
}

#[test]
fn a_notice_comes_again_after_a_crash_until_it_is_in_the_log() {
    let mut scenario = Scenario::new(|config| config.retry_policy = RetryPolicy::schedule(&[]).expect("one attempt"));
    scenario.publish(1);
    scenario.end(Outcome::Gone);
    let all = ["webhook.dead_letter", "webhook.disabled"];
    assert_eq!(scenario.emitted(), all);
    let mut scenario = scenario.crash(0);
    assert_eq!(scenario.emitted(), all);
    let keys = scenario.effects.iter().filter_map(|effect| match effect {
        Effect::Emit { key, .. } => Some(*key),
        _ => None,
    });
    for key in keys.collect::<Vec<_>>() {
        scenario.input(Input::Announced { key });
    }
    scenario.at(scenario.now_ms + 1_000);
    assert_eq!(scenario.crash(0).emitted(), [""; 0]);
}

#[test]
fn a_test_is_sent_whatever_the_health_and_says_nothing_about_it() {
    let mut scenario = Scenario::new(|config| config.active = false);
    let delivery = DeliveryId::fresh(NOW, 7);
    scenario.input(Input::Test { delivery });
    scenario.input(Input::Test { delivery: DeliveryId::fresh(NOW, 8) });
    assert_eq!(scenario.refused(), Some(Refusal::TestRunning));
    assert_eq!(scenario.end(failed(500)).trigger, Trigger::Test);
    assert_eq!(scenario.endpoint.state().consecutive_failures, 0);
}

#[test]
fn shutting_down_waits_for_the_attempt_in_flight_and_for_the_disk() {
    let mut scenario = Scenario::new(|_| {});
    scenario.publish(20);
    scenario.input(Input::Shutdown);
    while !scenario.attempts.is_empty() {
        assert!(!scenario.effects.contains(&Effect::Stopped));
        scenario.end(Outcome::Success);
    }
    assert!(scenario.effects.contains(&Effect::Stopped));
    assert_eq!(scenario.kept.state.cursor, event(17).before(), "the four that were not attempted are still to come");
}
