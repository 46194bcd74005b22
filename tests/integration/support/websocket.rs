//! A WebSocket client: tungstenite over a socket of ours.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::{Map, SOON, socket};

pub struct Ws {
    socket: WebSocket<TcpStream>,
    pub connected: Value,
}

/// What comes in: a text, or the end.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    /// Code and reason of the close frame.
    Closed(u16, String),
}

impl Ws {
    /// Opens the map's stream and reads the frame `connected`.
    #[track_caller]
    pub fn open(map: &Map, query: &str) -> Ws {
        Ws::at(map.addr, &format!("/api/maps/{}/events/ws?{query}", map.id), Some(&map.token))
    }

    /// Opens any address and reads the frame `connected`.
    #[track_caller]
    pub fn at(addr: SocketAddr, target: &str, token: Option<&str>) -> Ws {
        Ws::try_at(addr, target, token).expect("the handshake")
    }

    /// The same, where the server may not be there.
    #[track_caller]
    pub fn try_at(addr: SocketAddr, target: &str, token: Option<&str>) -> io::Result<Ws> {
        let mut request = format!("ws://{addr}{target}").into_client_request().expect("a request");
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("Authorization", bearer);
        }
        let stream = socket::connect(addr)?;
        stream.set_read_timeout(Some(SOON))?;
        let (socket, _) = tungstenite::client(request, stream).map_err(io::Error::other)?;
        let mut ws = Ws { socket, connected: Value::Null };
        ws.connected = ws.json();
        assert_eq!(ws.connected["event"], "connected", "{}", ws.connected);
        Ok(ws)
    }

    /// The next event; none at the end, however that comes.
    pub fn next_or_end(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if text.starts_with("{\"event\":\"ping\"") => {}
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        match self.socket.read().expect("a frame") {
            Message::Text(text) => Heard::Text(text.to_string()),
            Message::Ping(_) => Heard::Ping,
            Message::Pong(data) => Heard::Pong(data.to_vec()),
            Message::Close(frame) => {
                let frame = frame.expect("a close frame has a code");
                Heard::Closed(frame.code.into(), frame.reason.to_string())
            }
            other => panic!("{other:?} is not sent by this server"),
        }
    }

    /// The next message of text that is no ping of the application.
    #[track_caller]
    pub fn text(&mut self) -> String {
        loop {
            match self.hear() {
                Heard::Text(text) if text.starts_with("{\"event\":\"ping\"") => {}
                Heard::Text(text) => return text,
                Heard::Ping | Heard::Pong(_) => {}
                Heard::Closed(code, reason) => panic!("closed: {code} {reason}"),
            }
        }
    }

    #[track_caller]
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }

    /// Reads to the end: code and reason.
    #[track_caller]
    pub fn end(&mut self) -> (u16, String) {
        loop {
            if let Heard::Closed(code, reason) = self.hear() {
                return (code, reason);
            }
        }
    }

    pub fn send(&mut self, message: Message) {
        self.socket.send(message).expect("the message is sent");
    }

    pub fn patience(&self, limit: Duration) {
        self.socket.get_ref().set_read_timeout(Some(limit)).expect("a timeout can be set");
    }
}
