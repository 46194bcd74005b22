//! What became of a webhook's deliveries, and making them again: list, look, retry, replay, test.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::pending::{PendingScan, Waiting, Wanted};
use super::{DeliveriesQuery, Delivery, DeliveryId, DeliveryStatus, Hub, Job, JobId, Webhook, WebhookError};
use crate::catalog::reader::ReadError;
use crate::catalog::webhook::Ready;
use crate::catalog::webhook_validate;
use crate::clock;
use crate::compute::{Slice, Tenant};
use crate::delivery::actor::{Ask, FlushHistory, Seen, Test};
use crate::delivery::handles::Handles as DeliveryHandles;
use crate::delivery::http::headers::Headers;
use crate::delivery::outcome::Timings;
use crate::delivery::{attempt, pages};
use crate::feed::frame::Frame;
use crate::hub::rooms::Rooms;
use crate::hub::scan::{self, ScanBudget, ScanError, ScanLimits};
use crate::log::{Direction, PageLimit};
use crate::metrics::Shed;
use crate::model::access::Principal;
use crate::model::catalogue;
use crate::model::channel::{Channel, Owner};
use crate::model::delivery::{Outcome, Refusal, ReplayRequest, Row, RowState};
use crate::model::event::{ChannelNo, Event, EventType, Origin};
use crate::model::filter::Filter;
use crate::model::format::Format;
use crate::model::id::EventId;
use crate::model::source::raw::{REQUEST_TYPE, RawRequest};

/// Events that a scan reads at once.
pub(super) const SCAN_PAGE_EVENTS: usize = 1_000;

/// A part of a list, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// What to ask for `after` to get the next part; none: this was the last one.
    pub next: Option<DeliveryId>,
}

/// A range of the log to be sent again.
#[derive(Clone, Debug, Default)]
pub struct ReplayAsk {
    /// Events after this one.
    pub after: EventId,
    /// Up to and with this one; absent: up to the newest.
    pub until: Option<EventId>,
    /// Only these types, beside the filter of the webhook.
    pub events: Option<Vec<String>>,
    /// Only deliveries that are dead.
    pub dead_only: bool,
    /// Only count what would be sent.
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayAnswer {
    Started(JobId),
    /// So many events, or dead deliveries, would be sent.
    Counted(u64),
}

/// What came of a test.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    pub delivery: DeliveryId,
    pub delivered: bool,
    pub status_code: Option<u16>,
    pub error_code: Option<String>,
    /// What went wrong, in a sentence.
    pub detail: String,
    pub duration_ms: u64,
    pub timings: Timings,
    pub request_headers: Headers,
    pub body: Bytes,
    pub response_headers: Headers,
    pub response_body: String,
}

