//! The client against a server in this process.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

mod cluster;
mod consolidation;
mod examples;
mod history;
mod stores;
mod transport;
