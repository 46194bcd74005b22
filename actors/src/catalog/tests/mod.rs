//! The catalog over a journal that commits, fails and waits as it is told.

mod model;
mod races;
mod stories;

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::journal::stand_in::StandIn;
use crate::journal::{AppendError, JournalLimits};
use crate::model::access::Scope;
use crate::model::delivery::{EndpointState, RetryPolicy};
use crate::model::id::EventId;
use crate::model::record_id::{TokenId, WebhookId};

const LIMITS: JournalLimits = JournalLimits {
    queue_events: 1_000,
    queue_bytes: 1 << 20,
    batch_events: 1_000,
    batch_bytes: 1 << 20,
    answer_timeout: Duration::from_secs(60),
    min_free_bytes: 0,
};

/// A catalog, and the worker behind its journal.
struct Stage {
    catalog: Arc<Catalog>,
    documents: Arc<Documents>,
    journal: Journal,
    worker: StandIn,
    /// What the sink was told.
    events: Arc<Mutex<Vec<CatalogEvent>>>,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(LIMITS, Documents::default())
    }

    fn with(limits: JournalLimits, documents: Documents) -> Stage {
        let documents = Arc::new(documents);
        let (journal, worker) = StandIn::new(&limits, documents.clone());
        let catalog = Catalog::open(journal.clone(), documents.clone(), TokenHash::of("admin")).expect("documents");
        let events: Arc<Mutex<Vec<CatalogEvent>>> = Arc::default();
        let told = events.clone();
        catalog.set_sink(Box::new(move |event| told.lock().push(event)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Stage { catalog: Arc::new(catalog), documents, journal, worker, events, runtime }
    }

    /// Commits the oldest `count` requests together.
    fn commit(&mut self, count: usize) -> Vec<Change> {
        let catalog = self.catalog.clone();
        self.worker.commit(count, |changes| catalog.apply(changes))
    }

    /// A change that is under way: it has run, and waits.
    fn begin<T, E>(&self, change: impl Future<Output = Result<T, E>> + 'static) -> Asked<T, E> {
        let mut asked = Asked { future: Box::pin(change), answer: None };
        self.poll(&mut asked);
        asked
    }

    /// Lets a change go on if it can; true when it is answered.
    fn poll<T, E>(&self, asked: &mut Asked<T, E>) -> bool {
        let _timers = self.runtime.enter();
        if asked.answer.is_none()
            && let Poll::Ready(answer) = asked.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            asked.answer = Some(answer);
        }
        asked.answer.is_some()
    }

    /// Begins a change, commits everything, and returns its answer.
    fn done<T, E>(&mut self, change: impl Future<Output = Result<T, E>> + 'static) -> Result<T, E> {
        let mut asked = self.begin(change);
        while !self.poll(&mut asked) {
            assert!(self.worker.waiting() > 0, "it waits for nothing");
            self.commit(usize::MAX);
        }
        asked.answer.expect("it is answered")
    }
}

struct Asked<T, E> {
    future: Pin<Box<dyn Future<Output = Result<T, E>>>>,
    answer: Option<Result<T, E>>,
}

/// Why the changes of these tests are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum No {
    #[error("taken")]
    Taken,
    #[error("too many")]
    TooMany,
    #[error("gone")]
    Gone,
}

type Answer<T> = Result<T, ChangeError<No>>;

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn map(no: ChannelNo, slug: &str) -> Channel {
    named(no, slug, slug)
}

fn named(no: ChannelNo, slug: &str, name: &str) -> Channel {
    Channel {
        no: no.0,
        kind: ChannelKind::Map,
        id: uuid(no.0).into(),
        slug: slug.into(),
        name: name.into(),
        inserted_ms: 0,
        updated_ms: 0,
        event_names: None,
        webhooks_enabled: true,
    }
}

fn token(id: &str, no: ChannelNo) -> TokenRecord {
    TokenRecord {
        id: id.into(),
        hash: TokenHash::of(id),
        channel: no.0,
        channels: None,
        created_by: None,
        scopes: Scope::ALL.to_vec(),
        name: None,
        expires_ms: None,
        inserted_ms: 0,
    }
}

