//! Learning: acknowledged, so durable, experiences a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use memorygate_client::{Experience, Learn};
use tokio::task::JoinSet;

use crate::{
    lessons::Lessons,
    report::{Report, Table},
    server::Server,
    statistics::Sample,
    teach::connect,
};

/// Before what counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// A way of learning.
struct Kind {
    key: &'static str,
    title: &'static str,
    callers: usize,
    batch: usize,
    /// Whether the caller brings the vectors; otherwise the server embeds the texts.
    given: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        key: "learns_per_s_1",
        title: "one by one with vectors, 1 caller",
        callers: 1,
        batch: 1,
        given: true,
    },
    Kind {
        key: "learns_per_s_64",
        title: "one by one with vectors, 64 callers",
        callers: 64,
        batch: 1,
        given: true,
    },
    Kind {
        key: "learns_batch_per_s",
        title: "batches of 64 with vectors, 1 caller",
        callers: 1,
        batch: 64,
        given: true,
    },
    Kind {
        key: "learns_text_per_s_8",
        title: "one by one as texts, 8 callers",
        callers: 8,
        batch: 1,
        given: false,
    },
];

pub(super) async fn measure(
    server: &Server,
    namespace: &str,
    lessons: Lessons,
    seconds: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let lessons = Arc::new(Mutex::new(lessons));
    let header = ["learning", "experiences/s", "p50 ms", "p99 ms", "max ms"];
    let mut table = Table::new("Learning, every answer after a sync of the disk", header);
    for kind in &KINDS {
        eprintln!("learn {}: {seconds} s", kind.title);
        let measured = measure_kind(
            server,
            namespace,
            &lessons,
            kind,
            Duration::from_secs(seconds),
        )
        .await?;
        let sample = Sample::new(measured.times_ms).context("nothing was learned in that time")?;
        report.number(kind.key, measured.per_s);
        let (p50, p99) = (sample.percentile(50.0), sample.percentile(99.0));
        let stem = kind.key.replace("learns", "learn").replace("_per_s", "");
        report.number(&format!("{stem}_p50_ms"), p50);
        report.number(&format!("{stem}_p99_ms"), p99);
        table.row([
            kind.title.to_owned(),
            format!("{:.0}", measured.per_s),
            format!("{p50:.2}"),
            format!("{p99:.2}"),
            format!("{:.2}", sample.greatest()),
        ]);
    }
    report.table(table);
    Ok(())
}

struct Measured {
    /// Acknowledged experiences.
    per_s: f64,
    /// Of each write.
    times_ms: Vec<f64>,
}

async fn measure_kind(
    server: &Server,
    namespace: &str,
    lessons: &Arc<Mutex<Lessons>>,
    kind: &Kind,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let from = Instant::now() + WARM_UP;
    let until = from + duration;
    let (batch, given) = (kind.batch, kind.given);
    let mut callers = JoinSet::new();
    for _ in 0..kind.callers {
        let client = connect(server)?.in_namespace(namespace);
        let lessons = Arc::clone(lessons);
        callers.spawn(async move {
            let mut times_ms = Vec::new();
            while Instant::now() < until {
                let experiences = {
                    let mut lessons = lessons.lock().unwrap_or_else(PoisonError::into_inner);
                    (0..batch)
                        .map(|_| experience(&mut lessons, given))
                        .collect::<Vec<_>>()
                };
                let start = Instant::now();
                client
                    .learn(Learn::new(experiences))
                    .await
                    .context("learn")?;
                let end = Instant::now();
                // Only what was answered within the time that the rate is over.
                if end >= from && end < until {
                    times_ms.push((end - start).as_secs_f64() * 1e3);
                }
            }
            anyhow::Ok(times_ms)
        });
    }
    let mut times_ms = Vec::new();
    while let Some(of_caller) = callers.join_next().await {
        times_ms.extend(of_caller.context("a caller panicked")??);
    }
    let per_s = (times_ms.len() * batch) as f64 / duration.as_secs_f64();
    Ok(Measured { per_s, times_ms })
}

fn experience(lessons: &mut Lessons, given: bool) -> Experience {
    let lesson = lessons.lesson();
    if !given {
        return lesson;
    }
    Experience {
        vector: lessons.vector(),
        session: None,
        ..lesson
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_key_of_its_own() {
        let keys: BTreeSet<&str> = KINDS.iter().map(|kind| kind.key).collect();
        assert_eq!(keys.len(), KINDS.len());
        assert!(keys.contains("learns_per_s_1") && keys.contains("learns_per_s_64"));
    }

    #[test]
    fn a_given_vector_comes_without_a_session() {
        let mut lessons = Lessons::new(1);
        let given: Vec<Experience> = (0..50).map(|_| experience(&mut lessons, true)).collect();
        assert!(
            given
                .iter()
                .all(|e| e.vector.len() == 384 && e.session.is_none())
        );
        assert!((0..50).all(|_| experience(&mut lessons, false).vector.is_empty()));
    }
}
