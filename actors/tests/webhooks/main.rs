//! Outgoing webhooks from end to end: a hub, and receivers on real sockets.

mod hardships;
mod races;
mod receiver;
mod stories;
mod world;
