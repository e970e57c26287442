//! How far a pass is.

use memorygate_proto::v1;

use crate::position::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Memories that were looked at so far.
    pub looked_at: u64,
    /// How many are to be, as far as is known.
    pub of: u64,
    /// Steps that were done.
    pub done: u64,
    /// Steps that met something that had changed since they were planned: nothing was done.
    pub refused: u64,
    /// Epochs so far.
    pub epochs: u64,
    /// Whether the pass is over.
    pub finished: bool,
    /// Of the last write, if there was one.
    pub position: Option<Position>,
}

impl Progress {
    pub(super) fn from_wire(wire: v1::RunConsolidationResponse) -> Result<Self, String> {
        Ok(Self {
            looked_at: wire.looked_at,
            of: wire.of,
            done: wire.done,
            refused: wire.refused,
            epochs: wire.epochs,
            finished: wire.finished,
            position: match wire.position {
                None => None,
                position => Some(Position::from_wire(position)?),
            },
        })
    }
}
