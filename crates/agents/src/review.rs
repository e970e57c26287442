//! The code-review agent: a diff in, findings of past reviews out.

pub mod diff;

pub use self::diff::Diff;
