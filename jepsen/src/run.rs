//! One run: a cluster, a load, faults one after another, recovery, final reads, a verdict.
//!
//! ```text
//! start ▶ healthy ▶ prepare ▶ ┌ workers ─────────────────────────┐ ▶ heal ▶ healthy ▶ one position,
//!                             └ quiet, fault, quiet, fault, …  ──┘   one hash ▶ final reads ▶ check
//! ```

pub mod schedule;

use std::{
    collections::BTreeMap,
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::sleep;

use self::schedule::{Schedule, Strike};
use crate::{
    caller::{Answer, Caller},
    checker::porcupine,
    cluster::{self, Cluster, Wires, namespaces},
    findings::Findings,
    history::{self, Recorder},
    nemesis::Nemesis,
    report::{self, timeline::Timeline},
    workload::{
        Worker, Workload,
        consolidation::{self, Consolidation},
        feedback::Feedback,
        register::Register,
        session::Sessions,
        set::Set,
    },
};

/// Where `make setup` puts the model, from the repository's root.
const MODEL_OF_SETUP: &str = ".model/all-MiniLM-L6-v2";

/// Where `memorygate model fetch` puts it.
const MODEL_OF_USER: &str = ".cache/memorygate/all-MiniLM-L6-v2";

/// A cluster that has just been started forms, elects and loads its models.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Until all nodes have applied the same once nothing is written any more.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the final reads may take.
const FINAL_PATIENCE: Duration = Duration::from_secs(60);

/// What the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Load {
    Set,
    Register,
    Session,
    Feedback,
    Consolidation,
}

impl Load {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Register => "register",
            Self::Session => "session",
            Self::Feedback => "feedback",
            Self::Consolidation => "consolidation",
        }
    }

    /// What its servers are told beside what all are.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Set | Self::Register | Self::Session | Self::Feedback => &[],
            Self::Consolidation => consolidation::SERVER_SETTINGS,
        }
    }

    /// What it shows, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Set => "unique experiences from all nodes: nothing lost, nothing invented",
            Self::Register => "compare-and-set and linearizable reads: one history for all",
            Self::Session => "reads with the position of the last write: own writes, never back",
            Self::Feedback => "feedback repeated until its outcome is known: each counted once",
            Self::Consolidation => {
                "lessons merged, faded and undone meanwhile: each epoch once, nothing lost or half-done"
            }
        }
    }
}

/// What lies between the nodes, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Namespaces where they can be made, or else loopback.
    Auto,
    Namespaces,
    Loopback,
}

/// Everything that a run can be told.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// What clients do.
    #[arg(long, value_enum)]
    pub workload: Load,
    /// What breaks, one after another; `mix` is everything that this machine allows, `none` nothing.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none",
        value_name = "NAME,..."
    )]
    pub nemesis: Vec<String>,
    /// How long the load and the faults go on, in seconds.
    #[arg(long, default_value_t = 30, value_name = "S")]
    pub time: u64,
    /// Of everything that is drawn at random.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// The server; the `memorygate` beside this program if not given.
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_SERVER")]
    pub server: Option<PathBuf>,
    /// A server that reads a newer format of the log, for `upgrade`; the `memorygate-next-format`
    /// beside this program, if there is one and none is given.
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_NEWER_SERVER")]
    pub newer_server: Option<PathBuf>,
    /// The embedding model; where `make setup` or `memorygate model fetch` puts it if not given.
    #[arg(long, value_name = "DIR", env = "MEMORYGATE_MODEL__DIR")]
    pub model_dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Network::Auto)]
    pub network: Network,
    /// Have the links go through the proxy in namespaces, too.
    #[arg(long)]
    pub proxy: bool,
    /// Clients of each node.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub workers: usize,
    /// Operations a second of all clients together, at most.
    #[arg(long, default_value_t = 150, value_name = "N")]
    pub rate: u64,
    /// How long one fault lasts, about, in seconds.
    #[arg(long, default_value_t = 5, value_name = "S")]
    pub hold: u64,
    /// After the last fault, the cluster must be well within so many seconds.
    #[arg(long, default_value_t = 60, value_name = "S")]
    pub recovery: u64,
    /// Where histories and the report go.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Keep data directories and logs even if the run is valid.
    #[arg(long)]
    pub keep: bool,
    /// A setting of the servers; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// A variable of the servers' environment; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub environment: Vec<String>,
}

