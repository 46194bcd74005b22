//! A channel's stream, followed for as long as wanted: it is resumed by its cursor whenever it breaks off.

use std::collections::VecDeque;
use std::time::Duration;

use actors::model::catalogue;
use futures_util::StreamExt;
use serde::Deserialize;

use super::backoff::{Backoff, chance};
use super::channel::{Channel, Selector};
use super::filter::FilterArgs;
use super::output::DOUBTFUL;
use super::remote::{Answer, Remote, Request, Trouble};
use super::since::Since;
use super::sse::{Frame, Parser};
use super::{Failure, output, suggest};

/// A stream that says nothing for so long is dead: the server sends a comment every 30 s unless it is set otherwise.
const SILENCE: Duration = Duration::from_secs(120);

/// An event as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The cursor behind it.
    pub id: String,
    /// The envelope of the channel's family, the same bytes as everywhere.
    pub envelope: String,
}

/// The address of a stream. A channel has its own; others show its events in other envelopes, or those of several channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    /// What people call it.
    pub name: String,
}

impl Way {
    pub fn own(channel: &Channel) -> Way {
        Way { path: channel.stream(), query: Vec::new(), name: channel.to_string() }
    }

    /// The stream of what is selected, and the channel of which it is told when it is refused.
    ///
    /// # Errors
    /// Wrong usage when the feed, which is everything, is not alone.
    pub fn of_selected(selected: &[Selector]) -> Result<(Channel, Way), Failure> {
        if let [Selector::Channel(channel)] = selected {
            return Ok((channel.clone(), Way::own(channel)));
        }
        if selected.contains(&Selector::Channel(Channel::Feed)) {
            return Err(Failure::Usage("feed is all channels that the token may read; give it alone".into()));
        }
        let names: Vec<String> = selected.iter().map(Selector::to_string).collect();
        let query = vec![("channel", names.join(","))];
        Ok((Channel::Feed, Way { path: Channel::Feed.stream(), query, name: names.join(", ") }))
    }
}

/// Reads one channel's events in order, each once.
pub struct Follower<'a> {
    remote: &'a Remote,
    channel: &'a Channel,
    way: Way,
    cursor: Option<String>,
    /// The cursor is a moment and no event, so that lying ahead of the log only means that nothing happened since.
    by_moment: bool,
    opened_before: bool,
    stream: Option<Stream>,
    backoff: Backoff,
}

struct Stream {
    answer: Answer,
    parser: Parser,
    ready: VecDeque<Frame>,
    /// Its first frame has come.
    is_open: bool,
}

/// What a `gap` frame says.
#[derive(Debug, Deserialize)]
struct Gap {
    oldest: Option<String>,
    reason: String,
}

/// What a `connected` frame says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Connected {
    #[serde(default)]
    unknown_events: Vec<String>,
}

