//! TLS and HTTP/2 for the tests: certificates, a client of HTTP/2, and a gateway by which tests that speak HTTP/1.1 reach a
//! server over https, in either version of HTTP (`STENTOR_TEST_OVER=https` or `h2`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::socket;

/// A certificate for 127.0.0.1 and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Makes a new pair in the folder. Files of the same name are replaced, the certificate first.
    pub fn new(folder: &Path, name: &str) -> Pair {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()]).expect("a pair");
        let pair = Pair { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&pair.cert, made.cert.pem()).expect("it can be written");
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("it can be written");
        pair
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).expect("a certificate")
    }

    pub fn settings(&self) -> [(&'static str, String); 2] {
        [("server.tls.cert", text(&self.cert)), ("server.tls.key", text(&self.key))]
    }

    /// A client that trusts this certificate, and shows `own`.
    pub fn client(&self, protocols: &[&str], own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).expect("a certificate");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
                builder.with_client_auth_cert(vec![own.certificate()], key).expect("they belong together")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").into()
}

/// Runs a test that waits for many things at once.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

pub async fn connect(addr: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(addr).await?, config).await
}

async fn handshake(tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let name = ServerName::from(tcp.peer_addr()?.ip());
    TlsConnector::from(config).connect(name, tcp).await
}

/// A connection of HTTP/2.
pub struct Http2 {
    pub requests: SendRequest<Bytes>,
    addr: SocketAddr,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub async fn open(addr: SocketAddr, pair: &Pair) -> Http2 {
        let tls = connect(addr, pair.client(&["h2"], None)).await.expect("the server speaks TLS");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) = h2::client::Builder::new()
            // one stream that is not read does not take the room of the others
            .initial_connection_window_size(16 << 20)
            .handshake(tls)
            .await
            .expect("the server speaks HTTP/2");
        Http2 { requests, addr, connection: tokio::spawn(connection) }
    }

    /// The answer's head, and its body to be read.
    pub async fn get(
        &mut self,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<RecvStream>, h2::Error> {
        let (answer, _) = self.send("GET", target, headers, true).await?;
        answer.await
    }

    /// A request whose body is sent by the caller.
    pub async fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.send(method, target, headers, false).await
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("https://{}{target}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let mut ready = self.requests.clone().ready().await?;
        ready.send_request(request, ends)
    }

    /// Ends the connection without a word.
    pub fn cut(self) {
        self.connection.abort();
    }
}

/// The whole body.
pub async fn whole(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// How the tests of this run reach their servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Https,
    Http2,
}

impl Over {
    /// None: directly, by plain http.
    pub fn of_run() -> Option<Over> {
        match std::env::var("STENTOR_TEST_OVER").as_deref() {
            Ok("https") => Some(Over::Https),
            Ok("h2") => Some(Over::Http2),
            Ok(other) => panic!("STENTOR_TEST_OVER is https or h2, not {other}"),
            Err(_) => None,
        }
    }
}

/// Takes plain HTTP/1.1 and passes it on over TLS.
pub struct Gateway {
    pub addr: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Gateway {
    pub fn start(target: SocketAddr, pair: &Pair, over: Over) -> Gateway {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("it can wait");
        let addr = listener.local_addr().expect("an address");
        let target = Arc::new(Mutex::new(target));
        let (to, http1, http2) = (target.clone(), pair.client(&["http/1.1"], None), pair.client(&["h2"], None));
        std::thread::spawn(move || {
            run(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                // ends with the process of the tests
                while let Ok((plain, _)) = listener.accept().await {
                    let (to, http1, http2) = (*to.lock().expect("an address"), http1.clone(), http2.clone());
                    tokio::spawn(async move {
                        // an error on either side ends the other, as it would without the gateway
                        let _ = match over {
                            Over::Https => tunnel(plain, Vec::new(), to, http1).await,
                            Over::Http2 => translate(plain, to, http1, http2).await,
                        };
                    });
                }
            });
        });
        Gateway { addr, target }
    }

    /// The server was started again.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().expect("an address") = target;
    }
}

/// A connection of the gateway, which holds no more than its clients do.
async fn lead(to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    // on loopback it is there at once
    let tcp = socket::connect(to)?;
    tcp.set_nonblocking(true)?;
    handshake(TcpStream::from_std(tcp)?, config).await
}

/// Passes on bytes.
async fn tunnel(mut plain: TcpStream, begun: Vec<u8>, to: SocketAddr, config: Arc<ClientConfig>) -> io::Result<()> {
    plain.set_nodelay(true)?;
    socket::send_little_ahead(&plain)?;
    let mut tls = lead(to, config).await?;
    tls.write_all(&begun).await?;
    copy_bidirectional(&mut plain, &mut tls).await.map(drop)
}

