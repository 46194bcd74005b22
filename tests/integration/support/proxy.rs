//! A network that fails: it lies between a client and the server and does to each connection what the test says.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What happens to one connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This connection passes.
    None,
    /// Of the body of the answer, nothing is passed on until the server ends it, as a proxy that buffers does.
    AnswerHeld,
    /// The request reaches the server, and the connection ends before a byte of the answer.
    AnswerLost,
    /// The connection ends after so many bytes of the answer.
    AnswerCut(usize),
    /// The request never reaches the server; the answer is this head, without the length, and this body.
    Answered(&'static str, &'static str),
}

struct State {
    server: SocketAddr,
    faults: Mutex<VecDeque<Fault>>,
    stopping: AtomicBool,
}

pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// The first connections meet these faults, later ones pass.
    pub fn start(server: SocketAddr, faults: &[Fault]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let faults = Mutex::new(faults.iter().copied().collect());
        let state = Arc::new(State { server, faults, stopping: AtomicBool::new(false) });
        let shared = state.clone();
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stopping.load(Ordering::Acquire) {
                    return;
                }
                let shared = shared.clone();
                // a side that goes away ends the connection, which is all there is to it
                std::thread::spawn(move || connect(&shared, client).ok());
            }
        });
        Proxy { addr, state, accepting: Some(accepting) }
    }

    /// How many faults nobody met yet.
    pub fn left(&self) -> usize {
        self.state.faults.lock().expect("the faults").len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        // wakes the thread, which then ends
        if TcpStream::connect(self.addr).is_ok() {
            let _ = self.accepting.take().expect("it runs").join();
        }
    }
}

fn connect(state: &State, mut client: TcpStream) -> std::io::Result<()> {
    let fault = state.faults.lock().expect("the faults").pop_front();
    if let Some(Fault::Answered(head, body)) = fault {
        let mut request = [0; 64 * 1024];
        let _read = client.read(&mut request)?;
        client.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        return client.shutdown(Shutdown::Both);
    }
    let mut server = TcpStream::connect(state.server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    match fault {
        Some(Fault::AnswerLost) => {
            let _read = server.read(&mut [0; 1])?;
        }
        Some(Fault::AnswerCut(bytes)) => {
            std::io::copy(&mut (&mut server).take(bytes as u64), &mut client)?;
        }
        Some(Fault::AnswerHeld) => {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && server.read(&mut byte)? > 0 {
                head.push(byte[0]);
            }
            client.write_all(&head)?;
            let mut body = Vec::new();
            server.read_to_end(&mut body)?;
            client.write_all(&body)?;
        }
        _ => {
            std::io::copy(&mut server, &mut client)?;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    server.shutdown(Shutdown::Both)
}
