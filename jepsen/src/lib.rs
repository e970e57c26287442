//! Fault tests: real processes, real faults, recorded histories, and checkers that decide whether a
//! correct store could have answered so.
//!
//! ```text
//! run ──▶ cluster   processes, their network, what is put under them
//!    ├──▶ workload  what clients ask ──▶ history ──▶ checker ──▶ findings
//!    ├──▶ nemesis   what breaks meanwhile, and the evidence that it did
//!    └──▶ report    verdict, histories, timeline
//! ```
//!
//! It speaks the public API alone and knows nothing of the server's insides but its files' names.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod caller;
pub mod checker;
pub mod cluster;
pub mod findings;
pub mod history;
pub mod nemesis;
pub mod planted;
pub mod report;
pub mod run;
pub mod soak;
pub mod workload;
