//! Set format: from here on the log is written in a newer format. The leader proposes it when all
//! members read that one; it never goes back.

use minicbor::{Decode, Encode};

use crate::{
    apply::Outcome,
    state::{Read, ReadError, Transaction},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetFormat {
    #[n(0)]
    pub format: u8,
}

impl SetFormat {
    pub(crate) fn apply<R: Read>(self, tx: &mut Transaction<'_, R>) -> Result<Outcome, ReadError> {
        let format = tx.format()?.max(self.format);
        tx.set_format(format)?;
        Ok(Outcome::Format { format })
    }
}