impl<'a> Follower<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Wrong usage when the filter cannot be meant.
    pub fn new(
        remote: &'a Remote,
        channel: &'a Channel,
        filter: &FilterArgs,
        since: Option<Since>,
        now_ms: i64,
    ) -> Result<Follower<'a>, Failure> {
        let mut way = Way::own(channel);
        way.query = filter.query()?;
        Ok(Follower {
            remote,
            channel,
            way,
            cursor: since.map(|since| since.cursor(now_ms).to_string()),
            by_moment: since.is_some_and(|since| since.moment(now_ms).is_some()),
            opened_before: false,
            stream: None,
            backoff: Backoff::default(),
        })
    }

    /// The same events over another stream.
    pub fn by_way(mut self, way: Way) -> Follower<'a> {
        self.way.path = way.path;
        self.way.query.extend(way.query);
        self.way.name = way.name;
        self
    }

    /// The id behind which it goes on.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Waits until the stream is open, so that the cursor is known.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub async fn opened(&mut self) -> Result<(), Failure> {
        while !self.opened_before {
            if let Err(trouble) = self.step().await {
                self.recover(&trouble).await?;
            }
        }
        Ok(())
    }

    /// The next event. What is missing, and that the stream broke off, is told on standard error.
    ///
    /// # Errors
    /// When the server is not there at the first time, or refuses in a way that waiting does not change.
    pub async fn next(&mut self) -> Result<Received, Failure> {
        loop {
            match self.step().await {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(trouble) => self.recover(&trouble).await?,
            }
        }
    }

    /// Opens the stream, reads from it, or takes one frame of what was read. The first frame of a stream is no event.
    async fn step(&mut self) -> Result<Option<Received>, Trouble> {
        match &mut self.stream {
            None => self.open().await.map(|()| None),
            Some(stream) => match stream.ready.pop_front() {
                Some(frame) => Ok(self.take(frame)),
                None => self.read().await.map(|()| None),
            },
        }
    }

    async fn open(&mut self) -> Result<(), Trouble> {
        let mut request =
            Request::get(&self.way.path).query(self.way.query.clone()).header("Accept", "text/event-stream");
        if let Some(cursor) = &self.cursor {
            request = request.header("Last-Event-ID", cursor.as_str());
        }
        let answer = self.remote.open(&request).await?;
        self.stream = Some(Stream { answer, parser: Parser::default(), ready: VecDeque::new(), is_open: false });
        Ok(())
    }

    /// Waits for bytes and takes the frames that they complete.
    async fn read(&mut self) -> Result<(), Trouble> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let bytes = match actix_web::rt::time::timeout(SILENCE, stream.answer.next()).await {
            Err(_) => return Err(self.remote.unreachable(format!("nothing came for {} s", SILENCE.as_secs()))),
            Ok(None) => return Err(self.remote.unreachable("the stream ended".to_owned())),
            Ok(Some(Err(error))) => return Err(self.remote.broken(&error)),
            Ok(Some(Ok(bytes))) => bytes,
        };
        let mut frames = Vec::new();
        let pushed = stream.parser.push(&bytes, &mut frames);
        stream.ready.extend(frames);
        pushed.map_err(|e| self.remote.unreachable(e.to_string()))
    }

    /// An event, or something about the stream that was dealt with.
    fn take(&mut self, frame: Frame) -> Option<Received> {
        if let Some(retry_ms) = frame.retry_ms {
            self.backoff.set_base(Duration::from_millis(retry_ms));
        }
        let data = frame.data?;
        let is_first = self.stream.as_mut().is_some_and(|stream| !std::mem::replace(&mut stream.is_open, true));
        match (frame.event.as_deref(), frame.id) {
            (Some("connected"), id) if is_first => {
                self.connected(&data);
                self.cursor = id.or_else(|| self.cursor.take());
                None
            }
            (Some("gap"), None) => {
                self.gap(&data);
                None
            }
            (_, Some(id)) => {
                self.backoff.reset();
                self.cursor = Some(id.clone());
                Some(Received { id, envelope: data })
            }
            // no event is without an id
            (_, None) => None,
        }
    }

    fn connected(&mut self, data: &str) {
        let again = std::mem::replace(&mut self.opened_before, true);
        let unknown = serde_json::from_str::<Connected>(data).map_or_else(|_| Vec::new(), |c| c.unknown_events);
        if again {
            output::notice(&format!("connected again to {}", self.way.name));
            return;
        }
        for name in unknown {
            let names = catalogue::types().iter().map(|info| info.name);
            let hint = suggest::did_you_mean(&name, names);
            output::notice(&format!("{} is no type of the catalogue{hint}", output::tame(&name)));
        }
        if output::is_watched() {
            output::notice(&format!("listening to {}; stop with Ctrl-C", self.way.name));
        }
    }

    fn gap(&mut self, data: &str) {
        let by_moment = std::mem::replace(&mut self.by_moment, false);
        match serde_json::from_str::<Gap>(data) {
            Ok(gap) if gap.reason == "ahead" && by_moment => {}
            Ok(gap) if gap.reason == "ahead" => {
                output::notice("the cursor is ahead of the server's log; going on with what comes from now on");
            }
            Ok(gap) => {
                let oldest =
                    gap.oldest.map_or_else(|| "none is left".to_owned(), |id| format!("the oldest left is {id}"));
                let why = match gap.reason.as_str() {
                    "damaged" => "they were damaged on the server's disk",
                    _ => "the server keeps them no longer",
                };
                output::notice(&format!("{DOUBTFUL}events are missing here{DOUBTFUL:#}; {why}; {oldest}"));
            }
            Err(_) => output::notice(&format!("{DOUBTFUL}events are missing here{DOUBTFUL:#}")),
        }
    }

    /// Waits until it makes sense to connect again.
    async fn recover(&mut self, trouble: &Trouble) -> Result<(), Failure> {
        self.stream = None;
        let at_first = !self.opened_before && matches!(trouble, Trouble::Unreachable { .. });
        if !trouble.is_passing() || at_first {
            return Err(self.remote.explain(trouble, self.channel, "subscribe").await);
        }
        let wait = self.backoff.next(trouble.retry_after(), chance());
        output::notice(&format!("{}; trying again in {:.1} s", trouble.reason(), wait.as_secs_f64()));
        actix_web::rt::time::sleep(wait).await;
        Ok(())
    }
}
