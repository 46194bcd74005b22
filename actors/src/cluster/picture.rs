//! The cluster as one node sees it, for people: nodes, slots of webhooks, streams and NATS servers, and what is wrong with them.

use std::sync::Arc;
use std::time::Duration;

use super::nats::version;

/// What a node says of itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub version: Arc<str>,
    /// Where it listens.
    pub address: Arc<str>,
    /// When it was started, in Unix milliseconds.
    pub started_ms: i64,
    /// Messages by which its copy is behind what it has heard of the log, and for how long without getting on, in milliseconds.
    pub behind: u64,
    pub behind_ms: u64,
}

/// A node that was heard since this one was started, or is named as an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    /// None: it was not heard since this node was started.
    pub about: Option<About>,
    pub heard_ago: Option<Duration>,
    pub is_live: bool,
    /// The slots of webhooks that it owns, in order.
    pub slots: Vec<u8>,
}

/// A NATS server that has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub server: String,
    pub is_leader: bool,
    /// It has everything that the leader has.
    pub is_current: bool,
    pub is_offline: bool,
    /// Messages by which it is behind.
    pub lag: u64,
}

/// A stream in NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub name: String,
    /// On how many servers it is to be.
    pub configured: usize,
    /// Those that have it.
    pub replicas: Vec<Replica>,
    /// For how long not all of them have had all of it.
    pub incomplete_for: Duration,
}

impl Stream {
    /// On how many servers it is whole.
    pub fn current(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.is_current && !replica.is_offline).count()
    }
}

/// A NATS server, as it greets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// None: it does not answer there, or not before TLS.
    pub greeting: Option<Greeting>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub node: Arc<str>,
    pub term: u64,
    pub writer: Option<Arc<str>>,
    pub nodes: Vec<Node>,
    /// Slots without an owner that is live, and for how long the one has been so that has been it longest.
    pub unowned: Vec<u8>,
    pub unowned_for: Duration,
    pub streams: Vec<Stream>,
    pub servers: Vec<Server>,
    /// Whether NATS syncs before it answers; none: not known.
    pub syncs_always: Option<bool>,
}

/// What may be wrong with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    SlotsUnowned,
    NatsUnsynced,
    ReplicasMissing,
    NodeLost,
    NodeBehind,
    NodeVersions,
    NatsVersions,
}

/// A slot is without an owner for longer than a node that dies is replaced in.
const UNOWNED_LONG: Duration = Duration::from_secs(10);
/// A replica is behind for longer than a busy one is now and then.
const INCOMPLETE_LONG: Duration = Duration::from_secs(5);
/// A node whose copy has not got on for so long is behind.
const BEHIND_LONG_MS: u64 = 5_000;

impl Picture {
    /// What is wrong, each with the cause and what to do.
    pub fn troubles(&self) -> Vec<(Trouble, String)> {
        let mut found = Vec::new();
        if !self.unowned.is_empty() && self.unowned_for >= UNOWNED_LONG {
            let cause = format!(
                "nobody has delivered for the webhooks of the slots {} for {} s; the logs of the nodes say why none takes them",
                ranges(&self.unowned),
                self.unowned_for.as_secs()
            );
            found.push((Trouble::SlotsUnowned, cause));
        }
        if self.syncs_always == Some(false) {
            let cause =
                "NATS answers before its disk has what it answers for; set sync_interval: always in its jetstream { }";
            found.push((Trouble::NatsUnsynced, cause.into()));
        }
        let incomplete: Vec<String> = self.streams.iter().filter_map(incomplete).collect();
        if !incomplete.is_empty() {
            let cause = format!("{}; look at the NATS servers that are missing", incomplete.join("; "));
            found.push((Trouble::ReplicasMissing, cause));
        }
        let lost: Vec<String> = self.nodes.iter().filter(|node| !node.is_live).map(lost).collect();
        if !lost.is_empty() {
            found.push((Trouble::NodeLost, format!("the other nodes stand in for {}", lost.join(", "))));
        }
        let late = self.nodes.iter().filter(|node| node.is_live).filter_map(|node| {
            let about = node.about.as_ref().filter(|about| about.behind_ms >= BEHIND_LONG_MS)?;
            Some(format!("{} by {} messages, for {} s", node.name, about.behind, about.behind_ms / 1_000))
        });
        let late: Vec<String> = late.collect();
        if !late.is_empty() {
            let cause = format!("{}; its log says why its copy does not get on", late.join("; "));
            found.push((Trouble::NodeBehind, cause));
        }
        let of_nodes = self.nodes.iter().filter(|node| node.is_live).filter_map(|node| {
            let about = node.about.as_ref().filter(|about| !about.version.is_empty())?;
            Some((node.name.to_string(), about.version.to_string()))
        });
        if let Some(mixed) = mixed(of_nodes.collect()) {
            found.push((Trouble::NodeVersions, format!("{mixed}; bring all nodes to the same version")));
        }
        let greetings = self.servers.iter().filter_map(|server| server.greeting.as_ref());
        if let Some(mixed) = mixed(greetings.map(|one| (one.name.clone(), one.version.clone())).collect()) {
            found.push((Trouble::NatsVersions, format!("{mixed}; bring all servers to the newest of these versions")));
        }
        found
    }
}

