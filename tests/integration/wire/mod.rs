//! What the API promises to those who use it rightly.

mod access;
mod history;
mod limits;
mod maps;
mod pages;
mod publish;
mod streams;
mod tickets;
mod trace;
mod webhooks;
mod websocket;
