//! Addresses of NATS servers: the one place that reads them, whether they come from the settings or from the servers themselves.

use std::net::IpAddr;

use async_nats::ServerAddr;

/// The addresses among these texts. The settings have checked theirs, and what is wrong all the same fails when it is connected
/// to; what a server names and nobody can read is left out.
pub fn parsed(texts: &[String]) -> impl Iterator<Item = ServerAddr> + '_ {
    texts.iter().filter_map(|text| text.parse().ok())
}

/// Whether others may read what is said to this server: neither TLS nor this machine.
pub fn is_open(server: &ServerAddr) -> bool {
    let host = server.host();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    !server.tls_required() && host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
}

/// The first user with a password in the addresses.
pub fn user_of(texts: &[String]) -> Option<(String, String)> {
    parsed(texts).find_map(|server| Some((server.username()?.to_owned(), server.password()?.to_owned())))
}

/// `HOST:PORT` of each of these servers, once and sorted.
pub fn hosts_and_ports(servers: impl Iterator<Item = ServerAddr>) -> Vec<String> {
    let mut all: Vec<String> = servers.map(|server| format!("{}:{}", server.host(), server.port())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn servers_that_are_reached_over_an_open_network_are_told_from_the_others() {
        let open = |text: &str| is_open(&text.parse().expect("an address"));
        assert!(open("nats://10.0.0.1:4222") && open("nats://user:secret@nats-1"));
        for closed in ["tls://10.0.0.1:4222", "nats://127.0.0.1:4222", "nats://localhost", "nats://[::1]:4222"] {
            assert!(!open(closed), "{closed}");
        }
    }

    #[test]
    fn servers_of_the_settings_and_those_that_a_server_names_are_the_same_by_host_and_port() {
        let configured = texts(&["tls://user:secret@nats-2", "nats://nats-1:4223", "no address: at all"]);
        // a server names others without a scheme
        let named = texts(&["nats-2:4222", "10.0.0.3:4222", "nats-1:4223"]);
        assert_eq!(
            hosts_and_ports(parsed(&configured).chain(parsed(&named))),
            ["10.0.0.3:4222", "nats-1:4223", "nats-2:4222"]
        );
    }

    #[test]
    fn the_user_is_that_of_the_first_address_which_has_a_password() {
        let servers =
            texts(&["nats://nats-1", "nats://token@nats-2", "nats://user:secret@nats-3", "nats://other:one@nats-4"]);
        assert_eq!(user_of(&servers), Some(("user".to_owned(), "secret".to_owned())));
        assert_eq!(user_of(&servers[..2]), None);
    }
}