/// The last line of the output.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub workload: String,
    pub nemesis: Vec<String>,
    pub acknowledged: u64,
    pub unknown: u64,
    pub failed: u64,
    pub lost: u64,
    pub phantom: u64,
    pub violations: u64,
    /// What else the workload counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// Faults that took effect.
    pub faults: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    /// Whether the cluster was well within the time for it.
    pub recovered: bool,
    pub recovery_s: f64,
    pub valid: bool,
    /// Why not, and what was found, in words.
    pub reasons: Vec<String>,
    /// What the Go program says of a register's history; `none` of other workloads.
    pub second_judge: String,
    /// Longest time without an acknowledged write.
    pub longest_gap_s: f64,
    pub nodes: usize,
    pub seconds: u64,
    pub seed: u64,
    pub network: String,
    pub output: String,
}

/// Runs once. An error is the harness's own; what the cluster did wrong is in the verdict.
pub async fn run(options: &Options) -> anyhow::Result<Verdict> {
    match options.workload {
        Load::Set => Box::pin(Run::prepare(options)?.drive(Set::default())).await,
        Load::Register => {
            let load = Register::new(options.rate * options.time);
            Box::pin(Run::prepare(options)?.drive(load)).await
        }
        Load::Session => Box::pin(Run::prepare(options)?.drive(Sessions::default())).await,
        Load::Feedback => Box::pin(Run::prepare(options)?.drive(Feedback::default())).await,
        Load::Consolidation => {
            Box::pin(Run::prepare(options)?.drive(Consolidation::default())).await
        }
    }
}

