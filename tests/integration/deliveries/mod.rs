//! What the delivery engine promises whatever happens: kills, receivers that hang, names that change their addresses.

mod crash;
mod fairness;
mod handshake;
mod notices;
mod rebinding;
mod tls;
