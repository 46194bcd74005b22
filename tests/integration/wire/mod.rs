//! What the API promises to those who use it rightly.

mod access;
mod api;
mod audit;
mod bodies;
mod compression;
mod conformance;
mod credentials;
mod document;
mod feed;
mod history;
mod json;
mod limits;
mod maps;
mod matrix;
mod organization_webhooks;
mod organizations;
mod pages;
mod publish;
mod realtime;
mod streams;
mod tickets;
mod trace;
mod webhooks;
mod websocket;