/// The faults that `names` stand for, where it is root or not and has a newer server or not.
pub fn nemeses(
    names: &[String],
    is_root: bool,
    has_newer_server: bool,
) -> anyhow::Result<Vec<Nemesis>> {
    let mut chosen = Vec::new();
    for name in names {
        match name.as_str() {
            "none" => {}
            "mix" => chosen.extend(Nemesis::all().iter().copied().filter(|nemesis| {
                let needs = nemesis.needs();
                (is_root || !needs.small_disks) && (has_newer_server || !needs.newer_server)
            })),
            name => match Nemesis::all().iter().find(|nemesis| nemesis.name() == name) {
                Some(nemesis) => chosen.push(*nemesis),
                None => bail!(
                    "no nemesis is called {name:?}; `memorygate-jepsen list` shows all of them"
                ),
            },
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

struct Run<'a> {
    options: &'a Options,
    nemeses: Vec<Nemesis>,
    wires: Wires,
    output: PathBuf,
    scratch: TempDir,
    cluster: cluster::Settings,
}

impl<'a> Run<'a> {
    fn prepare(options: &'a Options) -> anyhow::Result<Self> {
        ensure!(options.nodes >= 1, "a cluster has at least one node");
        ensure!(options.workers >= 1, "at least one worker a node is needed");
        ensure!(
            options.rate >= 1,
            "at least one operation a second is needed"
        );
        let can_make_namespaces = namespaces::are_possible();
        let newer_server = newer_server(options.newer_server.as_deref())?;
        let nemeses = nemeses(
            &options.nemesis,
            can_make_namespaces,
            newer_server.is_some(),
        )?;
        let needs = |of: fn(&Nemesis) -> bool| nemeses.iter().any(of);
        ensure!(
            newer_server.is_some() || !needs(|nemesis| nemesis.needs().newer_server),
            "there is no newer server to upgrade to; build one with `make newer`, or name one with \
             --newer-server"
        );
        let wires = match options.network {
            Network::Auto if can_make_namespaces => Wires::Namespaces,
            Network::Auto | Network::Loopback => Wires::Loopback,
            Network::Namespaces => {
                ensure!(
                    can_make_namespaces,
                    "network namespaces cannot be made here: this needs root and iproute2; \
                     --network loopback needs neither"
                );
                Wires::Namespaces
            }
        };
        let scratch = TempDir::with_prefix("memorygate-jepsen-").context("make a directory")?;
        let output = match &options.output {
            Some(output) => output.clone(),
            None => PathBuf::from("jepsen-output").join(format!(
                "{}-{}-{}",
                options.workload.name(),
                options.nemesis.join("+"),
                options.seed
            )),
        };
        fs::create_dir_all(&output)
            .with_context(|| format!("make the output directory {}", output.display()))?;
        let environment = options.environment.iter().map(|pair| {
            let (name, value) = pair.split_once('=').context("expected NAME=VALUE")?;
            Ok((name.to_owned(), value.to_owned()))
        });
        let of_load = options.workload.settings();
        let mut settings: Vec<String> = SERVER_SETTINGS
            .iter()
            .chain(of_load)
            .map(|s| (*s).to_owned())
            .collect();
        settings.extend(options.set.iter().cloned());
        let cluster = cluster::Settings {
            nodes: options.nodes,
            server: server(options.server.as_deref())?,
            newer_server,
            model_dir: model_dir(options.model_dir.as_deref())?,
            directory: scratch.path().to_owned(),
            wires,
            is_proxied: options.proxy || needs(|nemesis| nemesis.needs().proxy),
            has_small_disks: needs(|nemesis| nemesis.needs().small_disks),
            is_preloaded: needs(|nemesis| nemesis.needs().preload),
            settings,
            environment: environment.collect::<anyhow::Result<_>>()?,
            patience: PATIENCE,
        };
        Ok(Self {
            options,
            nemeses,
            wires,
            output,
            scratch,
            cluster,
        })
    }

    async fn drive<W: Workload>(self, workload: W) -> anyhow::Result<Verdict> {
        let mut cluster = Cluster::new(&self.cluster).await?;
        let outcome = self.watch(&mut cluster, Arc::new(workload)).await;
        let is_valid = matches!(&outcome, Ok(verdict) if verdict.valid);
        if !is_valid {
            for at in 0..cluster.count() {
                let log = cluster.node(at).log();
                // A node that was never started has none.
                let _ = fs::copy(log, self.output.join(format!("node-{at}.log")));
            }
        }
        drop(cluster);
        if self.options.keep {
            eprintln!("kept: {}", self.scratch.keep().display());
        }
        outcome
    }

    async fn watch<W: Workload>(
        &self,
        cluster: &mut Cluster,
        workload: Arc<W>,
    ) -> anyhow::Result<Verdict> {
        let options = self.options;
        cluster.start_all()?;
        let took = cluster
            .formed(START_TIMEOUT)
            .await
            .context("form a cluster")?;
        eprintln!("{} nodes are ready after {took:.1?}", options.nodes);
        workload.prepare(cluster.callers()).await?;
        let start = Instant::now();
        let recorder: Recorder<W::Call> = Recorder::new(start);
        let callers = Arc::new(cluster.callers().to_vec());
        let is_over = Arc::new(AtomicBool::new(false));
        let load = Workers::spawn(options, &workload, &callers, &recorder, &is_over);
        let mut schedule = Schedule::new(&self.nemeses, options);
        let strikes = schedule.run(cluster, start).await;
        // Whatever happened, nothing stays broken, and workers end.
        let healed = cluster.heal();
        let mended_us = recorder.now_us();
        is_over.store(true, Ordering::Relaxed);
        load.join().await?;
        healed?;
        let mut reasons = Vec::new();
        let strikes = strikes.unwrap_or_else(|error| {
            reasons.push(format!("{error:#}"));
            schedule.strikes().to_vec()
        });
        let recovery = cluster.healthy(Duration::from_secs(options.recovery)).await;
        let (is_recovered, recovery_s) = match &recovery {
            Ok(took) => (true, took.as_secs_f64()),
            Err(error) => {
                reasons.push(format!("{error:#}"));
                (
                    false,
                    f64::from(u32::try_from(options.recovery).unwrap_or(u32::MAX)),
                )
            }
        };
        let mut violations = Vec::new();
        if is_recovered {
            self.compare_states(cluster, &mut violations).await;
            let finals = Workers::one_for_each_node(options, &callers, &recorder);
            for mut worker in finals {
                workload.finish(&mut worker).await;
            }
            if W::WRITES_IN_THE_END {
                self.compare_states(cluster, &mut violations).await;
            }
        }
        cluster.notice_exits()?;
        let excuses = self.nemeses.iter().any(|nemesis| nemesis.excuses_exits());
        for (at, exit) in cluster.exits() {
            if !excuses {
                violations.push(format!("node {at} ended by itself: {exit}"));
            }
        }
        let operations = recorder.operations();
        let mut findings = workload.check(&operations);
        for violation in violations {
            findings.violate(violation);
        }
        let events = history::events(&operations);
        self.write_history(&events)?;
        let second_judge = if options.workload == Load::Register {
            self.judge_again(&mut findings)?
        } else {
            "none".to_owned()
        };
        let timeline = Timeline::new(&operations, &strikes, mended_us);
        let mut verdict = self.verdict(&findings, &strikes, &timeline, reasons);
        verdict.recovered = is_recovered;
        verdict.recovery_s = recovery_s;
        verdict.second_judge = second_judge;
        verdict.valid = verdict.reasons.is_empty() && is_recovered && findings.is_clean();
        verdict.reasons.extend(findings.texts.iter().cloned());
        report::write(&self.output, &verdict, &strikes, &timeline)?;
        Ok(verdict)
    }

    /// All replicas at one position have one hash, counted and, where the cluster offers it, read
    /// from their disks.
    async fn compare_states(&self, cluster: &Cluster, violations: &mut Vec<String>) {
        match cluster.state_hashes(AGREEMENT_TIMEOUT).await {
            Ok((position, hashes)) => {
                if hashes.iter().any(|hash| *hash != hashes[0]) {
                    violations.push(format!(
                        "at position {position} the states differ: {hashes:?}"
                    ));
                }
            }
            Err(error) => violations.push(format!("{error:#}")),
        }
        let caller: Caller = cluster.callers()[0].patient(FINAL_PATIENCE);
        match caller.verify().await {
            Answer::Done(reply) if reply.is_equal => {
                if let Some(member) = reply.members.iter().find(|m| !m.matches_own_count) {
                    violations.push(format!(
                        "a member's disk is not what it counted: {member:?}"
                    ));
                }
            }
            Answer::Done(reply) => violations.push(format!("the replicas differ: {reply:?}")),
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                violations.push(format!("the replicas could not be verified: {why}"));
            }
        }
    }

    fn write_history(&self, events: &[serde_json::Value]) -> anyhow::Result<()> {
        let create = |name: &str| {
            let file = fs::File::create(self.output.join(name));
            file.map(BufWriter::new)
                .with_context(|| format!("make {name}"))
        };
        history::write_json_lines(events, create("history.jsonl")?).context("write the history")?;
        history::write_edn(events, create("history.edn")?).context("write the history")
    }

    /// Has Porcupine decide the same history, and compares.
    fn judge_again(&self, findings: &mut Findings) -> anyhow::Result<String> {
        match porcupine::judge(&self.output.join("history.jsonl"))? {
            porcupine::Second::Absent(why) => Ok(format!("did not run: {why}")),
            porcupine::Second::Judged(judged) => {
                if !judged.illegal.iter().eq(&findings.illegal) {
                    findings.violate(format!(
                        "the two judges disagree: ours rejects registers {:?}, Porcupine {:?}",
                        findings.illegal, judged.illegal
                    ));
                }
                let illegal = judged.illegal.len() as u64;
                Ok(format!(
                    "porcupine: {} of {} registers are linearizable",
                    judged.keys - illegal,
                    judged.keys
                ))
            }
        }
    }

    fn verdict(
        &self,
        findings: &Findings,
        strikes: &[Strike],
        timeline: &Timeline,
        mut reasons: Vec<String>,
    ) -> Verdict {
        let mut faults_by_kind: BTreeMap<String, u64> = self
            .nemeses
            .iter()
            .map(|nemesis| (nemesis.name(), 0))
            .collect();
        for strike in strikes.iter().filter(|strike| strike.is_effective) {
            *faults_by_kind.entry(strike.nemesis.name()).or_default() += 1;
        }
        for (name, count) in &faults_by_kind {
            if *count == 0 {
                let tries: Vec<&str> = strikes
                    .iter()
                    .filter(|strike| strike.nemesis.name() == *name)
                    .map(|strike| strike.text.as_str())
                    .collect();
                reasons.push(format!("{name} never took effect: {tries:?}"));
            }
        }
        if findings.acknowledged == 0 {
            reasons.push("nothing was acknowledged, so nothing was tested".to_owned());
        }
        let options = self.options;
        Verdict {
            workload: options.workload.name().to_owned(),
            nemesis: self.nemeses.iter().map(|nemesis| nemesis.name()).collect(),
            acknowledged: findings.acknowledged,
            unknown: findings.unknown,
            failed: findings.failed,
            lost: findings.lost,
            phantom: findings.phantom,
            violations: findings.violations,
            counts: findings.counts.clone(),
            faults: faults_by_kind.values().sum(),
            faults_by_kind,
            recovered: false,
            recovery_s: 0.0,
            valid: false,
            reasons,
            second_judge: String::new(),
            longest_gap_s: timeline.longest_gap_s(),
            nodes: options.nodes,
            seconds: options.time,
            seed: options.seed,
            network: match (self.wires, self.cluster.is_proxied) {
                (Wires::Namespaces, false) => "namespaces",
                (Wires::Namespaces, true) => "namespaces and proxy",
                (Wires::Loopback, _) => "loopback and proxy",
            }
            .to_owned(),
            output: self.output.display().to_string(),
        }
    }
}

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Elections within a second or two, and so little log that snapshots are made and sent in every run.
const SERVER_SETTINGS: &[&str] = &[
    "raft.heartbeat_ms=100",
    "raft.election_timeout_min_ms=600",
    "raft.election_timeout_max_ms=1200",
    "raft.propose_timeout_ms=4000",
    "raft.snapshot_log_bytes=1048576",
    "raft.log_entries_kept=500",
    "raft.block_cache_bytes=8388608",
    "raft.write_buffer_bytes=2097152",
    "raft.disk_reserve_bytes=33554432",
    "model.threads=1",
    "recall.threads=1",
];

/// The workers of the load.
struct Workers {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Workers {
    fn spawn<W: Workload>(
        options: &Options,
        workload: &Arc<W>,
        callers: &Arc<Vec<Caller>>,
        recorder: &Recorder<W::Call>,
        is_over: &Arc<AtomicBool>,
    ) -> Self {
        let count = options.workers * callers.len();
        let pause = Duration::from_micros(1_000_000 * count as u64 / options.rate);
        let spawn = |number: usize| {
            let mut worker = Worker::new(
                number as u64,
                number % callers.len(),
                Arc::clone(callers),
                options.seed,
                recorder.clone(),
            );
            let (workload, is_over) = (Arc::clone(workload), Arc::clone(is_over));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) && worker.may_go_on() {
                    workload.step(&mut worker).await;
                    sleep(pause.mul_f64(worker.random.random_range(0.5..1.5))).await;
                }
            })
        };
        Self {
            tasks: (0..count).map(spawn).collect(),
        }
    }

    async fn join(self) -> anyhow::Result<()> {
        for task in self.tasks {
            task.await.context("a worker panicked")?;
        }
        Ok(())
    }

    fn one_for_each_node<C: history::Call>(
        options: &Options,
        callers: &Arc<Vec<Caller>>,
        recorder: &Recorder<C>,
    ) -> Vec<Worker<C>> {
        let patient: Vec<Caller> = callers.iter().map(|c| c.patient(FINAL_PATIENCE)).collect();
        let patient = Arc::new(patient);
        let first = options.workers * callers.len();
        (0..callers.len())
            .map(|at| {
                let number = (first + at) as u64;
                Worker::new(
                    number,
                    at,
                    Arc::clone(&patient),
                    options.seed,
                    recorder.clone(),
                )
            })
            .collect()
    }
}

