//! Which actor stands for which channel, and which webhooks have to hear of it: written by the registry and the webhook
//! actors, read by the journal for each batch.

pub mod frame;
pub mod trace;

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

use actix::Addr;

use crate::catalog::webhooks::Bell;
use crate::model::event::ChannelNo;
use crate::streams::channel::ChannelActor;

#[derive(Default)]
pub struct Routes {
    channels: RwLock<HashMap<ChannelNo, Addr<ChannelActor>>>,
    bells: RwLock<HashMap<ChannelNo, Vec<Arc<Bell>>>>,
}

impl Routes {
    /// The running actor of the channel; none when nobody listens to it.
    pub fn channel(&self, no: ChannelNo) -> Option<Addr<ChannelActor>> {
        self.channels.read().get(&no).cloned()
    }

    pub fn open(&self, no: ChannelNo, addr: Addr<ChannelActor>) {
        self.channels.write().insert(no, addr);
    }

    /// Takes the route away, unless another actor has taken the place in the meantime.
    pub fn close(&self, no: ChannelNo, addr: &Addr<ChannelActor>) {
        let mut channels = self.channels.write();
        if channels.get(&no) == Some(addr) {
            channels.remove(&no);
        }
    }

    pub fn running(&self) -> usize {
        self.channels.read().len()
    }

    /// Wakes the webhooks of a channel whose log has grown. Does not block.
    pub fn wake_webhooks(&self, no: ChannelNo) {
        let bells = self.bells.read();
        bells.get(&no).into_iter().flatten().for_each(|bell| bell.ring());
    }

    pub fn add_bell(&self, no: ChannelNo, bell: Arc<Bell>) {
        self.bells.write().entry(no).or_default().push(bell);
    }

    pub fn remove_bell(&self, no: ChannelNo, bell: &Arc<Bell>) {
        let mut bells = self.bells.write();
        if let Some(of_channel) = bells.get_mut(&no) {
            of_channel.retain(|other| !Arc::ptr_eq(other, bell));
            if of_channel.is_empty() {
                bells.remove(&no);
            }
        }
    }
}
