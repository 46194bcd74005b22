//! Maps and organizations: create, change, delete.

use std::sync::Arc;

use super::tokens::FreshToken;
use super::{Hub, NewToken, TokenError};
use crate::catalog::{ADMIN, Catalog, ChangeError, View, record};
use crate::clock;
use crate::documents::{Change, DocumentError, Documents, Table};
use crate::journal::{AppendError, Urgency};
use crate::model::access::Scope;
use crate::model::channel::{self, Channel, ChannelKind, DEFAULT_ORGANIZATION, NameError, SYSTEM_ORGANIZATION};

/// A map that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct NewMap {
    pub name: String,
    /// Absent: made of the name.
    pub slug: Option<String>,
    /// A UUID; absent: made by chance.
    pub id: Option<String>,
    /// Of its first token; absent: made of the name.
    pub token_name: Option<String>,
}

/// An organization that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct NewOrganization {
    pub name: String,
    /// Absent: `org_<ULID>`.
    pub id: Option<String>,
    /// Of its first token; absent: made of the name.
    pub token_name: Option<String>,
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
    Append(#[from] AppendError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A channel that has no number yet.
fn new_channel(kind: ChannelKind, id: &str, slug: &str, name: String) -> Channel {
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

/// The slug made of a name, or with a part of the id behind it when that is taken or empty.
fn free_slug(view: &View<'_>, wanted: &str, id: &str) -> String {
    let free = |slug: &str| channel::check_slug(slug).is_ok() && view.find(ChannelKind::Map, slug).is_none();
    if free(wanted) {
        return wanted.into();
    }
    let short: String = wanted.chars().take(channel::SLUG_BYTES_MAX - 9).collect();
    let longer = format!("{short}-{}", &id[..8]);
    // a map's own id, without hyphens so that it is no UUID, is unique whatever the names are
    if !short.is_empty() && free(&longer) { longer } else { format!("map-{}", id.replace('-', "")) }
}

/// The channel with its number, and the changes that make it.
///
/// # Errors
/// There are no numbers left, or the name is too long for a document.
fn make_channel(view: &View<'_>, mut channel: Channel) -> Result<(Channel, Vec<Change>), DocumentError> {
    let (no, taken) = view.take_channel_no()?;
    channel.no = no.0;
    let made = record::put_channel(&channel)?;
    Ok((channel, vec![taken, made]))
}

/// The token that a new channel begins with: it may do everything. Unless it is given a name, that tells whose it is among
/// the first tokens of all channels.
fn first_token(name: Option<String>, channel_name: &str) -> Result<FreshToken, ChannelError> {
    let made = || {
        let mut made = format!("first token of {channel_name}");
        while made.len() > channel::NAME_BYTES_MAX {
            made.pop();
        }
        made
    };
    let name = name.unwrap_or_else(made);
    channel::check_name(&name).map_err(invalid("token_name"))?;
    let created_by = Some(ADMIN.into());
    Ok(FreshToken::new(NewToken { scopes: Scope::ALL.to_vec(), name: Some(name), expires_ms: None, created_by })?)
}

impl Hub {
    /// Creates a map and its first token, which has all scopes. The token's text is returned once and kept nowhere.
    ///
    /// # Errors
    /// What was asked for cannot be, the id or the slug is taken, there are too many channels, or it could not be stored.
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
        let (name, wanted) = (new.name, new.slug);
        self.create_channel(first_token(new.token_name, &name)?, |view| {
            if view.find(ChannelKind::Map, &id).is_some() {
                return Err(ChannelError::Taken("id"));
            }
            let slug = match &wanted {
                Some(slug) if view.find(ChannelKind::Map, slug).is_some() => return Err(ChannelError::Taken("slug")),
                Some(slug) => slug.clone(),
                None => free_slug(view, &channel::slug_of(&name), &id),
            };
            Ok(new_channel(ChannelKind::Map, &id, &slug, name.clone()))
        })
        .await
    }

    /// Creates an organization and its first token, which has all scopes. The token's text is returned once and kept
    /// nowhere.
    ///
    /// # Errors
    /// What was asked for cannot be, the id is taken, there are too many channels, or it could not be stored.
    pub async fn create_organization(&self, new: NewOrganization) -> Result<(Arc<Channel>, String), ChannelError> {
        channel::check_name(&new.name).map_err(invalid("name"))?;
        if let Some(id) = &new.id {
            channel::check_organization_id(id).map_err(invalid("id"))?;
        }
        let (name, id) = (new.name, new.id.unwrap_or_else(|| format!("org_{}", clock::fresh_ulid())));
        self.create_channel(first_token(new.token_name, &name)?, |view| {
            match view.find(ChannelKind::Organization, &id) {
                Some(_) => Err(ChannelError::Taken("id")),
                None => Ok(new_channel(ChannelKind::Organization, &id, &id, name.clone())),
            }
        })
        .await
    }

    /// Creates a channel and its first token in one commit. `named` gives it its names, or says which are taken.
    async fn create_channel(
        &self,
        token: FreshToken,
        named: impl Fn(&View<'_>) -> Result<Channel, ChannelError>,
    ) -> Result<(Arc<Channel>, String), ChannelError> {
        let limits = &self.rooms.limits;
        let channel = self
            .change::<_, ChannelError>(Urgency::Normal, |view| {
                if view.count_channels() >= limits.channels {
                    return Err(ChannelError::TooMany);
                }
                let (channel, mut changes) = make_channel(view, named(view)?)?;
                let token = token.of(channel.no(), view, limits.tokens_per_channel)?;
                changes.push(record::put_token(&token)?);
                Ok((changes, Arc::new(channel)))
            })
            .await?;
        Ok((channel, token.text))
    }

    /// Changes a map, or the name of an organization.
    ///
    /// # Errors
    /// What was asked for cannot be, the slug is taken, the channel is gone, or the change could not be stored.
    pub async fn change_channel(&self, map: &Channel, change: MapChange) -> Result<Arc<Channel>, ChannelError> {
        if map.is_system() {
            return Err(ChannelError::System);
        }
        let no = map.no();
        let map = self
            .change::<_, ChannelError>(Urgency::Normal, |view| {
                let mut map = Channel::clone(view.channel(no).ok_or(ChannelError::Gone)?);
                if let Some(name) = &change.name {
                    channel::check_name(name).map_err(invalid("name"))?;
                    map.name.clone_from(name);
                }
                if let Some(slug) = change.slug.as_ref().filter(|slug| ***slug != *map.slug) {
                    channel::check_slug(slug).map_err(invalid("slug"))?;
                    if view.find(ChannelKind::Map, slug).is_some() {
                        return Err(ChannelError::Taken("slug"));
                    }
                    map.slug = slug.as_str().into();
                }
                if let Some(event_names) = change.event_names {
                    map.event_names = event_names;
                }
                map.updated_ms = clock::now_ms();
                Ok((vec![record::put_channel(&map)?], Arc::new(map)))
            })
            .await?;
        self.refresh_webhooks(&map).await;
        Ok(map)
    }

    /// Deletes a channel with its tokens, webhooks and sources; its streams end. Its events are not read any more and leave with
    /// retention.
    ///
    /// # Errors
    /// The channel is gone or the server's own, or the deletion could not be stored: then nothing has changed.
    pub async fn delete_channel(&self, map: &Channel) -> Result<(), ChannelError> {
        if map.is_system() {
            return Err(ChannelError::System);
        }
        let no = map.no();
        self.change(Urgency::Reserve, |view| {
            view.channel(no).ok_or(ChannelError::Gone)?;
            Ok((view.delete_channel(no), ()))
        })
        .await
    }

    /// Makes the organizations that are there from the beginning: `system` always, `default` once, so that it can be
    /// deleted.
    ///
    /// # Errors
    /// They could not be stored.
    pub(super) async fn first_channels(catalog: &Catalog, documents: &Documents) -> Result<(), ChannelError> {
        let is_begun = documents.contains(Table::Numbers, BEGUN);
        let changed = catalog.change(Urgency::Reserve, |view| {
            let mut wanted = vec![(SYSTEM_ORGANIZATION, "The server's own events")];
            let mut changes = Vec::new();
            if !is_begun {
                wanted.push((DEFAULT_ORGANIZATION, "Default organization"));
                changes.push(Change::put(Table::Numbers, BEGUN, &1)?);
            }
            for (id, name) in wanted {
                if view.find(ChannelKind::Organization, id).is_none() {
                    let channel = new_channel(ChannelKind::Organization, id, id, name.into());
                    changes.extend(make_channel(view, channel)?.1);
                }
            }
            Ok((changes, ()))
        });
        changed.await.map_err(ChangeError::<ChannelError>::into_error)
    }
}

/// The number that is stored when the first start has made its organization.
const BEGUN: &str = "begun";
