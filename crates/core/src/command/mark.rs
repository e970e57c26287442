//! Mark: name a position of the log, so that every replica can read its whole state as of exactly
//! there. It changes no memory; what a replica does when it applies one is its storage's business.

use minicbor::{Decode, Encode};

use crate::apply::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Mark {}

impl Mark {
    pub(crate) fn apply(self) -> Outcome {
        Outcome::Marked
    }
}
