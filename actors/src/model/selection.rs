//! Which channels are meant where more than one may be: one, a set of them, or all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::channel::{Channel, ChannelKind, Owner};
use super::event::ChannelNo;

/// Most entries that a set is made of.
pub const CHANNELS_MAX: usize = 100;

/// An entry of a set.
#[derive(Clone, PartialEq, Debug)]
pub enum Selector {
    Channel(Arc<Channel>),
    /// All of a kind, `map:*` or `organization:*`, also those that are made later; not the server's own organization.
    Kind(ChannelKind),
}

impl Selector {
    /// `map:<id>`, `organization:<id>`, `map:*` or `organization:*`.
    pub fn name(&self) -> String {
        match self {
            Selector::Channel(channel) => channel.name_on_tokens(),
            Selector::Kind(kind) => format!("{}:*", kind.as_str()),
        }
    }
}

/// Several channels: some by their numbers, which are never given to other channels, and all of a kind.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ChannelSet {
    /// In order, each once.
    #[serde(default)]
    numbers: Vec<u32>,
    /// All maps, also those that are made later.
    #[serde(default)]
    maps: bool,
    /// All organizations but the server's own, also those that are made later.
    #[serde(default)]
    organizations: bool,
}

impl ChannelSet {
    pub fn of(selectors: &[Selector]) -> ChannelSet {
        let mut set = ChannelSet::default();
        for selector in selectors {
            match selector {
                Selector::Channel(channel) => set.numbers.push(channel.no),
                Selector::Kind(ChannelKind::Map) => set.maps = true,
                Selector::Kind(ChannelKind::Organization) => set.organizations = true,
            }
        }
        set.numbers.sort_unstable();
        set.numbers.dedup();
        set
    }

    /// The channels that are in it one by one.
    pub fn listed(&self) -> impl ExactSizeIterator<Item = ChannelNo> + Clone {
        self.numbers.iter().copied().map(ChannelNo)
    }

    /// The kinds of which all channels are in it.
    pub fn kinds(&self) -> impl Iterator<Item = ChannelKind> {
        let maps = self.maps.then_some(ChannelKind::Map);
        maps.into_iter().chain(self.organizations.then_some(ChannelKind::Organization))
    }

    pub fn has_kind(&self, kind: ChannelKind) -> bool {
        match kind {
            ChannelKind::Map => self.maps,
            ChannelKind::Organization => self.organizations,
        }
    }

    /// Whether the channel is in it, one by one or by its kind.
    pub fn contains(&self, no: ChannelNo, owner: &Owner) -> bool {
        self.numbers.binary_search(&no.0).is_ok() || self.has_kind(owner.kind) && !owner.is_system()
    }

    /// Whether every channel of the selector is in it.
    pub fn includes(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Channel(channel) => {
                self.numbers.binary_search(&channel.no).is_ok() || self.has_kind(channel.kind) && !channel.is_system()
            }
            Selector::Kind(kind) => self.has_kind(*kind),
        }
    }
}

/// What is read, in the order of the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Selection {
    One(ChannelNo),
    Several(Arc<ChannelSet>),
    All,
}

impl Selection {
    /// The number under which the log is read.
    pub fn no(&self) -> ChannelNo {
        match self {
            Selection::One(no) => *no,
            Selection::Several(_) | Selection::All => ChannelNo::ALL,
        }
    }

    /// Whether every channel of the selector is in it.
    pub fn includes(&self, selector: &Selector) -> bool {
        match self {
            Selection::One(no) => matches!(selector, Selector::Channel(channel) if channel.no() == *no),
            Selection::Several(set) => set.includes(selector),
            Selection::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(no: u32, kind: ChannelKind, id: &str) -> Arc<Channel> {
        Arc::new(Channel {
            no,
            kind,
            id: id.into(),
            slug: id.into(),
            name: id.into(),
            inserted_ms: 0,
            updated_ms: 0,
            event_names: None,
            webhooks_enabled: false,
        })
    }

    #[test]
    fn a_set_holds_what_is_listed_and_what_is_of_a_kind_but_the_servers_own_organization_only_by_its_name() {
        let (map, acme) = (channel(1, ChannelKind::Map, "m"), channel(2, ChannelKind::Organization, "acme"));
        let system = channel(3, ChannelKind::Organization, "system");
        let holds = |selectors: &[Selector], channel: &Arc<Channel>| {
            let set = ChannelSet::of(selectors);
            let contains = set.contains(channel.no(), &channel.owner());
            assert_eq!(set.includes(&Selector::Channel(channel.clone())), contains);
            contains
        };
        let listed = [Selector::Channel(acme.clone()), Selector::Channel(map.clone()), Selector::Channel(map.clone())];
        assert_eq!(ChannelSet::of(&listed).listed().collect::<Vec<_>>(), [ChannelNo(1), ChannelNo(2)]);
        assert!(holds(&listed, &map) && holds(&listed, &acme) && !holds(&listed, &system));
        let all = [Selector::Kind(ChannelKind::Organization)];
        assert!(!holds(&all, &map) && holds(&all, &acme) && !holds(&all, &system));
        assert!(holds(&[Selector::Channel(system.clone())], &system));
        let set = ChannelSet::of(&all);
        assert!(set.includes(&all[0]) && !set.includes(&Selector::Kind(ChannelKind::Map)));
    }

    #[test]
    fn a_set_reads_back_from_its_document() {
        let set = ChannelSet::of(&[
            Selector::Kind(ChannelKind::Map),
            Selector::Channel(channel(7, ChannelKind::Organization, "acme")),
        ]);
        let text = serde_json::to_string(&set).expect("JSON");
        assert_eq!(serde_json::from_str::<ChannelSet>(&text).expect("JSON"), set);
    }
}
