//! What the API promises to those who use it rightly.

mod access;
mod document;
mod history;
mod limits;
mod maps;
mod organization_webhooks;
mod pages;
mod publish;
mod streams;
mod tickets;
mod trace;
mod webhooks;
mod websocket;
