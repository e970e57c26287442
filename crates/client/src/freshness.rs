//! How recent an answer has to be.

use crate::position::Position;

/// Of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Freshness {
    /// Everything that this client has seen or written: its reads never go back in time.
    #[default]
    Seen,
    /// Whatever the node that answers has now.
    Any,
    /// This position or later, such as one that another agent handed over; and what this client has
    /// seen.
    AtLeast(Position),
    /// Everything that anyone was told is done before the read began, whichever node answers. The
    /// node asks the leader first, and the leader a majority: it costs a round trip between nodes,
    /// and there is no answer without a majority.
    Linearizable,
}
