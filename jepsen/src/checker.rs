//! Whether a correct store could have answered so. Pure: a history in, findings out.

pub mod consolidation;
pub mod feedback;
pub mod linearizable;
pub mod porcupine;
pub mod session;
pub mod set;
