//! A real server in this process, on ports that the system chooses, asked through the generated
//! client; and the real binary where a process must die.

#![allow(
    clippy::disallowed_methods,
    reason = "the channels of a test hold a few messages, and it ends by itself"
)]
#![allow(
    clippy::unnecessary_wraps,
    reason = "times are optional in every message that they are built for"
)]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test panics on failure, and its modules are of one program"
)]

mod alarms;
mod backup;
mod bad_input;
mod binary;
mod cluster;
mod cluster_service;
mod consolidating;
mod corruption;
mod deadlines;
mod disk;
mod drain;
mod history;
mod hooks;
mod learning;
mod listing;
mod model;
mod mutations;
mod object_store;
mod observability;
mod overload;
mod privacy;
mod readiness;
mod recalling;
mod restart;
mod scopes;
mod server;
mod upgrade;
mod wire;