/// Makes a map with its first token, if the slug is free and there are fewer than `most`.
async fn create(catalog: Arc<Catalog>, slug: &'static str, most: usize) -> Answer<ChannelNo> {
    create_named(catalog, slug, slug.into(), most).await
}

/// The same for a map that is called something else.
async fn create_named(catalog: Arc<Catalog>, slug: &'static str, name: String, most: usize) -> Answer<ChannelNo> {
    let change = |view: &View<'_>| {
        if view.count_channels() >= most {
            return Err(No::TooMany);
        }
        if view.find(ChannelKind::Map, slug).is_some() {
            return Err(No::Taken);
        }
        let (no, taken) = view.take_channel_no().expect("a number");
        let made = record::put_channel(&named(no, slug, &name)).expect("a document");
        let token = record::put_token(&token(&format!("tok_{}", no.0), no)).expect("a document");
        Ok((vec![taken, made, token], no))
    };
    catalog.change(Urgency::Normal, change).await
}

/// Gives a map another slug, if that is free. One that has it already is answered without a change.
async fn rename(catalog: Arc<Catalog>, no: ChannelNo, slug: &'static str) -> Answer<()> {
    let change = |view: &View<'_>| {
        let mut channel = Channel::clone(view.channel(no).ok_or(No::Gone)?);
        if &*channel.slug == slug {
            return Ok((Vec::new(), ()));
        }
        if view.find(ChannelKind::Map, slug).is_some() {
            return Err(No::Taken);
        }
        channel.slug = slug.into();
        Ok((vec![record::put_channel(&channel).expect("a document")], ()))
    };
    catalog.change(Urgency::Normal, change).await
}

async fn delete(catalog: Arc<Catalog>, no: ChannelNo) -> Answer<()> {
    let change = |view: &View<'_>| {
        view.channel(no).ok_or(No::Gone)?;
        Ok((view.delete_channel(no), ()))
    };
    catalog.change(Urgency::Reserve, change).await
}

/// Revokes a token. False: there is none.
async fn revoke(catalog: Arc<Catalog>, id: TokenId) -> Answer<bool> {
    let change = |view: &View<'_>| match view.token(&id) {
        Some(token) => Ok((vec![record::delete_token(&token.id)], true)),
        None => Ok((Vec::new(), false)),
    };
    catalog.change(Urgency::Reserve, change).await
}

/// Makes a webhook of a map.
async fn create_webhook(catalog: Arc<Catalog>, no: ChannelNo, id: WebhookId) -> Answer<()> {
    let change = |view: &View<'_>| {
        let channel = view.channel(no).ok_or(No::Gone)?;
        let webhook = Webhook::new(id.clone(), channel, webhook::ApiFamily::Maps, &RetryPolicy::map_default(), 0);
        let endpoint = Change::put(Table::Endpoints, &id, &EndpointState::new(EventId::ZERO, 0));
        Ok((vec![record::put_webhook(&webhook).expect("a document"), endpoint.expect("a document")], ()))
    };
    catalog.change(Urgency::Normal, change).await
}

/// What is applied of maps: (number, slug), and of tokens: (id, map).
type Listed = (Vec<(u32, String)>, Vec<(String, u32)>);

fn shown(tables: &Tables) -> Listed {
    let maps = tables.channels(ChannelKind::Map);
    let tokens = tables.tokens(None);
    (
        maps.iter().map(|map| (map.no, map.slug.to_string())).collect(),
        tokens.iter().map(|token| (token.id.to_string(), token.channel)).collect(),
    )
}

impl Stage {
    /// What the catalog says of maps and tokens; (what is applied, what a change would see).
    fn both(&self) -> [Listed; 2] {
        let seen = RefCell::default();
        let catalog = self.catalog.clone();
        let look = async move {
            let look = |view: &View<'_>| {
                seen.replace(shown(view));
                Err::<(Vec<Change>, ()), No>(No::Gone)
            };
            let _refused = catalog.change(Urgency::Normal, look).await;
            Ok::<_, No>(seen.into_inner())
        };
        let ahead = self.begin(look).answer.expect("nothing is under way").expect("it was shown");
        [self.catalog.read(shown), ahead]
    }
}
