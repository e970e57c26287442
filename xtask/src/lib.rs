//! The repository's own tools: what a compiler and a linter do not check, and coverage.
//!
//! Nothing here is part of the product, and no crate of the product is imported: a tool that checks
//! the build must build while the product does not.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test panics on failure"))]

pub mod coverage;
pub mod tidy;
