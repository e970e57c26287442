//! One writer: learns what nobody learned before, as fast as it is answered with short pauses, and
//! books every write before it is sent.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use memorygate_client::{Client, Experience, Learn, Outcome, Settings};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::watch;

use super::ledger::{Fate, Write};
use crate::lessons::Lessons;

/// Experiences of one write, at most.
const BATCH_MAX: usize = 4;

/// One writer in so many has its texts embedded; the others bring vectors, which is faster and lets
/// kills meet more writes.
const ONE_IN_EMBEDDED: u32 = 8;

/// Between two writes, at most: the disk would fill with rounds otherwise.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// Bytes that follow an experience's text, at most; so that writes cross blocks of files.
const FILLER_MAX: usize = 4096;

/// An answer takes milliseconds; a server that was killed gives none.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    client: Client,
    namespace: Arc<str>,
    number: u32,
    random: StdRng,
    lessons: Lessons,
}

impl Writer {
    /// `number` and `seed` make its texts.
    pub(super) fn new(
        endpoint: &str,
        namespace: Arc<str>,
        number: u32,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let settings = Settings {
            namespace: namespace.to_string(),
            timeout: TIMEOUT,
            // A repeat would hide the moment of the kill from the ledger.
            attempts_max: 1,
            ..Settings::new([endpoint])
        };
        let seed = seed ^ u64::from(number);
        Ok(Self {
            client: Client::new(settings).context("connect a writer")?,
            namespace,
            number,
            random: StdRng::seed_from_u64(seed),
            lessons: Lessons::new(seed),
        })
    }

    /// Writes until `is_killed`. An error before that is one of the server.
    pub(super) async fn run(
        mut self,
        is_killed: watch::Receiver<bool>,
    ) -> anyhow::Result<Vec<Write>> {
        let mut writes = Vec::new();
        while !*is_killed.borrow() {
            let request_id = match self.client.request_id().await {
                Ok(id) => id,
                Err(_) if *is_killed.borrow() => break,
                Err(error) => return Err(error).context("make a request id"),
            };
            let experiences = self.experiences();
            let keys = experiences.iter().map(|e| e.key_in(&self.namespace));
            let keys = keys.collect::<Result<_, _>>().context("make a key")?;
            let learn = Learn::new(experiences)
                .namespace(&*self.namespace)
                .request_id(request_id);
            let fate = match self.client.learn(learn.clone()).await {
                Ok(reply) => {
                    let learned: Vec<_> = reply.learned.iter().map(|l| l.key).collect();
                    if learned != keys {
                        bail!("learned as {learned:?}, expected {keys:?}");
                    }
                    Fate::Acknowledged
                }
                Err(error) if !*is_killed.borrow() => {
                    return Err(error).context("learn on a server that runs");
                }
                Err(error) => match error.outcome() {
                    Outcome::Unknown => Fate::Unknown,
                    Outcome::Failed => Fate::Failed,
                },
            };
            writes.push(Write { learn, keys, fate });
            let pause = self.random.random_range(Duration::ZERO..PAUSE_MAX);
            tokio::time::sleep(pause).await;
        }
        Ok(writes)
    }

    fn experiences(&mut self) -> Vec<Experience> {
        let count = self.random.random_range(1..=BATCH_MAX);
        (0..count).map(|_| self.experience()).collect()
    }

    fn experience(&mut self) -> Experience {
        let lesson = self.lessons.lesson();
        // The number keeps the texts of two writers apart, whatever their seeds draw.
        let mut content = format!("{} of writer {}", lesson.content, self.number);
        if self.number.is_multiple_of(ONE_IN_EMBEDDED) {
            return Experience { content, ..lesson };
        }
        let filler = self.random.random_range(0..FILLER_MAX);
        content.extend(std::iter::repeat_n('x', filler));
        Experience {
            content,
            vector: self.lessons.vector(),
            session: None,
            ..lesson
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn writer(number: u32) -> Writer {
        Writer::new("http://127.0.0.1:1", "round-00000".into(), number, 1).unwrap()
    }

    #[test]
    fn no_two_writers_write_the_same() {
        let mut contents = BTreeSet::new();
        for number in 0..4 {
            let mut writer = writer(number);
            for _ in 0..100 {
                let experience = writer.experience();
                assert_eq!(experience.vector.is_empty(), number == 0);
                assert!(contents.insert(experience.content), "written before");
            }
        }
    }

    #[tokio::test]
    async fn a_failure_before_the_kill_is_the_servers() {
        let (killed, is_killed) = watch::channel(false);
        let error = writer(1).run(is_killed.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "make a request id");
        killed.send_replace(true);
        assert!(writer(1).run(is_killed).await.unwrap().is_empty());
    }
}
