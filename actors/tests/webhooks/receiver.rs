//! A receiver of webhooks that answers as it is told and remembers what it got.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One POST as it came in.
#[derive(Clone, Debug)]
pub struct Got {
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The number that the test put into the payload.
    pub fn n(&self) -> i64 {
        self.json()["payload"]["n"].as_i64().expect("the payload has its number")
    }
}

#[derive(Default)]
struct State {
    got: Vec<Got>,
    /// Statuses of the next answers; 200 when there are none.
    next: VecDeque<u16>,
    always: Option<u16>,
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let receiver = Receiver { url, state: Arc::default() };
        let me = receiver.clone();
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                actix_rt::spawn(me.clone().serve(stream));
            }
        });
        receiver
    }

    /// What the next requests are answered with.
    pub fn answer(&self, statuses: &[u16]) {
        self.state.lock().expect("no test panicked").next.extend(statuses);
    }

    /// What every request is answered with from now on.
    pub fn answer_always(&self, status: Option<u16>) {
        self.state.lock().expect("no test panicked").always = status;
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.lock().expect("no test panicked").got.clone()
    }

    fn take(&self, got: Got) -> u16 {
        let mut state = self.state.lock().expect("no test panicked");
        state.got.push(got);
        state.next.pop_front().or(state.always).unwrap_or(200)
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(got) = read(&mut stream, &mut buffer).await {
            let status = self.take(got);
            let answer = format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Got> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut got = Got { headers, body: String::new() };
    let length: usize = got.header("content-length").parse().ok()?;
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    got.body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).expect("UTF-8");
    buffer.drain(..end + 4 + length);
    Some(got)
}
