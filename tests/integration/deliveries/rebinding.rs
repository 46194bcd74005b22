//! DNS rebinding, with a name server of our own: whatever it answers and whenever it changes its mind, no delivery connects
//! to this machine. The test runs itself again in namespaces of its own, where it may say which name server counts and
//! which address is a public one.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::dns::{Answer, NameServer};
use crate::support::webhooks::{deliveries, webhook};
use crate::support::{TestServer, eventually};

/// Set for the run within the namespaces.
const INSIDE: &str = "IN_NAMESPACES";
/// Within them it belongs to the loopback interface, so that it can be reached and is yet a public address.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);

#[test]
fn no_name_leads_a_delivery_to_this_machine_whatever_its_name_server_answers() {
    if std::env::var_os(INSIDE).is_some() {
        return judged();
    }
    let namespaces = ["--map-root-user", "--mount", "--net"];
    if !Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|status| status.success()) {
        assert!(
            std::env::var("CI").is_err(),
            "CI must allow a test to have namespaces (unshare --map-root-user --mount --net)"
        );
        eprintln!("NOT CHECKED: this system gives no namespaces to this user");
        return;
    }
    let module = module_path!().split_once("::").expect("a module of the crate").1;
    let name = format!("{module}::no_name_leads_a_delivery_to_this_machine_whatever_its_name_server_answers");
    let again = std::env::current_exe().expect("this program");
    let mut run = Command::new("unshare");
    run.args(namespaces).arg(again).args([&name, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = run.output().expect("unshare was there a moment ago");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Puts a file with this text in the place of another, for this mount namespace only.
fn put_over(path: &str, text: &str, folder: &Path) {
    if !Path::new(path).exists() {
        return;
    }
    let own = folder.join(path.replace('/', "_"));
    std::fs::write(&own, text).expect("a file of ours");
    let c = |text: &str| CString::new(text).expect("a path without NUL");
    let (own, path) = (c(own.to_str().expect("a path of text")), c(path));
    // SAFETY: both paths are texts that end in NUL, and a bind mount reads nothing else
    let done = unsafe { libc::mount(own.as_ptr(), path.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null()) };
    assert_eq!(done, 0, "{path:?}: {}", std::io::Error::last_os_error());
}

/// Asks the kernel for something about an interface.
fn interface(name: &str, what: libc::Ioctl, set: impl FnOnce(&mut libc::ifreq)) {
    // SAFETY: an ifreq is plain data for which all zeroes is a value
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    set(&mut request);
    // SAFETY: the socket is ours until it is closed, and the request is a whole ifreq
    let done = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let done = libc::ioctl(socket, what, &request);
        libc::close(socket);
        done
    };
    assert_eq!(done, 0, "{name}: {}", std::io::Error::last_os_error());
}

/// The loopback interface with the public address.
fn raise_loopback() {
    interface("lo", libc::SIOCSIFFLAGS, |request| request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short);
    interface("lo:1", libc::SIOCSIFADDR, |request| {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(PUBLIC.octets()) },
            sin_zero: [0; 8],
        };
        // SAFETY: the one is as large as the other, and a sockaddr is what the kernel tells apart by the family
        request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    });
}

/// Answers each request with 200 and closes the connection, so that the next one is resolved anew. Counts connections.
fn count(listener: TcpListener) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            // a request of ours comes in one piece
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    connections
}

