//! The doors to the house: by the path of a request, which family of clients asks, and in whose words it is answered.

use actix_web::HttpRequest;
use actors::hub::webhooks;
use actors::model::envelope::Envelope;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    Maps,
    Organizations,
    Feed,
    Sources,
    /// Health, metrics, pages.
    Operations,
}

impl Door {
    pub fn of(request: &HttpRequest) -> Door {
        Door::of_path(request.path())
    }

    pub fn of_path(path: &str) -> Door {
        let under =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match () {
            () if under("/api/v1") => Door::Organizations,
            () if under("/api/webhooks") || under("/webhooks") || under("/webhook") => Door::Sources,
            () if under("/events") || under("/system/events") || under("/engine") => Door::Feed,
            () if under("/api") => Door::Maps,
            () => Door::Operations,
        }
    }

    /// The envelope in which events leave by this door.
    pub fn envelope(self) -> Envelope {
        match self {
            Door::Organizations => Envelope::Gateway,
            Door::Feed => Envelope::Feed,
            Door::Sources => Envelope::Listener,
            Door::Maps | Door::Operations => Envelope::Map,
        }
    }

    /// What is noted of webhooks that are made through this door.
    pub fn of_webhooks(self) -> webhooks::Door {
        match self {
            Door::Organizations => webhooks::Door::Organizations,
            Door::Feed => webhooks::Door::Feed,
            Door::Maps | Door::Sources | Door::Operations => webhooks::Door::Maps,
        }
    }

    /// Whether errors have the body `{"error":{"code","message"}}`.
    pub fn nests_errors(self) -> bool {
        self == Door::Organizations
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Door::Maps => "maps",
            Door::Organizations => "organizations",
            Door::Feed => "feed",
            Door::Sources => "sources",
            Door::Operations => "operations",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_belongs_to_one_door() {
        for (path, door) in [
            ("/api/maps/home/events", Door::Maps),
            ("/api/event-types", Door::Maps),
            ("/api/v1/realtime", Door::Organizations),
            ("/api/v10", Door::Maps),
            ("/api/webhooks", Door::Sources),
            ("/webhook/wh_1", Door::Sources),
            ("/webhooksy", Door::Operations),
            ("/events", Door::Feed),
            ("/system/events", Door::Feed),
            ("/engine/.config/webhooks.json", Door::Feed),
            ("/health/live", Door::Operations),
        ] {
            assert_eq!(Door::of_path(path), door, "{path}");
        }
    }
}
