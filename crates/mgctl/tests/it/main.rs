//! `mgctl` as a shell script sees it: arguments in; output, messages and exit code out.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

mod agent;
mod basics;
mod chat;
mod cluster;
mod consolidation;
mod export;
mod import;
mod mcp;
mod run;
mod snapshot;
mod verbs;
