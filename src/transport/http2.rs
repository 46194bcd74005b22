//! One HTTP/2 connection (RFC 9113): its requests become tasks that end when the client resets their stream, goes away, or takes
//! nothing of the answer for too long.
//!
//! Bounded: streams at once, header lists, what a stream may send ahead, what waits to be sent, and what its requests hold of
//! the memory for clients without a credential.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use actix_http::{HttpMessage, Method, Payload, Request, Response, ResponseHead, StatusCode};
use actix_service::Service;
use actix_web::rt;
use actix_web::rt::time::{Sleep, sleep_until, timeout};
use actix_web::web::Bytes;
use actors::metrics::{Metrics, Shed};
use actors::streams::Socket;
use futures_util::Stream;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};

use super::memory::Share;
use super::order::HeaderOrder;
use super::stream::ClientStream;
use super::{Bounds, Broken, HEAD_BYTES, LAST_WORDS};

/// What a client may send ahead of us on one stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits of one stream until the connection takes it.
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// Most that is handed to the connection at once.
const PIECE_BYTES: usize = 16 * 1024;
/// What a request costs beside its headers while it is answered: its task, its stream and what the handler holds, as measured.
const REQUEST_BYTES: usize = 6 * 1024;
/// What a header costs beside its name and value.
const HEADER_BYTES: usize = 32;
/// Time for a pong.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than its session a stalled stream is reset here: the session counts it and says why, if it can.
const AFTER_SESSION: Duration = Duration::from_secs(2);

/// What the requests of one connection share.
struct Client<S> {
    app: Rc<S>,
    peer: Option<SocketAddr>,
    stall_timeout: Duration,
    share: RefCell<Share>,
    metrics: Arc<Metrics>,
    /// Requests that are being answered.
    open: Cell<usize>,
    /// When the last of them ended.
    idle_since: Cell<Instant>,
}

/// A request that is being answered, and the memory that it holds.
struct Open<S> {
    client: Rc<Client<S>>,
    bytes: Cell<usize>,
}

impl<S> Open<S> {
    /// None: there is no memory left.
    fn new(client: &Rc<Client<S>>, bytes: usize) -> Option<Open<S>> {
        client.share.borrow_mut().take(bytes).then(|| {
            client.open.set(client.open.get() + 1);
            Open { client: client.clone(), bytes: Cell::new(bytes) }
        })
    }

    /// Its client has shown a credential: gives the memory back.
    fn is_known(&self) {
        self.client.share.borrow_mut().give_back(self.bytes.take());
    }
}

impl<S> Drop for Open<S> {
    fn drop(&mut self) {
        self.is_known();
        self.client.open.set(self.client.open.get() - 1);
        self.client.idle_since.set(Instant::now());
    }
}

/// Serves a connection until the client or `stopping` ends it.
///
/// # Errors
/// The client does not speak HTTP/2 as it should, does not come to the point in time, or went away.
pub async fn serve<S, B>(
    stream: ClientStream,
    peer: Option<SocketAddr>,
    app: Rc<S>,
    bounds: Bounds,
    stopping: impl Future<Output = ()>,
) -> Result<(), Broken>
where
    S: Service<Request, Response = Response<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(bounds.h2_streams)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .handshake::<_, Bytes>(stream);
    let mut connection = match timeout(bounds.request_timeout, handshake).await {
        Ok(connection) => connection?,
        Err(_) => {
            bounds.metrics.shed(Shed::Handshake);
            return Err(Broken::Preface);
        }
    };
    let client = Rc::new(Client {
        app,
        peer,
        stall_timeout: bounds.stall_timeout,
        share: RefCell::new(Share::new(&bounds.memory)),
        metrics: bounds.metrics.clone(),
        open: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
    });
    let mut keep_alive = KeepAlive::new(&mut connection, &bounds);
    let mut stopping = pin!(stopping);
    let mut stops = false;
    poll_fn(|cx| {
        if !stops && stopping.as_mut().poll(cx).is_ready() {
            stops = true;
            connection.graceful_shutdown();
        }
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    keep_alive.is_first = false;
                    begin(&client, request, respond);
                }
                Poll::Ready(Some(Err(e))) => {
                    // ours: what the client does costs more than it may
                    if e.is_library() && e.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        client.metrics.shed(Shed::Http2Connection);
                    }
                    return Poll::Ready(Err(e.into()));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        keep_alive.poll(cx, &client, &mut connection)
    })
    .await
}

/// How long a connection may live on without requests, and whether the client is still there.
struct KeepAlive {
    keep_alive: Duration,
    /// For the first request.
    request_timeout: Duration,
    is_first: bool,
    began: Instant,
    pings: Option<PingPong>,
    /// When a ping was sent that has no answer yet.
    asked: Option<Instant>,
    /// When the client was heard of last.
    heard: Instant,
    timer: Pin<Box<Sleep>>,
    /// We said that we take no more requests.
    ending: Option<Instant>,
}