/// Draws as `Schedule` and others need.
pub(crate) fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn server(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let server = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .context("find this program")?
            .with_file_name("memorygate"),
    };
    ensure!(
        server.is_file(),
        "there is no server at {}; build it with `cargo build --release --workspace`, or name one with \
         --server",
        server.display()
    );
    // Nodes run elsewhere than here.
    fs::canonicalize(&server).context("find the server")
}

/// As given, or beside this program if it is there.
pub(crate) fn newer_server(given: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let beside = std::env::current_exe()
        .context("find this program")?
        .with_file_name("memorygate-next-format");
    let newer = match given {
        Some(given) => given,
        None if beside.is_file() => &beside,
        None => return Ok(None),
    };
    let found = fs::canonicalize(newer);
    let found = found.with_context(|| format!("there is no server at {}", newer.display()))?;
    Ok(Some(found))
}

fn model_dir(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let of_setup = PathBuf::from(MODEL_OF_SETUP);
    let model = match (given, std::env::home_dir()) {
        (Some(given), _) => given.to_owned(),
        (None, Some(home)) if !of_setup.is_dir() => home.join(MODEL_OF_USER),
        (None, _) => of_setup,
    };
    fs::canonicalize(&model).with_context(|| {
        format!(
            "there is no model at {}; run `make setup` or name one with --model-dir",
            model.display()
        )
    })
}