impl Hub {
    /// Sends one sample event now, of this type or of one that the webhook gets, and waits for what comes of it.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Unavailable`] when the webhook's actor is not running,
    /// [`WebhookError::Refused`] while another test is under way or the server stops. An attempt that fails is an
    /// outcome, not an error.
    pub async fn test_webhook(
        &self,
        channel: &Channel,
        id: &str,
        kind: Option<EventType>,
    ) -> Result<TestOutcome, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let now_ms = clock::now_ms();
        let delivery = DeliveryId::fresh(now_ms.max(0) as u64, u128::from_le_bytes(clock::random()));
        let frame = Arc::new(Frame::new(sample(&webhook, channel, delivery, now_ms, kind), channel.owner()));
        let tested = self.actor(&webhook)?.send(Test { delivery, frame }).await;
        let done = tested.map_err(|_| WebhookError::Unavailable)??;
        Ok(TestOutcome {
            delivery,
            delivered: done.outcome == Outcome::Success,
            status_code: done.record.status_code,
            error_code: done.record.error_code,
            detail: done.record.detail,
            duration_ms: done.record.duration_ms,
            timings: done.record.timings,
            request_headers: done.record.request_headers,
            body: done.body,
            response_headers: done.record.response_headers,
            response_body: done.record.response_body,
        })
    }

    /// The deliveries of a webhook, the newest first. Those that wait for their first attempt are listed only when
    /// `query` asks for that status: of an endpoint that is off there may be millions.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::Unavailable`] when the webhook's actor is not running,
    /// [`WebhookError::Scan`] when the waiting ones cannot be looked up within the limits, [`WebhookError::Store`] when
    /// the log cannot be read.
    pub async fn deliveries(
        &self,
        channel: &Channel,
        id: &str,
        query: DeliveriesQuery,
        limit: usize,
        after: Option<DeliveryId>,
    ) -> Result<Page<Delivery>, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let seen = self.seen(&webhook).await?;
        let before = after.unwrap_or(DeliveryId::MAX);
        // what waits has no attempt that could have ended in any way
        let is_waiting = query.status == Some(DeliveryStatus::Pending) && query.codes.is_empty();
        let waiting = match is_waiting && webhook.batch.is_none() {
            true => {
                let wanted = Wanted::Page { query: query.clone(), before, limit };
                self.pending(&webhook, channel.owner(), &seen, wanted).await?
            }
            false => Waiting::default(),
        };
        let page = self.read(channel.no(), move |rooms| {
            let rows: HashMap<_, _> = seen.rows.iter().map(|row| (row.delivery, row)).collect();
            let logged = rooms.delivery.delivery_log.read(&webhook.id, clock::now_ms().max(0) as u64);
            let mut all = merged(logged, &rows);
            let end = waiting.cut_at.unwrap_or(DeliveryId::MIN);
            all.retain(|delivery| (end..before).contains(&delivery.id) && query.has(delivery));
            all.extend(waiting.deliveries);
            all.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
            all.dedup_by(|a, b| a.id == b.id);
            let more = all.len() > limit;
            all.truncate(limit);
            let next = all.last().map(|last| last.id).filter(|_| more).or(waiting.cut_at);
            Ok(Page { data: all, next })
        });
        Ok(page.await?)
    }

    /// One delivery with its attempts, each with the body that was sent.
    ///
    /// # Errors
    /// [`WebhookError::DeliveryNotFound`], or as [`Hub::deliveries`].
    pub async fn delivery(&self, channel: &Channel, id: &str, delivery: DeliveryId) -> Result<Delivery, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let mut found = self.find_delivery(&webhook, delivery).await?;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let ready = self.ready(&webhook, channel)?;
        let events = found.events.clone();
        let body = self.read(webhook.channel_no(), move |rooms| body(&rooms.delivery, &ready, &events)).await?;
        for attempt in &mut found.attempts {
            if attempt.request_body.is_none() {
                attempt.request_body.clone_from(&body);
            }
        }
        Ok(found)
    }

    /// Has a delivery attempted again now. Durable when it returns.
    ///
    /// # Errors
    /// [`WebhookError::DeliveryNotFound`], [`WebhookError::Refused`] when its state does not allow it or it was a test,
    /// [`WebhookError::Append`] when it could not be stored, or as [`Hub::deliveries`].
    pub async fn retry_delivery(&self, channel: &Channel, id: &str, delivery: DeliveryId) -> Result<(), WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let found = self.find_delivery(&webhook, delivery).await?;
        if found.events.is_empty() {
            return Err(Refusal::Test.into());
        }
        let ask = Ask::Resend { delivery, events: found.events, attempts: found.attempt_count };
        self.ask(&webhook, ask).await.map(drop)
    }

    /// Sends a range of the log again, as a job that survives a restart; or counts what that would send.
    ///
    /// # Errors
    /// The webhook is gone or refuses, or counting takes more than a scan may.
    pub async fn replay(
        &self,
        principal: &Principal,
        channel: &Channel,
        id: &str,
        ask: ReplayAsk,
    ) -> Result<ReplayAnswer, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let head = self.rooms.log.head();
        let until = ask.until.unwrap_or(head).min(head);
        let request = ReplayRequest { after: ask.after, until, events: ask.events, dead_only: ask.dead_only };
        if ask.dry_run {
            let seen = self.observe(&webhook, request.dead_only).await?;
            if request.dead_only {
                return Ok(ReplayAnswer::Counted(count_dead(&seen, &request)));
            }
            let mut counting = Counting::new(&webhook, channel.owner(), &seen, request, self.rooms.limits.scans);
            let counted = self.scan(principal, Some(scan::WAIT_MAX), move |rooms, slice| counting.step(rooms, slice));
            return Ok(ReplayAnswer::Counted(counted.await?));
        }
        let job = self.ask(&webhook, Ask::Replay(request)).await?;
        job.map(ReplayAnswer::Started).ok_or(WebhookError::Unavailable)
    }

    /// The replays of a webhook that are kept, the oldest first.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], or [`WebhookError::Unavailable`] when the webhook's actor is not running.
    pub async fn replay_jobs(&self, channel: &Channel, id: &str) -> Result<Vec<Job>, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        Ok(self.observe(&webhook, false).await?.jobs)
    }

    /// How far a replay is.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], [`WebhookError::ReplayNotFound`], or [`WebhookError::Unavailable`] when the
    /// webhook's actor is not running.
    pub async fn replay_job(&self, channel: &Channel, id: &str, job: JobId) -> Result<Job, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let seen = self.observe(&webhook, false).await?;
        seen.jobs.into_iter().find(|known| known.id == job).ok_or(WebhookError::ReplayNotFound)
    }

    /// The state of the deliveries, after what the delivery log still held in memory was written.
    pub(super) async fn seen(&self, webhook: &Arc<Webhook>) -> Result<Seen, WebhookError> {
        if !self.rooms.delivery.ownership.is_mine(&webhook.id) {
            return self.observe_elsewhere(webhook).await;
        }
        let seen = self.actor(webhook)?.send(FlushHistory).await;
        seen.ok().flatten().ok_or(WebhookError::Unavailable)
    }

    async fn find_delivery(&self, webhook: &Arc<Webhook>, delivery: DeliveryId) -> Result<Delivery, WebhookError> {
        let seen = self.seen(webhook).await?;
        let owner = self.channel(webhook.channel_no()).ok_or(WebhookError::NotFound)?.owner();
        let id = webhook.id.clone();
        let rows: Vec<Row> = seen.rows.iter().filter(|row| row.delivery == delivery).cloned().collect();
        let found = self.read(webhook.channel_no(), move |rooms| {
            let logged = rooms.delivery.delivery_log.find(&id, delivery);
            let rows = rows.iter().map(|row| (row.delivery, row)).collect();
            Ok(merged(logged.into_iter().collect(), &rows).pop())
        });
        let found = match found.await? {
            None if webhook.batch.is_none() => {
                self.pending(webhook, owner, &seen, Wanted::One(delivery)).await?.deliveries.pop()
            }
            found => found,
        };
        found.ok_or(WebhookError::DeliveryNotFound)
    }

    /// Deliveries that wait for their first attempt.
    async fn pending(
        &self,
        webhook: &Webhook,
        owner: Owner,
        seen: &Seen,
        wanted: Wanted,
    ) -> Result<Waiting, ScanError> {
        let mut pending = PendingScan::new(webhook, owner, seen, wanted, self.rooms.limits.scans);
        let rooms = self.rooms.clone();
        let tenant = Tenant::of_channel(webhook.channel_no());
        self.rooms.scan_threads.slices(tenant, move |slice| pending.step(&rooms, slice)).await?
    }
}

