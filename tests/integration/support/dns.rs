//! A name server (RFC 1035) that answers as the test says. It knows A, AAAA and CNAME, and no name twice.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a name has: an alias first, if there is one, and addresses.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub alias: Option<&'static str>,
    pub addresses: Vec<IpAddr>,
}

type Decide = Box<dyn FnMut(&str) -> Option<Answer> + Send>;

pub struct NameServer {
    stopping: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// How often it looks whether it is to end.
const TURN: Duration = Duration::from_millis(100);

impl NameServer {
    /// Serves on this address. `decide` is asked for each question of each lookup; none: there is no such name.
    pub fn start(addr: SocketAddr, decide: impl FnMut(&str) -> Option<Answer> + Send + 'static) -> NameServer {
        let socket = UdpSocket::bind(addr).expect("the address is free");
        socket.set_read_timeout(Some(TURN)).expect("a time limit");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let decide: Mutex<Decide> = Mutex::new(Box::new(decide));
        let serving = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Acquire) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let mut decide = decide.lock().expect("nobody panics with it");
                if let Some(reply) = reply(&buffer[..length], &mut **decide) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        NameServer { stopping, serving: Some(serving) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.serving.take().expect("it runs").join();
    }
}

/// The reply to a query with one question; none to anything else.
fn reply(query: &[u8], decide: &mut dyn FnMut(&str) -> Option<Answer>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(12..at + 4)?;
    let answer = decide(&name);
    let mut records: Vec<(String, u16, Vec<u8>)> = Vec::new();
    if let Some(Answer { alias, addresses }) = &answer {
        let owner = alias.map_or(name.clone(), str::to_owned);
        records.extend(alias.map(|alias| (name.clone(), CNAME, encoded(alias))));
        records.extend(addresses.iter().filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), A) => Some((owner.clone(), A, v4.octets().to_vec())),
            (IpAddr::V6(v6), AAAA) => Some((owner.clone(), AAAA, v6.octets().to_vec())),
            _ => None,
        }));
    }
    let code = if answer.is_some() { 0 } else { 3 };
    let mut out = query.get(..2)?.to_vec();
    // an answer, recursion was wanted and is available
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for (owner, kind, data) in records {
        out.extend(encoded(&owner));
        out.extend(kind.to_be_bytes());
        // class IN, to be forgotten at once
        out.extend([0, 1, 0, 0, 0, 0]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    Some(out)
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}
