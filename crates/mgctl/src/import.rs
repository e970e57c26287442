//! `mgctl import`: learn a file of JSON Lines, once, however often it is started.
//!
//! ```text
//! lines ─▶ parse ─▶ batch of one namespace ─▶ leave out what is known ─▶ save progress ─▶ learn
//!            └─▶ bad line: stop before anything of its batch is sent, or skip it if told to
//! ```
//!
//! Two things keep a repeated import from changing anything. A line whose memory is there already is
//! left out (its key is computed here), unless `--reinforce` says otherwise. And the batch that was
//! under way when an import ended is repeated under its own request id, see `progress.rs`.

mod lines;
mod progress;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memorygate_client::{Client, Error, Experience, Get, Kind, Learn, Reader, RequestId, record};
use serde::Serialize;

use self::{
    lines::Lines,
    progress::{Counts, InFlight, Mark, Progress, Settings},
};
use crate::{
    args::Global,
    failure::{Resumable, Usage},
    output::Output,
};

/// Lines in one write.
const BATCH_LINES: usize = 64;

/// Bytes of lines in one write, at most: far below what one command may take.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Keys that are looked up at the same time.
const LOOKUPS: usize = 16;

/// Bad lines that are told one by one.
const BAD_LINES_TOLD: usize = 20;

/// How often a call is tried: an import rides through a restart of the server.
const ATTEMPTS_MAX: u32 = 10;