impl KeepAlive {
    fn new(connection: &mut Connection<ClientStream, Bytes>, bounds: &Bounds) -> KeepAlive {
        let now = Instant::now();
        KeepAlive {
            keep_alive: bounds.keep_alive,
            request_timeout: bounds.request_timeout,
            is_first: true,
            began: now,
            pings: connection.ping_pong(),
            asked: None,
            heard: now,
            timer: Box::pin(sleep_until((now + bounds.request_timeout).into())),
            ending: None,
        }
    }

    /// Ready when the connection is over.
    fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client<S>,
        connection: &mut Connection<ClientStream, Bytes>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let now = Instant::now();
            if let (Some(_), Some(pings)) = (self.asked, &mut self.pings)
                && let Poll::Ready(answer) = pings.poll_pong(cx)
            {
                answer?;
                (self.asked, self.heard) = (None, now);
            }
            let idle_from = match (self.is_first, client.open.get()) {
                (true, _) => Some(self.began + self.request_timeout),
                (false, 0) => Some(client.idle_since.get() + self.keep_alive),
                (false, _) => None,
            };
            let ends = match (self.ending, idle_from) {
                (Some(since), _) => Some(since + PONG_TIMEOUT),
                (None, Some(at)) if at <= now => {
                    // whoever is about to send a request learns that it has to go elsewhere
                    connection.graceful_shutdown();
                    self.ending = Some(now);
                    // the frame that says so is sent when the connection is polled
                    cx.waker().wake_by_ref();
                    Some(now + PONG_TIMEOUT)
                }
                (None, at) => at,
            };
            let ping_due = match self.asked {
                Some(since) => since + PONG_TIMEOUT,
                None => self.heard + self.keep_alive,
            };
            if self.ending.is_some() && ends.is_some_and(|at| at <= now) && client.open.get() == 0 {
                return Poll::Ready(Ok(()));
            }
            if ping_due <= now {
                if self.asked.is_some() {
                    // whoever does not answer a ping is gone
                    return Poll::Ready(Ok(()));
                }
                if let Some(pings) = &mut self.pings {
                    pings.send_ping(Ping::opaque())?;
                    self.asked = Some(now);
                    continue;
                }
                self.heard = now;
            }
            let next = ends.filter(|at| *at > now).map_or(ping_due, |at| at.min(ping_due));
            self.timer.as_mut().reset(next.into());
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Begins to answer a request, in a task of its own.
fn begin<S, B>(client: &Rc<Client<S>>, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>)
where
    S: Service<Request, Response = Response<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES);
    let Some(open) = Open::new(client, REQUEST_BYTES + headers.sum::<usize>()) else {
        client.metrics.shed(Shed::Http2Request);
        // nothing was done: the client may send it again (RFC 9113, 8.7)
        return respond.send_reset(Reason::REFUSED_STREAM);
    };
    let is_head = request.method() == Method::HEAD;
    let (parts, body) = request.into_parts();
    let order = HeaderOrder::of_fields(parts.uri.path(), parts.headers.iter().map(|(name, _)| name));
    let body = (!body.is_end_stream()).then(|| Rc::new(RefCell::new(body)));
    let mut request = Request::new();
    if let Some(body) = body.clone() {
        *request.payload() = Payload::Stream { payload: Box::pin(Incoming(body)) };
    }
    let head = request.head_mut();
    head.uri = parts.uri;
    head.method = parts.method;
    head.version = parts.version;
    head.headers = parts.headers.into();
    head.peer_addr = client.peer;
    let socket = Socket::of_stream();
    request.extensions_mut().insert(socket.clone());
    if let Some(order) = order {
        request.extensions_mut().insert(Rc::new(order));
    }
    let answer = client.app.call(request);
    rt::spawn(async move {
        match (answer_one(answer, respond, is_head, socket, &open).await, body) {
            (Err(e), _) => log::debug!("an answer over HTTP/2 ended early: {e}"),
            (Ok(()), Some(body)) => linger(&body).await,
            (Ok(()), None) => {}
        }
    });
}

/// The body of a request under way. It is shared with the task that answers, see [`linger`].
struct Incoming(Rc<RefCell<RecvStream>>);

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_body(&self.0, cx).map(|piece| piece.map(|piece| piece.map_err(PayloadError::Http2Payload)))
    }
}

/// The next piece of a body; the client may send as much again.
fn poll_body(body: &RefCell<RecvStream>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let mut body = body.borrow_mut();
    let Some(piece) = ready!(body.poll_data(cx)) else { return Poll::Ready(None) };
    let piece = piece.and_then(|piece| body.flow_control().release_capacity(piece.len()).map(|()| piece));
    Poll::Ready(Some(piece))
}

