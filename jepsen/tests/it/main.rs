//! The checkers on made-up histories, the proxy between two ends of our own, and short real runs.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

mod checkers;
mod consolidation;
mod proxy;
mod runs;