const EXAMPLES: &str = "\
Each line is a JSON object: content and domain, and if wanted occurred_at, importance, metadata,
agent, session, scope (\"shared\", {\"team\": NAME} or {\"agent\": NAME}), expires_at, pinned, links
([{\"relation\": R, \"key\": K}]), vector, id (ignored), and what an export adds.

An import that was interrupted goes on where it stopped when it is started again: how far it came
stands in FILE.mgctl-progress. A line whose memory is there already is left alone.

Examples:
  mgctl import lessons.jsonl
  mgctl import lessons.jsonl --namespace team-a --skip-invalid
  zcat backup.jsonl.gz | mgctl import -";

/// Learn the experiences in a file of JSON Lines
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file; `-` reads standard input, which cannot be resumed
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave out bad lines instead of stopping at them
    #[arg(long)]
    skip_invalid: bool,
    /// Learn what is known already once more, so that it counts as seen again
    #[arg(long)]
    reinforce: bool,
    /// Begin at the first line, whatever an earlier run left
    #[arg(long)]
    restart: bool,
}

#[derive(Serialize)]
struct Document {
    lines: u64,
    created: u64,
    reinforced: u64,
    skipped_known: u64,
    skipped_invalid: u64,
    /// Lines that an earlier run had settled.
    resumed_after: u64,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let path = (args.file.as_os_str() != "-").then_some(args.file.as_path());
    let (source, length): (Box<dyn BufRead>, _) = match path {
        None => (Box::new(BufReader::new(std::io::stdin())), None),
        Some(path) => {
            let shown = path.display();
            let file = File::open(path).with_context(|| format!("open {shown}"))?;
            let length = file
                .metadata()
                .with_context(|| format!("look at {shown}"))?;
            (Box::new(BufReader::new(file)), Some(length.len()))
        }
    };
    let client = global.client_with(ATTEMPTS_MAX)?;
    let cluster_id = client.stats_of(global.namespace_or_default()).await?;
    let cluster_id = format!("{:032x}", cluster_id.position.cluster_id);
    let settings = Settings {
        namespace: global.named_namespace().map(str::to_owned),
        reinforce: args.reinforce,
        skip_invalid: args.skip_invalid,
    };
    let file = progress::File::beside(path);
    if args.restart {
        file.remove()?;
    }
    let progress = match file.load()? {
        None => Progress::new(cluster_id, settings),
        Some(left) => accept(left, &cluster_id, &settings, &file)?,
    };
    let mut import = Import {
        client,
        lines: Lines::new(source),
        file,
        bar: bar(length, output),
        pending: None,
        progress,
        output,
    };
    let resumed_after = import.resume().await?;
    while let Some(batch) = import.next_batch()? {
        import.send(batch).await?;
    }
    import.file.remove()?;
    import.bar.finish_and_clear();
    let lines = import.lines.number();
    tell(lines, resumed_after, import.progress.counts, output)
}

/// What an earlier run left, if it was the same import.
fn accept(
    left: Progress,
    cluster_id: &str,
    settings: &Settings,
    file: &progress::File,
) -> anyhow::Result<Progress> {
    let differs = if left.cluster_id != cluster_id {
        Some(format!(
            "an import into cluster {}, this is {cluster_id}",
            left.cluster_id
        ))
    } else if left.settings != *settings {
        Some("an import with other options (--namespace, --reinforce, --skip-invalid)".to_owned())
    } else {
        None
    };
    match differs {
        None => Ok(left),
        Some(what) => {
            let name = file.name();
            Err(Usage(format!(
                "{name} is of {what}: repeat it as it was, or begin anew with --restart"
            ))
            .into())
        }
    }
}

struct Import<'a> {
    client: Client,
    lines: Lines<Box<dyn BufRead>>,
    file: progress::File,
    bar: ProgressBar,
    /// A good line that belongs to the next batch.
    pending: Option<Good>,
    progress: Progress,
    output: &'a Output,
}

/// A line that is an experience.
struct Good {
    number: u64,
    bytes: usize,
    namespace: String,
    experience: Experience,
    /// Where the file stands before it.
    before: Mark,
}

/// Lines that are settled together: one write of those that are good and not known.
struct Batch {
    namespace: String,
    good: Vec<Good>,
    invalid: u64,
    end: Mark,
}

impl Import<'_> {
    /// Skips what an earlier run settled, after checking that it is still the same, and settles what
    /// that run left under way. Returns how many lines are skipped.
    async fn resume(&mut self) -> anyhow::Result<u64> {
        let settled = self.progress.settled.clone();
        self.skip_to(&settled)?;
        let Some(in_flight) = self.progress.in_flight.take() else {
            return Ok(settled.lines);
        };
        let mut sent = Vec::new();
        let wanted: BTreeSet<u64> = in_flight.lines.iter().copied().collect();
        while self.lines.number() < in_flight.end.lines {
            let before = self.mark();
            let line = self.lines.next()?.ok_or_else(|| self.changed())?;
            if wanted.contains(&line.number) {
                sent.extend(self.read(&line, before).ok());
            }
        }
        if self.mark() != in_flight.end || sent.len() != wanted.len() {
            return Err(self.changed());
        }
        let id: RequestId = in_flight.request_id.parse().context("read progress")?;
        let namespace = sent.first().map(|good| good.namespace.clone());
        let batch = Batch {
            namespace: namespace.unwrap_or_default(),
            good: sent,
            invalid: in_flight.invalid,
            end: in_flight.end.clone(),
        };
        let learn = batch.learn(id);
        match self.client.learn(learn).await {
            Ok(reply) => self.settle(&batch, reply.learned.iter(), in_flight.known),
            // The cluster no longer remembers whether it ran this id. Where known lessons are left
            // alone, looking tells as well.
            Err(error) if is_expired(&error) && !self.progress.settings.reinforce => {
                self.progress.counts.known += in_flight.known;
                self.send(batch).await?;
            }
            Err(error) if is_expired(&error) => {
                return Err(anyhow::Error::from(error).context(
                    "the batch that was under way may have been learned: look at its lines, then \
                     use --restart or remove the progress file",
                ));
            }
            Err(error) => return Err(anyhow::Error::from(error).context(self.place(&batch))),
        }
        Ok(settled.lines)
    }

    fn skip_to(&mut self, mark: &Mark) -> anyhow::Result<()> {
        while self.lines.number() < mark.lines {
            self.lines.next()?.ok_or_else(|| self.changed())?;
        }
        if mark.lines > 0 && self.mark() != *mark {
            return Err(self.changed());
        }
        self.bar.set_position(self.lines.bytes());
        Ok(())
    }

    fn changed(&self) -> anyhow::Error {
        let name = self.file.name();
        Usage(format!(
            "the file has changed since the import that left {name}: begin anew with --restart"
        ))
        .into()
    }

    /// Reads lines up to the next batch; `None` at the end of the file.
    fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut good: Vec<Good> = self.pending.take().into_iter().collect();
        let mut bytes: usize = good.iter().map(|g| g.bytes).sum();
        let mut bad = Vec::new();
        let mut any = !good.is_empty();
        while good.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let before = self.mark();
            let Some(line) = self.lines.next().context("read the file")? else {
                break;
            };
            any = true;
            if line.bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match self.read(&line, before) {
                Err(error) => bad.push((line.number, error)),
                Ok(next) if good.first().is_some_and(|g| g.namespace != next.namespace) => {
                    self.pending = Some(next);
                    break;
                }
                Ok(next) => {
                    bytes += next.bytes;
                    good.push(next);
                }
            }
        }
        if !any {
            return Ok(None);
        }
        self.judge(&bad)?;
        let end = match &self.pending {
            Some(next) => next.before.clone(),
            None => self.mark(),
        };
        Ok(Some(Batch {
            namespace: good
                .first()
                .map(|g| g.namespace.clone())
                .unwrap_or_default(),
            good,
            invalid: bad.len() as u64,
            end,
        }))
    }

    /// Tells the bad lines; they end the import unless they may be skipped.
    fn judge(&self, bad: &[(u64, record::Error)]) -> anyhow::Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = bad
            .iter()
            .take(BAD_LINES_TOLD)
            .map(|(number, error)| format!("line {number}: {error}"))
            .collect();
        let mut text = told.join("\n");
        if bad.len() > told.len() {
            text.push_str(&format!("\nand {} more", bad.len() - told.len()));
        }
        if self.progress.settings.skip_invalid {
            self.bar.suspend(|| self.output.note(&text));
            return Ok(());
        }
        let settled = self.progress.settled.lines;
        Err(Usage(format!(
            "{text}\nstopped; {settled} lines before are settled. Correct the lines and use \
             --restart (what is stored is left alone), or leave them out with --skip-invalid \
             --restart"
        ))
        .into())
    }

    /// Sends what of a batch is not known, and settles it.
    async fn send(&mut self, mut batch: Batch) -> anyhow::Result<()> {
        let known = if self.progress.settings.reinforce {
            0
        } else {
            self.leave_out_known(&mut batch).await?
        };
        if batch.good.is_empty() {
            self.settle(&batch, [].iter(), known);
            self.file.save(&self.progress)?;
            return Ok(());
        }
        let id = self.client.request_id().await?;
        self.progress.in_flight = Some(InFlight {
            request_id: id.to_string(),
            lines: batch.good.iter().map(|g| g.number).collect(),
            end: batch.end.clone(),
            known,
            invalid: batch.invalid,
        });
        self.file.save(&self.progress)?;
        let reply = self.client.learn(batch.learn(id)).await;
        let reply = reply.with_context(|| self.place(&batch))?;
        self.settle(&batch, reply.learned.iter(), known);
        Ok(())
    }

    /// Where the import stands when a batch is not answered.
    fn place(&self, batch: &Batch) -> Resumable {
        let number = |good: Option<&Good>| good.map_or(0, |g| g.number);
        let (first, last) = (number(batch.good.first()), number(batch.good.last()));
        Resumable {
            at: format!("lines {first} to {last}"),
            next: if self.file.name().is_empty() {
                "start the import again: what is stored is left alone"
            } else {
                "start the same import again: it goes on from there and learns nothing twice"
            },
        }
    }

    /// Takes out the lines whose memory is there already, and those that repeat another line of the
    /// batch. Returns how many.
    async fn leave_out_known(&self, batch: &mut Batch) -> anyhow::Result<u64> {
        let before = batch.good.len();
        let mut keys = BTreeSet::new();
        let mut distinct = Vec::with_capacity(before);
        for good in batch.good.drain(..) {
            let key = good.experience.key_in(&good.namespace).map_err(|error| {
                let number = good.number;
                Usage(format!("line {number}: namespace: {error}"))
            })?;
            if keys.insert(key) {
                distinct.push((key, good));
            }
        }
        let lookups = distinct.into_iter().map(|(key, good)| async move {
            let get = Get::new(key)
                .namespace(good.namespace.clone())
                .reader(Reader::operator());
            let known = self.client.get(get).await?.is_some();
            Ok::<_, Error>((known, good))
        });
        let looked_up: Vec<(bool, Good)> = stream::iter(lookups)
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        let new = looked_up.into_iter().filter(|(known, _)| !known);
        batch.good = new.map(|(_, good)| good).collect();
        Ok((before - batch.good.len()) as u64)
    }

    fn settle<'l>(
        &mut self,
        batch: &Batch,
        learned: impl Iterator<Item = &'l memorygate_client::Learned>,
        known: u64,
    ) {
        let counts = &mut self.progress.counts;
        for one in learned {
            if one.created {
                counts.created += 1;
            } else {
                counts.reinforced += 1;
            }
        }
        counts.known += known;
        counts.invalid += batch.invalid;
        self.progress.settled = batch.end.clone();
        self.progress.in_flight = None;
        self.bar.set_position(batch.end.bytes);
    }

    fn read(&self, line: &lines::Line, before: Mark) -> Result<Good, record::Error> {
        let imported = record::parse_line(&line.bytes)?;
        let told = self.progress.settings.namespace.clone();
        let namespace = told
            .or(imported.namespace)
            .unwrap_or_else(|| "default".to_owned());
        Ok(Good {
            number: line.number,
            bytes: line.bytes.len(),
            namespace,
            experience: imported.experience,
            before,
        })
    }

    fn mark(&self) -> Mark {
        Mark {
            lines: self.lines.number(),
            bytes: self.lines.bytes(),
            sha256: self.lines.digest(),
        }
    }
}