fn judged() {
    let folder = tempfile::tempdir().expect("a folder");
    put_over("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", folder.path());
    put_over("/etc/nsswitch.conf", "hosts: files dns\n", folder.path());
    raise_loopback();

    let local = [Ipv4Addr::LOCALHOST.into(), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let public = IpAddr::V4(PUBLIC);
    // each name with what it has after the name server changed its mind
    let after = HashMap::from([
        ("rebound.test", Answer { alias: None, addresses: vec![local[0]] }),
        ("both.test", Answer { alias: None, addresses: vec![public, local[0]] }),
        ("six.test", Answer { alias: None, addresses: vec![public, local[1]] }),
        ("unique.test", Answer { alias: None, addresses: vec![public, "fd00::1".parse().expect("an address")] }),
        ("mapped.test", Answer { alias: None, addresses: vec!["::ffff:127.0.0.1".parse().expect("an address")] }),
        ("alias.test", Answer { alias: Some("localhost"), addresses: local.to_vec() }),
        ("metadata.test", Answer { alias: None, addresses: vec![[169, 254, 169, 254].into()] }),
    ]);
    let names: Vec<&str> = after.keys().copied().collect();
    let (changed, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashMap::<String, usize>::new())));
    let _dns = {
        let (changed, asked) = (changed.clone(), asked.clone());
        NameServer::start(SocketAddr::from(([127, 0, 0, 1], 53)), move |name| {
            let mut asked = asked.lock().expect("nobody panics with it");
            let times = asked.entry(name.to_owned()).or_default();
            *times += 1;
            let good = Answer { alias: None, addresses: vec![public] };
            // a lookup asks for A and for AAAA
            let turns = name == "turns.test" && (*times - 1) / 2 % 2 == 1;
            match after.get(name) {
                _ if turns => Some(Answer { alias: None, addresses: vec![local[0]] }),
                None if name == "turns.test" => Some(good),
                None => None,
                Some(after) if changed.load(Ordering::SeqCst) => Some(after.clone()),
                Some(_) => Some(good),
            }
        })
    };
    let listener = TcpListener::bind((PUBLIC, 0)).expect("the public address is there");
    let port = listener.local_addr().expect("an address").port();
    let at_public = count(listener);
    let at_local: Vec<_> = local.iter().filter_map(|local| TcpListener::bind((*local, port)).ok()).map(count).collect();
    assert!(!at_local.is_empty(), "somebody listens on the loopback");

    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("limits.webhooks_per_map", "20")]);
    let map = server.new_map("m");
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let body = |name: &str| {
        let policy = json!({"policy": "constant", "delaySeconds": 60, "attempts": 2});
        json!({"url": format!("http://{name}:{port}/hook"), "retry_policy": policy})
    };
    let made: Vec<_> = names.iter().map(|name| webhook(&map, body(name)).0).collect();
    map.publish(&json!({"type": "map_kill"}));
    eventually("all are delivered to the public address", || at_public.load(Ordering::SeqCst) == names.len());

    changed.store(true, Ordering::SeqCst);
    map.publish(&json!({"type": "map_kill"}));
    for (name, at) in names.iter().zip(&made) {
        eventually("the second delivery has failed", || deliveries(&map, at, "status=retrying").len() == 1);
        let failed = deliveries(&map, at, "status=retrying").remove(0);
        assert_eq!(failed["error_code"], "target_forbidden", "{name}");
        // nor can such a webhook be made, or tested
        let refused = map.request("POST", "/webhooks").json(&body(&format!("{name}."))).send();
        assert_eq!(refused.status, 400, "{name}");
        let tested = map.request("POST", &format!("{at}/test")).send().expect(200);
        assert_eq!(tested["data"]["error_code"], "target_forbidden", "{name}");
    }
    assert_eq!(at_public.load(Ordering::SeqCst), names.len(), "one bad address closes the whole name");

    // public and local in turn: what is judged is what is dialled
    let (at, _) = webhook(&map, body("turns.test"));
    for n in 1..=6 {
        map.publish(&json!({"type": "map_kill"}));
        eventually("an attempt", || deliveries(&map, &at, "").len() == n);
    }
    let outcomes: Vec<_> = deliveries(&map, &at, "").iter().map(|one| one["error_code"].clone()).collect();
    assert!(outcomes.contains(&json!("target_forbidden")) && outcomes.contains(&json!(null)), "{outcomes:?}");
    for local in at_local {
        assert_eq!(local.load(Ordering::SeqCst), 0, "no connection to this machine");
    }
}
