//! A node and the cluster that it is in, as the node sees it.

use actors::hub::backup::Finding;
use serde_json::Value as Json;

use crate::cli::output::count;
use crate::cli::remote::{Remote, Request};

/// What is to be said of the cluster; nothing for a server alone. `ready` is the report of readiness.
pub async fn examine(remote: &Remote, ready: &Json, is_admin: bool) -> Vec<Finding> {
    let node = &ready["cluster"];
    let asked = match is_admin {
        true => remote.json(&Request::get("/api/v1/cluster")).await.map(|answer| answer["data"].clone()),
        false => Ok(Json::Null),
    };
    match asked {
        Ok(report) if report.is_object() => whole(&report),
        Ok(_) if node.is_object() => brief(node),
        Ok(_) => Vec::new(),
        Err(trouble) => vec![Finding::doubtful("cluster", format!("it cannot be asked for: {}", trouble.reason()))],
    }
}

fn names<'a>(all: &'a Json, of: &str) -> Vec<&'a str> {
    all[of].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// What everybody is told.
fn brief(node: &Json) -> Vec<Finding> {
    let live = names(node, "nodes");
    let text = format!(
        "{name} hears {}; {} writes the log in term {}; {name} delivers for {} of {} slots of webhooks; the admin token shows \
         more (STENTOR_TOKEN)",
        live.join(", "),
        node["writer"].as_str().unwrap_or("nobody"),
        node["term"],
        node["slots_owned"],
        node["slots"],
        name = node["node"].as_str().unwrap_or_default(),
    );
    vec![alone_or(live.len(), text), synced(&node["nats_syncs_always"])]
}

fn alone_or(live: usize, text: String) -> Finding {
    match live {
        0 | 1 => Finding::doubtful("cluster", format!("{text}; when this node is lost nobody is left")),
        _ => Finding::fine("cluster", text),
    }
}

fn synced(syncs_always: &Json) -> Finding {
    match syncs_always.as_bool() {
        Some(true) => Finding::fine("nats", "syncs to disk before it answers"),
        Some(false) => {
            Finding::bad("nats", "answers before it has synced: set sync_interval: always in its jetstream { }")
        }
        None => Finding::doubtful("nats", "it is not known whether it syncs before it answers; set nats.monitor"),
    }
}

/// What the admin is told.
fn whole(report: &Json) -> Vec<Finding> {
    let list = |of: &str| report[of].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let (nodes, name) = (list("nodes"), text(&report["node"]));
    let live = nodes.iter().filter(|node| node["live"] == true).count();
    let writer = report["writer"].as_str().unwrap_or("nobody");
    let said = format!(
        "{name} hears {} of {}; {writer} writes the log in term {}",
        count(live as u64, "live node", "live nodes"),
        nodes.len(),
        report["term"]
    );
    let mut findings = vec![alone_or(live, said).with_details(nodes.iter().map(node).collect())];
    findings.push(synced(&report["nats_syncs_always"]));
    let servers = list("nats_servers").iter().map(|server| {
        let known = server["version"].as_str().map(|version| format!("{} is {version}", text(&server["name"])));
        format!("{}: {}", text(&server["address"]), known.unwrap_or_else(|| "does not answer".into()))
    });
    findings.push(Finding::fine("nats servers", "by their addresses").with_details(servers.collect()));
    let streams = list("streams").iter().map(|stream| {
        let replicas = stream["replicas"].as_array().into_iter().flatten().map(replica).collect::<Vec<_>>().join(", ");
        let (current, configured) = (&stream["replicas_current"], &stream["replicas_configured"]);
        let on = if replicas.is_empty() { String::new() } else { format!(": {replicas}") };
        format!("{} is whole on {current} of {configured}{on}", text(&stream["name"]))
    });
    findings.push(Finding::fine("streams", "in NATS").with_details(streams.collect()));
    let troubles = list("troubles").iter().filter(|trouble| trouble["kind"] != "nats_unsynced").map(|trouble| {
        let said = format!("{}: {}", text(&trouble["title"]), text(&trouble["cause"]));
        match trouble["severity"] == "error" {
            true => Finding::bad("cluster", said),
            false => Finding::doubtful("cluster", said),
        }
    });
    findings.extend(troubles);
    findings
}

