//! What may need attention, by kind, with the threshold of each. The API reference is made from this table.

/// How bad it is; the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Something does not work now.
    Error,
    /// Something will not, or did not.
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub severity: Severity,
    /// Who is told: `admin`, or whoever has `manage` on the channel.
    pub is_for_admin: bool,
    /// Of the server, what the title says.
    pub title: &'static str,
    /// When it is told.
    pub when: &'static str,
}

/// A webhook that is well is behind from so many milliseconds on.
pub const LAG_MS: u64 = 60_000;
/// Days before its end from which on it is told that a token expires.
pub const TOKEN_DAYS: i64 = 7;
/// Senders that a source refused in a row from which on it is told, and for how long after the latest.
pub const SENDERS_IN_A_ROW: u64 = 3;
pub const SENDERS_MS: i64 = 86_400_000;

macro_rules! kinds {
    ($($constant:ident $name:literal $severity:ident $admin:literal $title:literal $when:literal;)*) => {
        $(pub static $constant: Kind = Kind {
            name: $name, severity: Severity::$severity, is_for_admin: $admin, title: $title, when: $when,
        };)*
        pub static KINDS: &[&Kind] = &[$(&$constant),*];
    };
}

kinds! {
    STORAGE_FULL "storage_full" Error true "The disk is full"
        "Less is free than `storage.min_free_bytes`, or a write failed for lack of room: publishes and changes are refused.";
    JOURNAL_FAILING "journal_failing" Error true "Events cannot be stored"
        "The last commit failed, and none has succeeded since.";
    CLUSTER_SLOTS_UNOWNED "cluster_slots_unowned" Error true "Webhooks have no node that delivers"
        "In a cluster nobody has owned a slot of webhooks for 10 s or more.";
    NATS_UNSYNCED "nats_unsynced" Error true "NATS answers before it has synced"
        "In a cluster NATS runs without `sync_interval: always`.";
    NATS_REPLICAS_MISSING "nats_replicas_missing" Warning true "A stream of NATS is on too few servers"
        "In a cluster a stream has not been whole on as many NATS servers as `nats.replicas` for 5 s or more.";
    CLUSTER_NODE_LOST "cluster_node_lost" Warning true "A node is not heard"
        "A node of the cluster has not been heard for `cluster.silent_after_ms`, and has not said that it ends. Told for a day, or for as long as it owns slots.";
    CLUSTER_NODE_BEHIND "cluster_node_behind" Warning true "A node is behind"
        "The copy of a node of the cluster has not got on for 5 s or more, though there is more in the log.";
    CLUSTER_VERSIONS "cluster_versions" Warning true "Nodes run different versions"
        "Nodes of the cluster that are live are of different versions.";
    NATS_VERSIONS "nats_versions" Warning true "NATS servers run different versions"
        "The NATS servers of the cluster are of different versions.";
    DISK_LOW "disk_low" Warning true "The disk is almost full"
        "Less is free than twice `storage.min_free_bytes`.";
    EVENTS_DAMAGED "events_damaged" Warning true "Events are missing"
        "Damage on the disk has taken events that are still within retention.";
    CLOCK_JUMPED "clock_jumped" Warning true "The clock was set"
        "The wall clock was set by a minute or more since the start.";
    MEMORY_SHORT "memory_short" Warning true "Memory is short"
        "What counts towards `limits.memory_bytes` is near it.";
    WEBHOOK_DISABLED "webhook_disabled" Error false ""
        "The server has switched a webhook off: health `disabled`.";
    WEBHOOK_FAILING "webhook_failing" Error false ""
        "A webhook has failed for so long that one delivery at a time is tried: health `probing`.";
    WEBHOOK_UNAVAILABLE "webhook_unavailable" Error false ""
        "A webhook that should deliver cannot run, for 10 s or more after it was changed: health `unavailable`.";
    WEBHOOK_DEGRADED "webhook_degraded" Warning false ""
        "Several attempts of a webhook in a row have failed: health `degraded`.";
    WEBHOOK_GAVE_UP "webhook_gave_up" Warning false ""
        "A webhook has deliveries that were given up and were not sent again: status `dead`.";
    WEBHOOK_LAGGING "webhook_lagging" Warning false ""
        "A webhook that is well is 60 s or more behind the newest event of its channel.";
    WEBHOOKS_OFF "webhooks_off" Warning false ""
        "The switch of a map is off, and the map has webhooks that are active.";
    SOURCE_UNUSABLE "source_unusable" Error false ""
        "The keys of a source cannot be read, so that it takes nothing.";
    SOURCE_REFUSED "source_refused" Warning false ""
        "A source has refused requests that wait as dead letters.";
    SOURCE_DISTRUSTS "source_distrusts" Warning false ""
        "A source has refused 3 or more senders in a row, the latest within a day, since its latest event and since it was changed: key or signature was wrong.";
    TOKEN_EXPIRES "token_expires" Warning false ""
        "A token expires within 7 days.";
}
