//! The server as a client of the protocol sees it, with a server of memories behind it that fails when
//! asked to.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

mod assistant;
mod http;
mod tools;