/// What is in the log for people, corrected by the rows, which are the truth.
pub(super) fn merged(logged: Vec<Delivery>, rows: &HashMap<DeliveryId, &Row>) -> Vec<Delivery> {
    let mut all: HashMap<DeliveryId, Delivery> = HashMap::with_capacity(logged.len() + rows.len());
    for mut delivery in logged {
        if !rows.contains_key(&delivery.id)
            && matches!(delivery.status, DeliveryStatus::Retrying | DeliveryStatus::Dead)
        {
            delivery.status = DeliveryStatus::Dropped;
            delivery.next_attempt_ms = None;
        }
        all.insert(delivery.id, delivery);
    }
    for row in rows.values() {
        let delivery = all.entry(row.delivery).or_insert_with(|| of_row(row));
        delivery.events.clone_from(&row.events);
        delivery.attempt_count = row.attempts;
        (delivery.status, delivery.next_attempt_ms) = match row.state {
            _ if row.requested.is_some() => (DeliveryStatus::Pending, None),
            RowState::Retrying => (DeliveryStatus::Retrying, Some(row.next_at_ms)),
            RowState::Dead => (DeliveryStatus::Dead, None),
            RowState::Delivered => (DeliveryStatus::Delivered, None),
        };
    }
    all.into_values().collect()
}

fn of_row(row: &Row) -> Delivery {
    Delivery {
        id: row.delivery,
        events: row.events.clone(),
        event_types: Vec::new(),
        status: DeliveryStatus::Retrying,
        attempt_count: row.attempts,
        attempts: Vec::new(),
        next_attempt_ms: None,
        updated_ms: row.last.map_or(0, |last| last.at_ms as i64),
    }
}

