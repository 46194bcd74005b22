//! The cluster that this server is a node of.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::guard::Admin;

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterAnswer)]
pub struct ClusterAnswer {
    /// Null: the server is alone.
    data: Option<ClusterReport>,
}

/// The cluster as the node that answers sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Cluster)]
pub struct ClusterReport {
    /// The node that answers.
    node: String,
    /// Grows with each change of the node that writes the log.
    term: u64,
    /// The node that writes the log; null while there is none.
    writer: Option<String>,
    /// The nodes that were heard in the last day, and those that own slots, by name.
    nodes: Vec<NodeView>,
    /// Slots of webhooks that no live node owns, such as `0-3, 7`.
    slots_unowned: String,
    /// The streams of the cluster in NATS.
    streams: Vec<StreamView>,
    /// The NATS servers of the settings, and those that they name.
    nats_servers: Vec<NatsServerView>,
    /// Whether NATS syncs to disk before it answers; null where `nats.monitor` does not tell.
    nats_syncs_always: Option<bool>,
    /// What is wrong, the worst first.
    troubles: Vec<TroubleView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterMember)]
pub struct NodeView {
    name: String,
    /// It was heard a moment ago, or it is the one that answers.
    live: bool,
    /// Where it listens; null: it was not heard since the node that answers was started.
    address: Option<String>,
    /// The same.
    version: Option<String>,
    /// When it was started; the same.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// How long ago it was heard last, in milliseconds; the same.
    heard_ms: Option<u64>,
    /// Messages by which its copy is behind what it has heard of the log; the same.
    behind_messages: Option<u64>,
    /// For how long it has been behind without getting on; the same.
    behind_ms: Option<u64>,
    /// The slots of webhooks that it delivers for, such as `0-3, 7`.
    slots: String,
    slots_owned: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterStream)]
pub struct StreamView {
    name: String,
    /// On how many NATS servers it is to be.
    replicas_configured: usize,
    /// On how many it is whole.
    replicas_current: usize,
    replicas: Vec<ReplicaView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterReplica)]
pub struct ReplicaView {
    /// Empty for a NATS server that is alone.
    server: String,
    leader: bool,
    /// It has everything that the leader has.
    current: bool,
    offline: bool,
    /// Messages by which it is behind.
    behind_messages: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterNatsServer)]
pub struct NatsServerView {
    address: String,
    /// Null: it does not answer at this address, or only behind TLS.
    name: Option<String>,
    /// The same.
    version: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ClusterTrouble)]
pub struct TroubleView {
    /// A kind of what needs attention.
    kind: String,
    /// `error` or `warning`.
    severity: String,
    title: String,
    cause: String,
}

/// `GET /api/v1/cluster`
pub async fn cluster(context: web::Data<Context>, _: Admin) -> HttpResponse {
    HttpResponse::Ok().json(ClusterAnswer { data: report(&context) })
}

#[cfg(feature = "nats")]
fn report(context: &Context) -> Option<ClusterReport> {
    use actors::hub::attention::kind_of;
    use actors::hub::cluster::picture::ranges;
    use actors::model::timestamp::to_iso;

    let picture = context.hub.cluster_picture()?;
    let troubles = picture.troubles().into_iter().map(|(trouble, cause)| {
        let kind = kind_of(trouble);
        TroubleView { kind: kind.name.into(), severity: kind.severity.as_str().into(), title: kind.title.into(), cause }
    });
    let troubles = troubles.collect();
    let nodes = picture.nodes.iter().map(|node| {
        let about = node.about.as_ref();
        NodeView {
            name: node.name.to_string(),
            live: node.is_live,
            address: about.map(|about| about.address.to_string()),
            version: about.map(|about| about.version.to_string()),
            started_at: about.map(|about| to_iso(about.started_ms)),
            heard_ms: node.heard_ago.map(|ago| ago.as_millis() as u64),
            behind_messages: about.map(|about| about.behind),
            behind_ms: about.map(|about| about.behind_ms),
            slots: ranges(&node.slots),
            slots_owned: node.slots.len(),
        }
    });
    let streams = picture.streams.iter().map(|stream| StreamView {
        name: stream.name.clone(),
        replicas_configured: stream.configured,
        replicas_current: stream.current(),
        replicas: stream
            .replicas
            .iter()
            .map(|replica| ReplicaView {
                server: replica.server.clone(),
                leader: replica.is_leader,
                current: replica.is_current,
                offline: replica.is_offline,
                behind_messages: replica.lag,
            })
            .collect(),
    });
    let servers = picture.servers.iter().map(|server| NatsServerView {
        address: server.address.clone(),
        name: server.greeting.as_ref().map(|greeting| greeting.name.clone()),
        version: server.greeting.as_ref().map(|greeting| greeting.version.clone()),
    });
    Some(ClusterReport {
        node: picture.node.to_string(),
        term: picture.term,
        writer: picture.writer.as_ref().map(ToString::to_string),
        nodes: nodes.collect(),
        slots_unowned: ranges(&picture.unowned),
        streams: streams.collect(),
        nats_servers: servers.collect(),
        nats_syncs_always: picture.syncs_always,
        troubles,
    })
}

#[cfg(not(feature = "nats"))]
fn report(_: &Context) -> Option<ClusterReport> {
    None
}
