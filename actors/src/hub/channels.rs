//! Maps and organizations: create, change, delete.

use std::sync::Arc;

use super::{Hub, NewToken, TokenError, sources};
use crate::clock;
use crate::delivery::storage;
use crate::model::access::Scope;
use crate::model::channel::{self, Channel, ChannelKind, NameError};
use crate::store::{Change, StoreError, Table};
use crate::streams::shard::CloseStreams;

/// A map that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct NewMap {
    pub name: String,
    /// Absent: made of the name.
    pub slug: Option<String>,
    /// A UUID; absent: made by chance.
    pub id: Option<String>,
}

/// An organization that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct NewOrganization {
    pub name: String,
    /// Absent: `org_<ULID>`.
    pub id: Option<String>,
}

/// What is to change of a map; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct MapChange {
    pub name: Option<String>,
    pub slug: Option<String>,
    /// `Some(None)` goes back to the setting.
    pub event_names: Option<Option<bool>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{error}")]
    Invalid { field: &'static str, error: NameError },
    #[error("another channel has this {0}; choose another one")]
    Taken(&'static str),
    #[error("there are as many channels as limits.channels allows")]
    TooMany,
    #[error("it does not exist any more")]
    Gone,
    #[error("the organization system is the server's own; it cannot be changed or deleted")]
    System,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A channel that has no number yet.
pub(super) fn new_channel(kind: ChannelKind, id: &str, slug: &str, name: String) -> Channel {
    let now = clock::now_ms();
    Channel {
        no: 0,
        kind,
        id: id.into(),
        slug: slug.into(),
        name,
        inserted_ms: now,
        updated_ms: now,
        event_names: None,
        // the switch is one of maps
        webhooks_enabled: kind == ChannelKind::Organization,
    }
}

fn invalid(field: &'static str) -> impl Fn(NameError) -> ChannelError {
    move |error| ChannelError::Invalid { field, error }
}

impl Hub {
    /// Creates a map and its first token, which has all scopes. The token's text is returned once and kept nowhere.
    pub async fn create_map(&self, new: NewMap) -> Result<(Arc<Channel>, String), ChannelError> {
        channel::check_name(&new.name).map_err(invalid("name"))?;
        if let Some(slug) = &new.slug {
            channel::check_slug(slug).map_err(invalid("slug"))?;
        }
        let id = match new.id.map(|id| id.to_ascii_lowercase()) {
            Some(id) if channel::is_uuid(&id) => id,
            Some(_) => return Err(ChannelError::Invalid { field: "id", error: NameError::Id }),
            None => channel::uuid_from(clock::random()),
        };
        let created = {
            let _one_at_a_time = self.changes.lock().await;
            if self.engine.directory.count() >= self.engine.limits.channels {
                return Err(ChannelError::TooMany);
            }
            if self.find(ChannelKind::Map, &id).is_some() {
                return Err(ChannelError::Taken("id"));
            }
            let slug = match new.slug {
                Some(slug) if self.find(ChannelKind::Map, &slug).is_some() => return Err(ChannelError::Taken("slug")),
                Some(slug) => slug,
                None => self.free_slug(&channel::slug_of(&new.name), &id),
            };
            self.store_new(new_channel(ChannelKind::Map, &id, &slug, new.name)).await?
        };
        let token = self.first_token(&created).await?;
        Ok((created, token))
    }

    /// Creates an organization and its first token, which has all scopes. The token's text is returned once and kept
    /// nowhere.
    pub async fn create_organization(&self, new: NewOrganization) -> Result<(Arc<Channel>, String), ChannelError> {
        channel::check_name(&new.name).map_err(invalid("name"))?;
        if let Some(id) = &new.id {
            channel::check_organization_id(id).map_err(invalid("id"))?;
        }
        let created = {
            let _one_at_a_time = self.changes.lock().await;
            if self.engine.directory.count() >= self.engine.limits.channels {
                return Err(ChannelError::TooMany);
            }
            let id = new.id.unwrap_or_else(|| format!("org_{}", clock::fresh_ulid()));
            if self.find(ChannelKind::Organization, &id).is_some() {
                return Err(ChannelError::Taken("id"));
            }
            self.store_new(new_channel(ChannelKind::Organization, &id, &id, new.name)).await?
        };
        let token = self.first_token(&created).await?;
        Ok((created, token))
    }

    async fn store_new(&self, mut channel: Channel) -> Result<Arc<Channel>, ChannelError> {
        let channel = self
            .blocking(move |engine| {
                channel.no = engine.state.next_number("channels")?;
                engine.state.write(&[Change::put(Table::Channels, channel.no.to_be_bytes(), &channel)?])?;
                Ok(channel)
            })
            .await?;
        Ok(self.engine.directory.put(channel))
    }

    async fn first_token(&self, channel: &Channel) -> Result<String, ChannelError> {
        let first = NewToken { scopes: Scope::ALL.to_vec(), name: Some("first token".into()), expires_ms: None };
        let (_, text) = self.create_token(channel, first).await?;
        Ok(text)
    }

    /// The slug made of a name, or with a part of the id behind it when that is taken or empty.
    fn free_slug(&self, wanted: &str, id: &str) -> String {
        let free = |slug: &str| channel::check_slug(slug).is_ok() && self.find(ChannelKind::Map, slug).is_none();
        if free(wanted) {
            return wanted.into();
        }
        let short: String = wanted.chars().take(channel::SLUG_BYTES_MAX - 9).collect();
        let longer = format!("{short}-{}", &id[..8]);
        // a map's own id, without hyphens so that it is no UUID, is unique whatever the names are
        if !short.is_empty() && free(&longer) { longer } else { format!("map-{}", id.replace('-', "")) }
    }

    /// Changes a map, or the name of an organization.
    pub async fn change_channel(&self, map: &Channel, change: MapChange) -> Result<Arc<Channel>, ChannelError> {
        if map.is_system() {
            return Err(ChannelError::System);
        }
        let _one_at_a_time = self.changes.lock().await;
        // read again: another change may have come between
        let mut map = Channel::clone(&*self.channel(map.no()).ok_or(ChannelError::Gone)?);
        if let Some(name) = change.name {
            channel::check_name(&name).map_err(invalid("name"))?;
            map.name = name;
        }
        if let Some(slug) = change.slug.filter(|slug| **slug != *map.slug) {
            channel::check_slug(&slug).map_err(invalid("slug"))?;
            if self.find(ChannelKind::Map, &slug).is_some() {
                return Err(ChannelError::Taken("slug"));
            }
            map.slug = slug.into();
        }
        if let Some(event_names) = change.event_names {
            map.event_names = event_names;
        }
        map.updated_ms = clock::now_ms();
        let map = self
            .blocking(move |engine| {
                engine.state.write(&[Change::put(Table::Channels, map.no.to_be_bytes(), &map)?])?;
                Ok(map)
            })
            .await?;
        let map = self.engine.directory.put(map);
        self.refresh_webhooks(&map).await;
        Ok(map)
    }

    /// Deletes a channel with its tokens, webhooks and sources; its streams end. Its events are not read any more and leave with
    /// retention.
    pub async fn delete_channel(&self, map: &Channel) -> Result<(), ChannelError> {
        if map.is_system() {
            return Err(ChannelError::System);
        }
        let _one_at_a_time = self.changes.lock().await;
        let no = map.no();
        self.channel(no).ok_or(ChannelError::Gone)?;
        let tokens = self.engine.access.list(Some(no));
        let mut changes = vec![Change::delete(Table::Channels, no.0.to_be_bytes())];
        changes.extend(tokens.iter().map(|token| Change::delete(Table::Tokens, token.id.as_bytes())));
        let webhooks = self.engine.webhook_registry.list(no);
        for webhook in &webhooks {
            self.end_webhook(&webhook.id).await;
        }
        let sources = self.engine.source_registry.list(Some(no));
        for source in &sources {
            self.engine.source_registry.remove(&source.source.id);
        }
        self.blocking(move |engine| {
            for webhook in webhooks {
                changes.extend(storage::delete(&engine.state, &webhook.id)?);
            }
            for source in sources {
                changes.extend(sources::deletion(&engine.state, &source.source.id)?);
            }
            engine.state.write(&changes)
        })
        .await?;
        self.engine.directory.remove(no);
        for token in tokens {
            self.engine.access.remove(&token.id);
        }
        // when the registry is gone the server is stopping, and with it every stream
        self.engine.registry.do_send(CloseStreams { no });
        Ok(())
    }
}