impl Batch {
    fn learn(&self, id: RequestId) -> Learn {
        Learn::new(self.good.iter().map(|g| g.experience.clone()))
            .namespace(self.namespace.clone())
            .request_id(id)
    }
}

fn is_expired(error: &Error) -> bool {
    error.kind() == Kind::Fix && error.reason() == "REQUEST_ID_EXPIRED"
}

/// On a terminal, and only for a file whose length is known.
fn bar(length: Option<u64>, output: &Output) -> ProgressBar {
    let Some(length) = length.filter(|_| std::io::stderr().is_terminal() && !output.is_json())
    else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = "{wide_bar} {bytes}/{total_bytes}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn tell(lines: u64, resumed_after: u64, counts: Counts, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&Document {
            lines,
            created: counts.created,
            reinforced: counts.reinforced,
            skipped_known: counts.known,
            skipped_invalid: counts.invalid,
            resumed_after,
        })?;
        return Ok(());
    }
    let mut parts = vec![format!("{} created", counts.created)];
    for (count, what) in [
        (counts.reinforced, "reinforced"),
        (counts.known, "known already"),
        (counts.invalid, "invalid and left out"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let resumed = match resumed_after {
        0 => String::new(),
        settled => format!(" (went on after line {settled})"),
    };
    output.line(&format!("{lines} lines: {}{resumed}", parts.join(", ")))?;
    Ok(())
}
