//! Which actor stands for which channel: written by the registry, read by the journal for each batch.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use actix::Addr;

use crate::channel::ChannelActor;
use crate::model::event::ChannelNo;

#[derive(Default)]
pub struct Routes {
    channels: RwLock<HashMap<ChannelNo, Addr<ChannelActor>>>,
}

impl Routes {
    /// The running actor of the channel; none when nobody listens to it.
    pub fn channel(&self, no: ChannelNo) -> Option<Addr<ChannelActor>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(&no).cloned()
    }

    pub fn open(&self, no: ChannelNo, addr: Addr<ChannelActor>) {
        self.channels.write().unwrap_or_else(PoisonError::into_inner).insert(no, addr);
    }

    /// Takes the route away, unless another actor has taken the place in the meantime.
    pub fn close(&self, no: ChannelNo, addr: &Addr<ChannelActor>) {
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        if channels.get(&no) == Some(addr) {
            channels.remove(&no);
        }
    }

    pub fn running(&self) -> usize {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