/// The dead deliveries that a replay would send.
fn count_dead(seen: &Seen, request: &ReplayRequest) -> u64 {
    let until = request.until.min(seen.observed.begun);
    let free = |row: &&Row| row.state == RowState::Dead && row.requested.is_none();
    let within = |row: &&Row| row.first() > request.after && row.first() <= until;
    seen.rows.iter().filter(free).filter(within).count() as u64
}

/// Counts the events that a replay would send.
struct Counting {
    no: ChannelNo,
    owner: Owner,
    /// None: it cannot be compiled any more, so nothing would be sent.
    filter: Option<Filter>,
    kinds: Option<Vec<String>>,
    until: EventId,
    budget: ScanBudget,
    at: EventId,
    events: std::vec::IntoIter<Event>,
    more: bool,
    counted: u64,
}

impl Counting {
    fn new(webhook: &Webhook, owner: Owner, seen: &Seen, request: ReplayRequest, limits: ScanLimits) -> Counting {
        Counting {
            no: webhook.channel_no(),
            owner,
            filter: Filter::compile(&webhook.filter).ok(),
            kinds: request.events,
            until: request.until.min(seen.observed.begun),
            budget: ScanBudget::new(limits),
            at: request.after,
            events: Vec::new().into_iter(),
            more: true,
            counted: 0,
        }
    }

    /// Goes on for a slice; none: there is more to do.
    fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<u64, ScanError>> {
        let Some(filter) = &self.filter else { return Some(Ok(0)) };
        loop {
            if let Some(event) = self.events.next() {
                self.at = event.id;
                if self.at > self.until {
                    return Some(Ok(self.counted));
                }
                if let Some(e) = self.budget.used_up() {
                    rooms.metrics.shed(Shed::Statistics);
                    return Some(Err(e));
                }
                let asked =
                    self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == event.kind.as_str()));
                let frame = Frame::new(event, self.owner.clone());
                if self.budget.judge(&frame, filter, rooms) && asked {
                    self.counted += 1;
                }
            } else if self.more {
                let limits = PageLimit { events: SCAN_PAGE_EVENTS, bytes: rooms.limits.page_bytes };
                match rooms.log.read(self.no, self.at, limits, Direction::Forward) {
                    Ok(page) => {
                        (self.more, self.events) = (page.more, page.events.into_iter());
                        if self.events.len() == 0 {
                            self.at = page.last;
                        }
                    }
                    Err(e) => return Some(Err(ScanError::Read(e.into()))),
                }
            } else {
                return Some(Ok(self.counted));
            }
            if slice.is_over() {
                return None;
            }
        }
    }
}

/// What is posted for these events; none when they are gone.
fn body(delivery: &DeliveryHandles, ready: &Ready, events: &[EventId]) -> Result<Option<String>, ReadError> {
    let frames = pages::read_all(delivery, &ready.channel, events)?;
    if frames.is_empty() {
        return Ok(None);
    }
    let batch = ready.webhook.batch.is_some() || frames.len() > 1;
    let rendered = attempt::render(ready, &frames, batch).ok();
    Ok(rendered.map(|rendered| String::from_utf8_lossy(&rendered.body).into_owned()))
}

/// An event that is not in the log, of this type or of one that the webhook gets.
fn sample(webhook: &Webhook, channel: &Channel, delivery: DeliveryId, now_ms: i64, kind: Option<EventType>) -> Event {
    let wanted = webhook.filter.events.iter().flatten().map(String::as_str);
    let name = webhook_validate::sample_types(webhook, channel.kind)
        .next()
        .or(wanted.into_iter().next())
        .unwrap_or("webhook.test");
    let name = kind.as_ref().map_or(name, EventType::as_str);
    let name = if webhook.format == Format::Raw { REQUEST_TYPE } else { name };
    Event {
        id: EventId::from_bytes(delivery.to_bytes()),
        channel: webhook.channel_no(),
        // all of these hold types only
        kind: EventType::new(name).expect("a type"),
        ts_ms: now_ms,
        session: webhook.filter.session.as_deref().map(Into::into),
        origin: Origin { by: Origin::SERVER.into(), validated: None, trace: None },
        payload: match webhook.format {
            Format::Raw => RawRequest::sample(),
            _ => catalogue::sample(name, 0),
        },
    }
}