/// Headers that belong to a connection of HTTP/1.1.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"];

/// Passes on one request as one of HTTP/2; a WebSocket as it is, because only HTTP/1.1 has them.
async fn translate(
    plain: TcpStream,
    to: SocketAddr,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
) -> io::Result<()> {
    plain.set_nodelay(true)?;
    socket::send_little_ahead(&plain)?;
    let (reader, mut writer) = plain.into_split();
    let mut reader = BufReader::new(reader);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).await? == 0 {
            return Ok(());
        }
    }
    let lines = String::from_utf8_lossy(&head).into_owned();
    let header = |wanted: &str| {
        let mut all = lines.lines().skip(1).filter_map(|line| line.split_once(':'));
        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_string())
    };
    let mut words = lines.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request =
        http::Request::builder().method(method).uri(format!("https://{}{target}", header("host").unwrap_or_default()));
    for (name, value) in lines.lines().skip(1).filter_map(|line| line.split_once(':')) {
        let name = name.to_ascii_lowercase();
        if name != "host" && !HOP_BY_HOP.contains(&&*name) {
            request =
                request.header(name, http::HeaderValue::from_bytes(value.trim().as_bytes()).map_err(io::Error::other)?);
        }
    }
    let request = request.body(());
    let (Ok(request), false) = (request, header("upgrade").is_some()) else {
        head.extend_from_slice(reader.buffer());
        let plain = reader.into_inner().reunite(writer).map_err(io::Error::other)?;
        return tunnel(plain, head, to, http1).await;
    };
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let is_head = method == "HEAD";
    let tls = lead(to, http2).await?;
    let (requests, connection) = h2::client::handshake(tls).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut requests = requests.ready().await.map_err(io::Error::other)?;
    let (answer, body) = requests.send_request(request, !chunked && length == 0).map_err(io::Error::other)?;
    tokio::select! {
        gone = pass_body(reader, body, chunked, length) => gone,
        done = async {
            let answer = answer.await.map_err(io::Error::other)?;
            pass_answer(&mut writer, answer, is_head).await
        } => done,
    }
}

/// Passes on the body, and ends when the client is gone.
async fn pass_body(
    mut reader: BufReader<OwnedReadHalf>,
    mut body: SendStream<Bytes>,
    chunked: bool,
    mut left: usize,
) -> io::Result<()> {
    let mut space = vec![0; 16 * 1024];
    let mut ended = !chunked && left == 0;
    loop {
        if !ended && chunked && left == 0 {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            if left == 0 {
                reader.read_line(&mut line).await?;
                (ended, _) = (true, body.send_data(Bytes::new(), true));
            }
            continue;
        }
        let most = if ended { space.len() } else { left.min(space.len()) };
        let read = reader.read(&mut space[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if ended {
            continue;
        }
        left -= read;
        let mut piece = Bytes::copy_from_slice(&space[..read]);
        while !piece.is_empty() {
            body.reserve_capacity(piece.len());
            let room = match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(Ok(room)) => room,
                // the server does not want the rest; its answer counts
                _ => std::future::pending().await,
            };
            let now = piece.split_to(room.min(piece.len()));
            if body.send_data(now, false).is_err() {
                std::future::pending::<()>().await;
            }
        }
        if chunked && left == 0 {
            let mut end = String::new();
            reader.read_line(&mut end).await?;
        } else if !chunked && left == 0 {
            (ended, _) = (true, body.send_data(Bytes::new(), true));
        }
    }
}

async fn pass_answer(writer: &mut OwnedWriteHalf, answer: http::Response<RecvStream>, is_head: bool) -> io::Result<()> {
    let (parts, mut body) = answer.into_parts();
    let mut head = format!("HTTP/1.1 {} {}\r\n", parts.status.as_str(), parts.status.canonical_reason().unwrap_or("?"))
        .into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let bodiless = is_head || matches!(parts.status.as_u16(), 204 | 304);
    let chunked = !bodiless && !parts.headers.contains_key("content-length");
    if chunked {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    writer.write_all(&head).await?;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(io::Error::other)?;
        if chunked && !piece.is_empty() {
            writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        writer.write_all(&piece).await?;
        if chunked && !piece.is_empty() {
            writer.write_all(b"\r\n").await?;
        }
        body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
    }
    if chunked {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    writer.shutdown().await
}