/// Listens on for a moment to a client that was answered while it still sends. A stream that is reset at once (RFC 9113, 8.1)
/// takes the answer with it, for clients that look at what they read only when they have sent everything; curl 7.88 is one.
async fn linger(body: &RefCell<RecvStream>) {
    let to_its_end = poll_fn(|cx| {
        loop {
            match ready!(poll_body(body, cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    });
    if timeout(LAST_WORDS, to_its_end).await.is_err() {
        log::debug!("a client over HTTP/2 went on with a body that nobody wants");
    }
}

/// Why an answer was not sent whole.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the client does not want it any more")]
    Reset,
    #[error("the client took nothing of it for too long")]
    Stalled,
    #[error("{0}")]
    Body(Box<dyn std::error::Error>),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

async fn answer_one<S, B>(
    answer: impl Future<Output = Result<Response<B>, actix_web::Error>>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    socket: Socket,
    open: &Open<S>,
) -> Result<(), Cut>
where
    B: MessageBody + 'static,
{
    let response = {
        let mut answer = pin!(answer);
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            // the handler ends with the request, as it does over HTTP/1 when the client goes away
            Poll::Pending => respond.poll_reset(cx).map(|_| Err(Cut::Reset)),
        })
        .await?
    };
    match response {
        Ok(response) => send(response, respond, is_head, socket, open).await,
        Err(e) => send::<_, BoxBody>(e.error_response().into(), respond, is_head, socket, open).await,
    }
}

async fn send<S, B: MessageBody>(
    response: Response<B>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    socket: Socket,
    open: &Open<S>,
) -> Result<(), Cut> {
    let (response, body) = response.into_parts();
    let mut size = body.size();
    let head = prepare(response.head(), &mut size);
    drop(response);
    if is_head || size.is_eof() {
        respond.send_response(head, true)?;
        return Ok(());
    }
    if size == BodySize::Stream {
        // only those who may have them get streams and exports
        open.is_known();
    }
    let mut answer = Answer {
        stream: respond.send_response(head, false)?,
        stall_timeout: open.client.stall_timeout + AFTER_SESSION,
        metrics: &open.client.metrics,
        patience: None,
        socket,
    };
    let mut body = pin!(body);
    loop {
        let piece = poll_fn(|cx| match body.as_mut().poll_next(cx) {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => answer.stream.poll_reset(cx).map(|_| Err(Cut::Reset)),
        });
        match piece.await? {
            Some(Ok(piece)) => answer.send(piece).await?,
            Some(Err(e)) => {
                answer.stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(Cut::Body(e.into()));
            }
            None => break,
        }
    }
    Ok(answer.stream.send_data(Bytes::new(), true)?)
}

/// The body of an answer under way.
struct Answer<'a> {
    stream: SendStream<Bytes>,
    stall_timeout: Duration,
    metrics: &'a Metrics,
    /// Made when the client is to be waited for.
    patience: Option<Pin<Box<Sleep>>>,
    socket: Socket,
}

impl Answer<'_> {
    /// Sends the piece as the client makes room for it.
    async fn send(&mut self, mut piece: Bytes) -> Result<(), Cut> {
        while !piece.is_empty() {
            self.stream.reserve_capacity(piece.len().min(PIECE_BYTES));
            let room = self.room().await?;
            let now = piece.split_to(piece.len().min(room));
            self.stream.send_data(now, false)?;
            self.socket.took();
        }
        Ok(())
    }

    /// How many bytes the client takes now, at least one.
    async fn room(&mut self) -> Result<usize, Cut> {
        let deadline = Cell::new(None);
        poll_fn(|cx| {
            loop {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(e.into())),
                    Poll::Ready(None) => return Poll::Ready(Err(Cut::Reset)),
                    Poll::Pending => break,
                }
            }
            let until = deadline.get().unwrap_or_else(|| Instant::now() + self.stall_timeout);
            deadline.set(Some(until));
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            if patience.deadline() != until.into() {
                patience.as_mut().reset(until.into());
            }
            if patience.as_mut().poll(cx).is_ready() {
                self.stream.send_reset(Reason::CANCEL);
                self.metrics.shed(Shed::Answer);
                return Poll::Ready(Err(Cut::Stalled));
            }
            // a reset of a stream without room is not told by its capacity
            self.stream.poll_reset(cx).map(|_| Err(Cut::Reset))
        })
        .await
    }
}

/// The head as HTTP/2 has it (RFC 9113, 8.2.2 and 8.3.2).
fn prepare(head: &ResponseHead, size: &mut BodySize) -> http::Response<()> {
    const HOP_BY_HOP: [HeaderName; 5] = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let mut made = http::Response::new(());
    *made.status_mut() = head.status;
    if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
        *size = BodySize::None;
    }
    let headers = made.headers_mut();
    for (name, value) in head.headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name)) {
        headers.append(name, value.clone());
    }
    match *size {
        BodySize::Sized(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
        BodySize::None => {}
        BodySize::Stream => drop(headers.remove(CONTENT_LENGTH)),
    }
    if !headers.contains_key(DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        // a date is visible ASCII
        headers.extend(HeaderValue::try_from(now).ok().map(|now| (DATE, now)));
    }
    made
}
