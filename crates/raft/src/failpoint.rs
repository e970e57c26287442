//! Named steps at which a test makes storage fail, to see that nothing is lost or acknowledged
//! wrongly. A running node has none armed.

use std::{io, sync::Arc};

type Hook = dyn Fn(&'static str) -> io::Result<()> + Send + Sync;

#[derive(Clone, Default)]
pub(crate) struct Failpoints(Option<Arc<Hook>>);

impl Failpoints {
    #[cfg(test)]
    pub(crate) fn new(
        hook: impl Fn(&'static str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// The error that a test wants at this step, if any.
    pub(crate) fn hit(&self, step: &'static str) -> io::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(hook) => hook(step),
        }
    }
}
