//! What other systems say, as plain types: the alerts of Alertmanager and the jobs of CI systems.
//!
//! It decides how their messages are read, within which bounds, and which experience each becomes. It
//! refuses to know how a message came, whether its sender may send it, what time it is, and who
//! stores the experience.
//!
//! ```text
//! bytes ─▶ alertmanager::Notification ─▶ Alert ──┐
//!                     └─▶ Alerts (each once)     ├─▶ Experience ─▶ whoever learns it
//! bytes ─▶ ci::Event ─▶ Job ─────────────────────┘
//! ```
//!
//! Fields that are not known are passed over: these are other systems' formats, and they grow.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod alertmanager;
pub mod ci;
pub mod error;
pub mod experience;
pub mod instant;
mod json;
mod text;

pub use crate::{error::Error, experience::Experience};

/// Bytes of one message: some 4,000 alerts of 1 KiB each.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
