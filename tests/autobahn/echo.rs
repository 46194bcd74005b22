//! A WebSocket server for Autobahn's fuzzing client: it answers every message with itself, on the code of the sessions. Ends
//! when its standard input does, so that it never outlives whoever started it.

use std::io::Read;
use std::time::Duration;

use actix::Actor;
use actix::StreamHandler;
use actix_http::ws::Item;
use actix_web::web::{self, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use actix_web_actors::ws::{self, Message, ProtocolError, WebsocketContext};
use actors::streams::inspector::{ClientLimits, Verdict};
use actors::streams::websocket;

/// The suite sends messages of up to 256 KiB in its sections about framing.
const LIMITS: ClientLimits = ClientLimits { frame_bytes: 1 << 20, message_bytes: 1 << 20 };

struct Echo {
    verdict: Verdict,
    /// The fragments of a message that has not ended, and whether they are text.
    message: Vec<u8>,
    is_text: bool,
}

impl Actor for Echo {
    type Context = WebsocketContext<Self>;
}

impl Echo {
    fn fragment(&mut self, item: Item, ctx: &mut WebsocketContext<Self>) {
        let (bytes, is_last) = match item {
            Item::FirstText(bytes) => {
                self.is_text = true;
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.is_text = false;
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        self.message.extend_from_slice(&bytes);
        if is_last {
            let message = std::mem::take(&mut self.message);
            match self.is_text {
                true => ctx.text(String::from_utf8(message).expect("text was inspected before it came here")),
                false => ctx.binary(message),
            }
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Echo {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        match websocket::data_of(item, ctx) {
            Some(Message::Continuation(item)) => self.fragment(item, ctx),
            Some(data) => ctx.write_raw(data),
            None => {}
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        websocket::close_socket(&self.verdict, ctx);
    }
}

async fn echo(request: HttpRequest, payload: Payload) -> actix_web::Result<HttpResponse> {
    let mut response = ws::handshake(&request)?;
    let make = |verdict| Echo { verdict, message: Vec::new(), is_text: false };
    Ok(response.streaming(websocket::context(payload, LIMITS, make)))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::get().to(echo)))
        .workers(1)
        // the suite waits for the server to close the connection, case by case
        .client_disconnect_timeout(Duration::ZERO)
        .bind("127.0.0.1:0")?;
    println!("listening on ws://{}", server.addrs()[0]);
    let server = server.shutdown_timeout(1).run();
    let handle = server.handle();
    std::thread::spawn(move || {
        // the pipe that it was started with ends when its reader is to end
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // completes when the server has been told
        drop(handle.stop(true));
    });
    server.await
}
