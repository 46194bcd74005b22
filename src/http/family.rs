//! The API families: by the path of a request, which family of clients asks, and how names and errors are written for it.

use actix_web::HttpRequest;
use actors::hub::webhooks;
use actors::model::envelope::Envelope;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiFamily {
    Maps,
    Organizations,
    Feed,
    Sources,
    /// Health, metrics, pages.
    Operations,
}

impl ApiFamily {
    pub fn of(request: &HttpRequest) -> ApiFamily {
        ApiFamily::of_path(request.path())
    }

    pub fn of_path(path: &str) -> ApiFamily {
        let under =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match () {
            () if under("/api/v1") => ApiFamily::Organizations,
            () if under("/api/webhooks") || under("/webhooks") || under("/webhook") => ApiFamily::Sources,
            () if under("/events") || under("/system/events") || under("/engine") => ApiFamily::Feed,
            () if under("/api") => ApiFamily::Maps,
            () => ApiFamily::Operations,
        }
    }

    /// The envelope in which events leave by this family.
    pub fn envelope(self) -> Envelope {
        match self {
            ApiFamily::Organizations => Envelope::Gateway,
            ApiFamily::Feed => Envelope::Feed,
            ApiFamily::Sources => Envelope::Listener,
            ApiFamily::Maps | ApiFamily::Operations => Envelope::Map,
        }
    }

    /// What is noted of webhooks that are made through this family.
    pub fn of_webhooks(self) -> webhooks::ApiFamily {
        match self {
            ApiFamily::Organizations => webhooks::ApiFamily::Organizations,
            ApiFamily::Feed => webhooks::ApiFamily::Feed,
            ApiFamily::Maps | ApiFamily::Sources | ApiFamily::Operations => webhooks::ApiFamily::Maps,
        }
    }

    /// Whether errors have the body `{"error":{"code","message"}}`.
    pub fn nests_errors(self) -> bool {
        self == ApiFamily::Organizations
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ApiFamily::Maps => "maps",
            ApiFamily::Organizations => "organizations",
            ApiFamily::Feed => "feed",
            ApiFamily::Sources => "sources",
            ApiFamily::Operations => "operations",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_belongs_to_one_door() {
        for (path, family) in [
            ("/api/maps/home/events", ApiFamily::Maps),
            ("/api/event-types", ApiFamily::Maps),
            ("/api/v1/realtime", ApiFamily::Organizations),
            ("/api/v10", ApiFamily::Maps),
            ("/api/webhooks", ApiFamily::Sources),
            ("/webhook/wh_1", ApiFamily::Sources),
            ("/webhooksy", ApiFamily::Operations),
            ("/events", ApiFamily::Feed),
            ("/system/events", ApiFamily::Feed),
            ("/engine/.config/webhooks.json", ApiFamily::Feed),
            ("/health/live", ApiFamily::Operations),
        ] {
            assert_eq!(ApiFamily::of_path(path), family, "{path}");
        }
    }
}