fn incomplete(stream: &Stream) -> Option<String> {
    if stream.current() >= stream.configured || stream.incomplete_for < INCOMPLETE_LONG {
        return None;
    }
    let known = stream.replicas.iter().filter(|replica| replica.is_offline || !replica.is_current);
    let known: Vec<String> = known
        .map(|replica| match replica.is_offline {
            true => format!("{} is offline", replica.server),
            false => format!("{} is {} messages behind", replica.server, replica.lag),
        })
        .collect();
    let of = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    Some(format!("the stream {} is whole on {} of {} servers{of}", stream.name, stream.current(), stream.configured))
}

fn lost(node: &Node) -> String {
    match node.heard_ago {
        Some(ago) => format!("{} (heard last {} s ago)", node.name, ago.as_secs()),
        None => format!("{} (not heard since this node was started)", node.name),
    }
}

/// Who has which version, the newest first, where there is more than one.
fn mixed(mut versions: Vec<(String, String)>) -> Option<String> {
    versions.sort_by(|(a, of_a), (b, of_b)| (version(of_b), of_b, a).cmp(&(version(of_a), of_a, b)));
    versions.dedup();
    let first = &versions.first()?.1;
    if versions.iter().all(|(_, version)| version == first) {
        return None;
    }
    let told: Vec<String> = versions.iter().map(|(name, version)| format!("{name} is {version}")).collect();
    Some(told.join(", "))
}

/// Numbers in order as people write them: `0-3, 7`.
pub fn ranges(numbers: &[u8]) -> String {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let told = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, version: &str) -> Node {
        let about = About { version: version.into(), ..About::default() };
        let heard_ago = Some(Duration::from_millis(100));
        Node { name: name.into(), about: Some(about), heard_ago, is_live: true, slots: Vec::new() }
    }

    fn replica(server: &str, is_leader: bool) -> Replica {
        Replica { server: server.into(), is_leader, is_current: true, is_offline: false, lag: 0 }
    }

    fn server(name: &str, version: &str) -> Server {
        let greeting = Some(Greeting { name: name.into(), version: version.into() });
        Server { address: format!("{name}:4222"), greeting }
    }

    fn well() -> Picture {
        let replicas = vec![replica("n1", true), replica("n2", false), replica("n3", false)];
        Picture {
            node: "a".into(),
            term: 4,
            writer: Some("a".into()),
            nodes: vec![node("a", "0.1.0"), node("b", "0.1.0")],
            streams: vec![Stream { name: "stentor_LOG".into(), configured: 3, replicas, ..Stream::default() }],
            servers: ["n1", "n2", "n3"].map(|name| server(name, "2.15.1")).into(),
            syncs_always: Some(true),
            ..Picture::default()
        }
    }

    fn only(picture: &Picture) -> (Trouble, String) {
        let [found] = &picture.troubles()[..] else { panic!("{:?}", picture.troubles()) };
        found.clone()
    }

    #[test]
    fn a_cluster_that_is_well_has_no_troubles_and_neither_has_one_that_is_being_started() {
        assert_eq!(well().troubles(), []);
        let mut starting = well();
        starting.unowned = (0..64).collect();
        starting.unowned_for = Duration::from_secs(2);
        starting.streams[0].replicas[2].is_current = false;
        starting.streams[0].incomplete_for = Duration::from_secs(2);
        starting.servers[0].greeting = None;
        starting.syncs_always = None;
        assert_eq!(starting.troubles(), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_it_is_about() {
        let mut picture = well();
        picture.streams[0].incomplete_for = Duration::from_secs(9);
        (picture.streams[0].replicas[1].is_current, picture.streams[0].replicas[1].lag) = (false, 12);
        picture.streams[0].replicas[2].is_offline = true;
        let (kind, cause) = only(&picture);
        assert_eq!(kind, Trouble::ReplicasMissing);
        let says = "the stream stentor_LOG is whole on 1 of 3 servers (n2 is 12 messages behind, n3 is offline)";
        assert!(cause.starts_with(says), "{cause}");

        let mut picture = well();
        (picture.unowned, picture.unowned_for) = (vec![1, 2, 3, 9], Duration::from_secs(11));
        let (kind, cause) = only(&picture);
        assert!(kind == Trouble::SlotsUnowned && cause.contains("slots 1-3, 9 for 11 s"), "{cause}");

        let mut picture = well();
        (picture.nodes[1].is_live, picture.nodes[1].heard_ago) = (false, Some(Duration::from_secs(70)));
        picture.nodes.push(Node { about: None, heard_ago: None, is_live: false, ..node("c", "") });
        let (kind, cause) = only(&picture);
        let says = "the other nodes stand in for b (heard last 70 s ago), c (not heard since this node was started)";
        assert_eq!((kind, &*cause), (Trouble::NodeLost, says));

        let mut picture = well();
        picture.nodes[1].about = Some(About { behind: 40, behind_ms: 6_500, ..About::default() });
        let (kind, cause) = only(&picture);
        assert!(kind == Trouble::NodeBehind && cause.starts_with("b by 40 messages, for 6 s"), "{cause}");

        let mut picture = well();
        picture.servers[0] = server("n1", "2.15.10");
        let (kind, cause) = only(&picture);
        assert_eq!(kind, Trouble::NatsVersions);
        assert!(cause.starts_with("n1 is 2.15.10, n2 is 2.15.1, n3 is 2.15.1"), "{cause}");

        let mut picture = well();
        picture.nodes[0] = node("a", "0.2.0");
        assert_eq!(only(&picture).0, Trouble::NodeVersions);
        let picture = Picture { syncs_always: Some(false), ..well() };
        assert_eq!(only(&picture).0, Trouble::NatsUnsynced);
    }

    #[test]
    fn numbers_are_written_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&(0..64).collect::<Vec<_>>()), "0-63");
    }
}
