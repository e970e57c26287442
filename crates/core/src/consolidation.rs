//! Consolidation: what becomes of memories in the background.
//!
//! ```text
//! changed memories and their neighbours (index) ─┐
//! a stretch of all memories, for fading ─────────┴─▶ plan ──▶ steps, each with its reason
//!                                                                 │ the leader proposes them
//!                                                                 ▼
//!                                              command::Consolidate ──▶ apply, or refused
//! ```
//!
//! The planner is pure: the same memories, time and policy make the same plan. What it says is only a
//! proposal; whether a step is still right is decided by `apply`, from the state of that moment.

mod planner;
mod policy;
mod saying;
mod worth;

pub use self::{
    planner::{Looked, Material, Nearby, Planned, Reason, Seen, plan},
    policy::{InvalidPolicy, Policy},
    saying::{Likeness, Saying},
    worth::worth,
};
