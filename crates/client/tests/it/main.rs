//! The client and `mgctl` against a server in this process.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

mod cli;
mod cluster;
mod examples;
mod fake;
mod stores;
mod transport;
