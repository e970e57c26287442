//! Who may receive a snapshot: whoever began last. Somebody who begins again has given up what came
//! before, though nothing may have been heard of that.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};

pub(crate) struct Turns {
    latest: watch::Sender<u64>,
    one_at_a_time: Arc<Mutex<()>>,
}

/// Held while a snapshot is received and installed.
pub(crate) struct Turn {
    number: u64,
    latest: watch::Receiver<u64>,
    _one_at_a_time: OwnedMutexGuard<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(0),
            one_at_a_time: Arc::default(),
        }
    }
}

impl Turns {
    /// Asks whoever has the turn to end, and waits until it has.
    pub(crate) async fn take(&self) -> Turn {
        let mut number = 0;
        self.latest.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        Turn {
            number,
            _one_at_a_time: self.one_at_a_time.clone().lock_owned().await,
            latest: self.latest.subscribe(),
        }
    }
}

impl Turn {
    /// Resolves when somebody else wants the turn.
    pub(crate) async fn is_wanted(&mut self) {
        let number = self.number;
        if self
            .latest
            .wait_for(|latest| *latest > number)
            .await
            .is_err()
        {
            // Nobody can want it any more.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_comes_later_ends_the_turn_of_who_was_before() {
        let turns = Arc::new(Turns::default());
        let mut first = turns.take().await;
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        first.is_wanted().await;
        drop(first);
        let mut second = second.await.unwrap();
        drop(turns.latest.subscribe());
        let third = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        second.is_wanted().await;
        drop(second);
        let mut third = third.await.unwrap();
        let wanted = tokio::time::timeout(std::time::Duration::from_millis(1), third.is_wanted());
        assert!(wanted.await.is_err(), "nobody wants the last one");
    }
}
