//! The ids of what is configured. They are short texts that are given out once and never change; a type for each keeps the
//! id of a token from being taken for that of a webhook.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! record_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        /// So that a map is searched by what a request says.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> $name {
                $name(text.into())
            }
        }

        /// As principals and gauges name it, among other names.
        impl From<$name> for Arc<str> {
            fn from(id: $name) -> Arc<str> {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

record_id! {
    /// The id of a token: `tok_<ULID>`.
    TokenId
}
record_id! {
    /// The id of a webhook: a UUID.
    WebhookId
}
record_id! {
    /// The id of a source: `wh_<ULID>`.
    SourceId
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_id_is_stored_and_shown_as_its_text_and_found_by_it() {
        let id = TokenId::from("tok_1");
        assert_eq!((id.to_string(), format!("{id:?}")), ("tok_1".into(), "tok_1".into()));
        let text = serde_json::to_string(&id).expect("JSON");
        assert_eq!(text, "\"tok_1\"");
        assert_eq!(serde_json::from_str::<TokenId>(&text).expect("an id"), id);
        assert_eq!(HashMap::from([(id, 1)]).get("tok_1"), Some(&1));
    }
}
