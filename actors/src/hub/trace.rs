//! The trace of an event: where it came from, when it became durable, and what became of it.

use std::sync::Arc;

use super::Hub;
use super::rooms::Rooms;
use super::webhooks::EventOutcome;
use crate::catalog::reader::ReadError;
use crate::feed::trace::Remembered;
use crate::log::{Direction, PageLimit};
use crate::model::channel::Channel;
use crate::model::event::{ChannelNo, Event, Origin};
use crate::model::id::EventId;

/// Who published an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    pub kind: PublisherKind,
    /// As the log keeps it, see [`Origin::by`].
    pub by: Arc<str>,
    /// What people call it, if it has a name and is still there.
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PublisherKind {
    Token,
    Jwt,
    Admin,
    Source,
    Server,
}

#[derive(Debug)]
pub struct Trace {
    /// None: the log did not keep it when the event was appended.
    pub publisher: Option<Publisher>,
    /// None: the event is older than what is remembered.
    pub remembered: Option<Remembered>,
    /// What became of it at each webhook of its channel, the oldest webhook first.
    pub webhooks: Vec<EventOutcome>,
}

impl Hub {
    /// An event of the log, with its channel.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn event(&self, id: EventId) -> Result<Option<(Event, Arc<Channel>)>, ReadError> {
        let read = move |rooms: &Rooms| {
            let limit = PageLimit { events: 1, bytes: rooms.limits.page_bytes };
            Ok(rooms.log.read(ChannelNo::ALL, id.before(), limit, Direction::Forward)?)
        };
        let found = self.read(ChannelNo::ALL, read).await?.events.into_iter().find(|event| event.id == id);
        // the events of a deleted channel are not read any more
        Ok(found.and_then(|event| self.channel(event.channel).map(|channel| (event, channel))))
    }

    /// What is known of an event of this channel.
    ///
    /// # Errors
    /// The log or the delivery log cannot be read.
    pub async fn trace(&self, event: &Event, channel: &Channel) -> Result<Trace, ReadError> {
        self.rooms.streams.settle(event.channel).await;
        Ok(Trace {
            publisher: self.publisher(&event.origin),
            remembered: self.rooms.trace.find(event.id),
            webhooks: self.event_outcomes(event, channel).await?,
        })
    }

    fn publisher(&self, origin: &Origin) -> Option<Publisher> {
        let by = &origin.by;
        if let Some(id) = origin.source() {
            let name = self.source(id).and_then(|live| live.source.name.clone());
            return Some(Publisher { kind: PublisherKind::Source, by: by.clone(), name });
        }
        let (kind, name) = match &**by {
            "" => return None,
            "admin" => (PublisherKind::Admin, None),
            Origin::SERVER => (PublisherKind::Server, None),
            _ if by.starts_with("jwt:") => (PublisherKind::Jwt, None),
            id => (PublisherKind::Token, self.token(id).and_then(|token| token.name.clone())),
        };
        Some(Publisher { kind, by: by.clone(), name })
    }
}
