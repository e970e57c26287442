//! The code-review agent: what reviewers said of similar code before, at the lines of a new change.
//!
//! ```text
//! diff ─▶ pieces of added lines ─▶ question for the memory ─▶ past reviews
//!            each rule: evidence for and against ─▶ sure enough? ─▶ the closest line ─▶ Finding
//! outcome, comment ─▶ a past review of the next change
//! ```
//!
//! A past review is a memory of the domain `code_review`, in the words in which the examples for CI
//! learn a merge's comments too: what was said, then the code that it was said of.

pub mod diff;
mod finding;
mod learn;
mod past;
mod render;

pub use self::{
    diff::Diff,
    finding::{Finding, PIECES_MAX, Review, SIMILARITY_MIN, Settings, Severity, review},
    learn::{COMMENT_BYTES_MAX, Comment, Learned, conclude, learn},
    render::{Format, render},
};

#[cfg(test)]
mod tests;
