//! Agents that get better with use: each recalls what was done before, decides, and learns what came
//! of it.
//!
//! It decides how a task becomes a question to the memory, how past cases become a decision, and what
//! of an outcome is learned. It refuses to know where the memory is kept and how a result is shown.
//!
//! ```text
//!           ┌──────────────── MemoryEnabledAgent ─────────────────┐
//! Task ────▶│ recall ─▶ Evidence ─▶ Executor ─▶ Decision          │────▶ whoever acts on it
//!           │                          ├── CaseBased              │           │
//!           │                          └── Chat ══▶ a model       │           │
//! Outcome ─▶│ learn the case, rate what was used                  │◀──────────┘
//!           └─────────────────────────────────────────────────────┘
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod agent;
pub mod calibration;
pub mod case_based;
pub mod chat;
pub mod cited;
pub mod context;
pub mod decision;
pub mod evidence;
pub mod executor;
pub mod incident;
pub mod optimise;
pub mod outcome;
pub mod review;
pub mod task;
pub mod troubleshoot;

pub use crate::{
    agent::{Concluded, MemoryEnabledAgent, Performed},
    case_based::CaseBased,
    chat::Chat,
    cited::Cited,
    decision::{Decision, Proposal},
    evidence::{Case, Evidence, Known},
    executor::Executor,
    outcome::Outcome,
    task::{Action, Task},
};