/// A node in one line.
fn node(node: &Json) -> String {
    let name = node["name"].as_str().unwrap_or_default();
    let slots = match node["slots"].as_str().unwrap_or_default() {
        "" => "delivers for no webhooks".to_owned(),
        slots => {
            format!("delivers for {} ({slots})", count(node["slots_owned"].as_u64().unwrap_or(0), "slot", "slots"))
        }
    };
    let Some(version) = node["version"].as_str() else { return format!("{name}: not heard, {slots}") };
    let lag = match (node["behind_messages"].as_u64().unwrap_or(0), node["behind_ms"].as_u64().unwrap_or(0)) {
        (0, _) => "not behind".to_owned(),
        (messages, ms) => format!("{} behind for {ms} ms", count(messages, "message", "messages")),
    };
    let heard = match node["live"] == true {
        true => String::new(),
        false => format!(", heard last {} s ago", node["heard_ms"].as_u64().unwrap_or(0) / 1_000),
    };
    let (address, since) =
        (node["address"].as_str().unwrap_or_default(), node["started_at"].as_str().unwrap_or_default());
    format!("{name}: {version} at {address} since {since}{heard}, {lag}, {slots}")
}

fn replica(replica: &Json) -> String {
    let server = match replica["server"].as_str().unwrap_or_default() {
        "" => "one server alone",
        server => server,
    };
    let stands = match (replica["leader"] == true, replica["offline"] == true, replica["current"] == true) {
        (true, ..) => "leads".to_owned(),
        (_, true, _) => "is offline".to_owned(),
        (.., true) => "has it".to_owned(),
        (.., false) => {
            format!("is {} behind", count(replica["behind_messages"].as_u64().unwrap_or(0), "message", "messages"))
        }
    };
    format!("{server} {stands}")
}

#[cfg(test)]
mod tests {
    use actors::hub::backup::Verdict;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_of_the_cluster_is_told_in_words_and_its_troubles_are_findings() {
        let report = json!({
            "node": "a", "term": 7, "writer": "b",
            "nodes": [
                { "name": "a", "live": true, "address": "a:8080", "version": "0.1.0", "started_at": "2026-01-01T00:00:00.000Z",
                  "heard_ms": 0, "behind_messages": 3, "behind_ms": 1_200, "slots": "0-40", "slots_owned": 41 },
                { "name": "c", "live": false, "address": null, "version": null, "slots": "41", "slots_owned": 1 },
            ],
            "streams": [{ "name": "stentor_LOG", "replicas_configured": 3, "replicas_current": 1, "replicas": [
                { "server": "n1", "leader": true, "current": true, "offline": false, "behind_messages": 0 },
                { "server": "n2", "leader": false, "current": false, "offline": true, "behind_messages": 9 },
                { "server": "n3", "leader": false, "current": false, "offline": false, "behind_messages": 9 },
            ]}],
            "nats_servers": [{ "address": "n1:4222", "name": "n1", "version": "2.15.1" }, { "address": "n2:4222", "version": null }],
            "nats_syncs_always": true,
            "troubles": [
                { "kind": "nats_replicas_missing", "severity": "warning", "title": "Too few", "cause": "n2 is offline" },
                { "kind": "cluster_slots_unowned", "severity": "error", "title": "Nobody", "cause": "slots 42-63" },
            ],
        });
        let findings = whole(&report);
        let told = |at: usize| (findings[at].verdict, findings[at].text.as_str(), findings[at].details.clone());
        let (verdict, text, details) = told(0);
        assert_eq!(verdict, Verdict::Doubtful);
        assert!(text.starts_with("a hears 1 live node of 2; b writes the log in term 7"), "{text}");
        let first = "a: 0.1.0 at a:8080 since 2026-01-01T00:00:00.000Z, 3 messages behind for 1200 ms, delivers for 41 slots (0-40)";
        assert_eq!(details, [first, "c: not heard, delivers for 1 slot (41)"]);
        assert_eq!(told(2).2, ["n1:4222: n1 is 2.15.1", "n2:4222: does not answer"]);
        let streams = "stentor_LOG is whole on 1 of 3: n1 leads, n2 is offline, n3 is 9 messages behind";
        assert_eq!(told(3).2, [streams]);
        assert_eq!((told(4).0, told(4).1), (Verdict::Doubtful, "Too few: n2 is offline"));
        assert_eq!((told(5).0, told(5).1), (Verdict::Bad, "Nobody: slots 42-63"));
    }
}
