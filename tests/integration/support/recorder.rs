//! A wire tap: it lies between a client and the server, passes everything on and notes each request line.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub struct Recorder {
    pub addr: SocketAddr,
    lines: Arc<Mutex<Vec<(String, String)>>>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Recorder {
    pub fn start(server: SocketAddr) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (lines, stopping) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (shared, stop) = (lines.clone(), stopping.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let lines = shared.clone();
                // a side that goes away ends the connection, which is all there is to it
                std::thread::spawn(move || connect(client, server, &lines).ok());
            }
        });
        Recorder { addr, lines, stopping, accepting: Some(accepting) }
    }

    /// Method and path, without the query, of each request since the last call.
    pub fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.lines.lock().expect("the lines"))
    }
}

fn connect(client: TcpStream, server: SocketAddr, lines: &Mutex<Vec<(String, String)>>) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        // the end of either side is told to the other
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let (mut from_client, mut to_server) = (client, server);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = from_client.read(&mut chunk)?;
        if read == 0 {
            return to_server.shutdown(Shutdown::Write);
        }
        // a client that waits for each answer begins each request with a write of its own
        if let Some(line) = request_line(&chunk[..read]) {
            lines.lock().expect("the lines").push(line);
        }
        to_server.write_all(&chunk[..read])?;
    }
}

fn request_line(chunk: &[u8]) -> Option<(String, String)> {
    let end = chunk.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&chunk[..end]).ok()?.strip_suffix(" HTTP/1.1")?;
    let (method, target) = line.split_once(' ')?;
    let path = target.split('?').next()?;
    Some((method.to_owned(), path.to_owned()))
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // wakes the thread that accepts
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
