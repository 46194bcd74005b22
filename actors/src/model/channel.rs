//! Channels as they are configured: a map or an organization, to which every event belongs.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::event::ChannelNo;
use super::hex;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    Map,
    Organization,
}

impl ChannelKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelKind::Map => "map",
            ChannelKind::Organization => "organization",
        }
    }

    /// Reads `map:<id or slug>` or `organization:<id>`: the kind, and what the channel is called.
    pub fn parse_name(name: &str) -> Option<(ChannelKind, &str)> {
        let (kind, called) = name.split_once(':')?;
        let kinds = [ChannelKind::Map, ChannelKind::Organization];
        kinds.into_iter().find(|known| known.as_str() == kind).map(|kind| (kind, called))
    }
}

/// The organization that the first start makes.
pub const DEFAULT_ORGANIZATION: &str = "default";
/// The organization to which the server publishes its own events, and nobody else.
pub const SYSTEM_ORGANIZATION: &str = "system";

/// What an envelope says of the channel of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub kind: ChannelKind,
    pub id: Arc<str>,
}

impl Owner {
    /// Whether it is the server's own organization.
    pub fn is_system(&self) -> bool {
        self.kind == ChannelKind::Organization && &*self.id == SYSTEM_ORGANIZATION
    }
}

/// A channel as the state database keeps it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Channel {
    pub no: u32,
    pub kind: ChannelKind,
    /// What clients see: the UUID of a map, `org_<ULID>` or what was chosen for an organization. Never changes.
    pub id: Arc<str>,
    /// What clients may write instead of the id; of an organization the id itself.
    pub slug: Arc<str>,
    pub name: String,
    pub inserted_ms: i64,
    pub updated_ms: i64,
    /// Whether SSE frames of this channel carry an `event:` line; none: as the setting says.
    #[serde(default)]
    pub event_names: Option<bool>,
    #[serde(default)]
    pub webhooks_enabled: bool,
}

impl Channel {
    pub fn no(&self) -> ChannelNo {
        ChannelNo(self.no)
    }

    pub fn owner(&self) -> Owner {
        Owner { kind: self.kind, id: self.id.clone() }
    }

    /// Whether only the server publishes here.
    pub fn is_system(&self) -> bool {
        self.kind == ChannelKind::Organization && &*self.id == SYSTEM_ORGANIZATION
    }

    /// `map:<id>` or `organization:<id>`, as tokens name their channel.
    pub fn name_on_tokens(&self) -> String {
        format!("{}:{}", self.kind.as_str(), self.id)
    }
}

/// The longest slug in bytes.
pub const SLUG_BYTES_MAX: usize = 64;
/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a slug is 1 to 64 of the characters a-z 0-9 - _ and begins with a letter or digit")]
    Slug,
    #[error("a name is 1 to 200 bytes without control characters")]
    Name,
    #[error("an id is a UUID such as 550e8400-e29b-41d4-a716-446655440000")]
    Id,
    #[error("a slug must not look like the UUID of a map")]
    SlugIsUuid,
    #[error("an id is 1 to 64 of the characters A-Z a-z 0-9 - _ and begins with a letter or digit")]
    OrganizationId,
}

/// Checks what somebody chose as the id of an organization.
///
/// # Errors
/// [`NameError::OrganizationId`], which says what one looks like.
pub fn check_organization_id(id: &str) -> Result<(), NameError> {
    let starts_well = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match starts_well && id.len() <= SLUG_BYTES_MAX && id.bytes().all(allowed) {
        true => Ok(()),
        false => Err(NameError::OrganizationId),
    }
}

/// Checks what somebody chose as the slug of a map.
///
/// # Errors
/// [`NameError::Slug`], or [`NameError::SlugIsUuid`] because a map is also found by its UUID.
pub fn check_slug(slug: &str) -> Result<(), NameError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let starts_well = slug.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !starts_well || slug.len() > SLUG_BYTES_MAX || !slug.bytes().all(allowed) {
        return Err(NameError::Slug);
    }
    if is_uuid(slug) { Err(NameError::SlugIsUuid) } else { Ok(()) }
}

/// Checks what somebody chose as the name of a map or an organization.
///
/// # Errors
/// [`NameError::Name`], which says what one looks like.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(NameError::Name) }
}

/// Whether the text is a UUID in its canonical form (RFC 9562, section 4), lower case.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

/// A UUID of version 4 from 16 random bytes (RFC 9562, section 5.4).
pub fn uuid_from(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = hex::encode(&random);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A slug made of a name: `Home Chain` becomes `home-chain`; empty when nothing of the name can stand in a slug.
pub fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() == SLUG_BYTES_MAX {
            break;
        }
    }
    slug.trim_end_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_that_could_be_a_path_or_an_id_are_refused() {
        for bad in
            ["", "..", "a/b", "a%2fb", "A", "-a", "a b", "ä", "550e8400-e29b-41d4-a716-446655440000", &"a".repeat(65)]
        {
            assert!(check_slug(bad).is_err(), "{bad}");
        }
        for good in ["home", "j123456", "a-b_c", &"a".repeat(64)] {
            assert!(check_slug(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_channel_is_named_by_its_kind_and_what_it_is_called() {
        assert_eq!(ChannelKind::parse_name("map:home"), Some((ChannelKind::Map, "home")));
        assert_eq!(ChannelKind::parse_name("organization:org_1:x"), Some((ChannelKind::Organization, "org_1:x")));
        for bad in ["", "map", "sphere:1", "Map:home", ":home"] {
            assert_eq!(ChannelKind::parse_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_organization_may_have_any_id_that_can_stand_in_a_path() {
        for good in ["org_abc", "default", "A-1", &"a".repeat(64)] {
            assert!(check_organization_id(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "..", "a/b", "a b", "a:b", "ä", &"a".repeat(65)] {
            assert_eq!(check_organization_id(bad), Err(NameError::OrganizationId), "{bad}");
        }
    }

    #[test]
    fn a_slug_is_made_of_a_name() {
        assert_eq!(slug_of("Home Chain!  2"), "home-chain-2");
        assert_eq!(slug_of("***"), "");
        assert!(slug_of(&"x".repeat(200)).len() <= SLUG_BYTES_MAX);
    }

    #[test]
    fn random_bytes_make_a_uuid_of_version_4() {
        let id = uuid_from([0xff; 16]);
        assert!(is_uuid(&id));
        assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
