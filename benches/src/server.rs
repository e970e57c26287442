//! The server that is measured: a real `memorygate serve` process on an empty data directory of its
//! own, or one that runs already (`--endpoint`).
//!
//! ```text
//! Server::start ──▶ spawn ──▶ wait until /readyz says yes ──▶ endpoint()
//!                     ▲                                          │
//!                     └── restart ◀── kill (SIGKILL) or stop (SIGTERM)
//! drop: kill, remove the directory
//! ```

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    metrics::{self, Metrics},
    options::Options,
};

/// A server may rebuild its index before it is ready; beyond this it hangs.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// A server that was asked to stop writes a last checkpoint; beyond this it hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks at a process or at `/readyz`: what a start or stop time is exact to.
const POLL: Duration = Duration::from_millis(5);

/// Ports are chosen and then used, so another process can take one in between.
const START_ATTEMPTS: u32 = 3;

/// Lines of the server's log that an error shows.
const LOG_LINES: usize = 30;

/// A server, running or stopped.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    /// `None` for a server that somebody else started.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: PathBuf,
    arguments: Vec<String>,
    model_dir: PathBuf,
    /// More of its environment, as names and values.
    variables: Vec<(String, String)>,
    grpc: SocketAddr,
    http: SocketAddr,
    dir: TempDir,
    child: Option<Child>,
    spawned: Instant,
}

impl Server {
    /// The server at `--endpoint`, or a new one that is ready.
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        Self::start_with(options, &[]).await
    }

    /// The same; a new one has these settings (`section.key` and value) where the environment does
    /// not say otherwise.
    pub(crate) async fn start_with(
        options: &Options,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        if let Some(endpoint) = &options.endpoint {
            return Ok(Self {
                endpoint: endpoint.clone(),
                own: None,
            });
        }
        let program = program(options)?;
        let mut failure = None;
        for _ in 0..START_ATTEMPTS {
            let mut server = Self::new(&program, options, settings)?;
            server.spawn()?;
            match server.wait_ready().await {
                Ok(_) => {
                    eprintln!(
                        "server: {} is ready at {}",
                        program.display(),
                        server.endpoint
                    );
                    return Ok(server);
                }
                Err(error) if server.log_tail().contains("in use") => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.expect("no attempt returned, so each left its error"))
    }

    /// A new server whose clock is off by what [`Server::set_clock`] says.
    pub(crate) async fn start_with_clock(
        options: &Options,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut server = Self::prepare(options, settings)?;
        server.set_clock(0)?;
        let own = server.own_mut()?;
        let file = own.clock_path().display().to_string();
        own.arguments.extend(["--clock-file".to_owned(), file]);
        server.spawn()?;
        server.wait_ready().await?;
        Ok(server)
    }

    /// Sets what the clock of a server of [`Server::start_with_clock`] is off by.
    pub(crate) fn set_clock(&mut self, offset_ms: i64) -> anyhow::Result<()> {
        let path = self.own_mut()?.clock_path();
        // A reader sees the old file or the new one.
        let staged = path.with_extension("new");
        fs::write(&staged, offset_ms.to_string()).context("write the clock's file")?;
        fs::rename(&staged, &path).context("set the clock")
    }

    /// A server with these settings that is not started yet, for a cluster of several.
    pub(crate) fn prepare(options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::new(&program(options)?, options, settings)
    }

    fn new(program: &Path, options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let variable = |(name, value): &(&str, &str)| {
            let name = format!("MEMORYGATE_{}", name.replace('.', "__").to_uppercase());
            std::env::var_os(&name)
                .is_none()
                .then(|| (name, (*value).to_owned()))
        };
        let dir = match &options.scratch {
            Some(parent) => TempDir::with_prefix_in("memorygate-bench-", parent),
            None => TempDir::with_prefix("memorygate-bench-"),
        };
        let (grpc, http) = (free_address()?, free_address()?);
        let own = Own {
            program: program.to_owned(),
            arguments: vec!["serve".to_owned()],
            model_dir: options.model_dir(),
            variables: settings.iter().filter_map(variable).collect(),
            grpc,
            http,
            dir: dir.context("make a directory for the server")?,
            child: None,
            spawned: Instant::now(),
        };
        Ok(Self {
            endpoint: format!("http://{grpc}"),
            own: Some(own),
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether it may be killed, restarted and looked into.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<()> {
        let own = self.own_mut()?;
        assert!(own.child.is_none(), "a stopped server is started");
        let log = File::options()
            .create(true)
            .append(true)
            .open(own.log_path());
        let log = log.context("open the server's log")?;
        let mut command = Command::new(&own.program);
        command
            .args(&own.arguments)
            .env("MEMORYGATE_SERVER__GRPC_ADDRESS", own.grpc.to_string())
            .env("MEMORYGATE_SERVER__HTTP_ADDRESS", own.http.to_string())
            .env("MEMORYGATE_DATA__DIR", own.data_dir())
            .env("MEMORYGATE_MODEL__DIR", &own.model_dir)
            .envs(own.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the server's log")?)
            .stderr(log);
        own.spawned = Instant::now();
        let child = command.spawn();
        own.child = Some(child.with_context(|| format!("run {}", own.program.display()))?);
        Ok(())
    }

    /// Whether there is a process that was started and neither killed nor stopped.
    pub(crate) fn is_spawned(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.child.is_some())
    }

    /// The data directory of an own server.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let own = self.own.as_ref();
        Ok(own
            .context("only an own server's directory is known")?
            .data_dir())
    }

    /// Runs another verb of the server's program to its end.
    pub(crate) fn run(&self, arguments: &[&OsStr]) -> anyhow::Result<Output> {
        let own = self.own.as_ref();
        let own = own.context("only an own server's program is known")?;
        let output = Command::new(&own.program).args(arguments).output();
        output.with_context(|| format!("run {}", own.program.display()))
    }

    /// Waits until `/readyz` says yes; returns the time since the process was started.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        loop {
            let tail = self.log_tail();
            let own = self.own_mut()?;
            let (http, elapsed) = (own.http, own.spawned.elapsed());
            let child = own.child.as_mut().context("the server was not started")?;
            if let Some(status) = child.try_wait().context("look at the server")? {
                own.child = None;
                bail!(
                    "the server ended before it was ready ({}):\n{tail}",
                    text(status)
                );
            }
            let Err(not_ready) = metrics::get(http, "/readyz").await else {
                return Ok(own.spawned.elapsed());
            };
            if elapsed > READY_TIMEOUT {
                bail!("the server is not ready after {elapsed:?} ({not_ready:#}):\n{tail}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGKILL: nothing in the process gets to know. It is gone when this returns.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self
            .own_mut()?
            .child
            .take()
            .context("the server does not run")?;
        child.kill().context("kill the server")?;
        let status = child.wait().context("wait for the killed server")?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            let tail = self.log_tail();
            bail!(
                "the server ended by itself before it was killed ({}):\n{tail}",
                text(status)
            );
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end; returns the time that it took.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let own = self.own_mut()?;
        let child = own.child.as_mut().context("the server does not run")?;
        kill_process(Pid::from_child(child), Signal::TERM).context("stop the server")?;
        let status = loop {
            if let Some(status) = child.try_wait().context("look at the server")? {
                break status;
            }
            if start.elapsed() > STOP_TIMEOUT {
                bail!(
                    "the server runs {STOP_TIMEOUT:?} after SIGTERM:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        };
        own.child = None;
        if !status.success() {
            bail!(
                "the server stopped with {}:\n{}",
                text(status),
                self.log_tail()
            );
        }
        Ok(start.elapsed())
    }

    /// Starts the stopped server on the same data; returns the time until it was ready.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.spawn()?;
        self.wait_ready().await
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        let own = self
            .own
            .as_ref()
            .context("the metrics' address is known of an own server only")?;
        Ok(Metrics::parse(&metrics::get(own.http, "/metrics").await?))
    }

    pub(crate) fn process_id(&self) -> anyhow::Result<u32> {
        let child = self.own.as_ref().and_then(|own| own.child.as_ref());
        Ok(child.context("the server does not run")?.id())
    }

    /// Removes the data of the stopped server, as a disk does that is lost.
    pub(crate) fn wipe(&mut self) -> anyhow::Result<()> {
        let own = self.own_mut()?;
        assert!(own.child.is_none(), "a stopped server is wiped");
        fs::remove_dir_all(own.data_dir()).context("wipe the server's data")
    }

    /// Memory of the process that is in RAM.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let child = self.own.as_ref().and_then(|own| own.child.as_ref());
        let id = child
            .context("only an own, running server can be looked into")?
            .id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        resident_mib(&status).context("read VmRSS of the server")
    }

    /// Bytes of all files of the data directory.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        let own = self
            .own
            .as_ref()
            .context("only an own server's directory is known")?;
        bytes_below(&own.data_dir())
    }

    fn own_mut(&mut self) -> anyhow::Result<&mut Own> {
        self.own
            .as_mut()
            .context("a server at --endpoint cannot be started or stopped")
    }

    fn log_tail(&self) -> String {
        let log = self
            .own
            .as_ref()
            .map(|own| fs::read_to_string(own.log_path()));
        let log = log.and_then(Result::ok).unwrap_or_default();
        last_lines(&log, LOG_LINES)
    }
}

impl Own {
    fn clock_path(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program that is run: `--server`; or the one beside this program, which `cargo run` brings up
/// to date first, so that no old server is measured by a new bench.
fn program(options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(path) = &options.server {
        return Ok(path.clone());
    }
    let this = std::env::current_exe().context("find this program")?;
    let beside = this.with_file_name("memorygate");
    let cargo = std::env::var_os("CARGO");
    if cargo.is_none() && beside.exists() {
        return Ok(beside);
    }
    eprintln!("server: cargo build --release --workspace --bin memorygate");
    let status = Command::new(cargo.unwrap_or_else(|| "cargo".into()))
        // The whole workspace's features: those of one package would compile the C++ anew.
        .args([
            "build",
            "--release",
            "--quiet",
            "--workspace",
            "--bin",
            "memorygate",
        ])
        .stdout(Stdio::null())
        .status()
        .context("run cargo to build the server")?;
    if !status.success() {
        bail!(
            "cargo could not build the server ({}); or name one with --server",
            text(status)
        );
    }
    if !beside.exists() {
        bail!(
            "the server was built, but is not at {}; name it with --server",
            beside.display()
        );
    }
    Ok(beside)
}

/// An address whose port nobody uses at this moment, on a loopback host of its own, so that no
/// connection of another process gets the port before it is used.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let [a, b, c] = rand::random::<[u8; 3]>().map(|byte| byte.clamp(1, 254));
    let listener =
        TcpListener::bind((Ipv4Addr::new(127, a, b, c), 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}

fn text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn resident_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn bytes_below(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        // A file can go while the server works; it then has no size.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of a line of shell, which is enough to see how one is run.
    fn scripted(script: &str) -> Server {
        let mut server = Server::new(Path::new("/bin/sh"), &Options::default(), &[]).unwrap();
        let own = server.own_mut().unwrap();
        own.arguments.insert(0, "-c".to_owned());
        own.arguments.insert(1, script.to_owned());
        server.spawn().unwrap();
        server
    }

    #[tokio::test]
    async fn a_server_that_ends_early_shows_its_log() {
        let mut server = scripted("echo starting $0; echo no model here >&2; exit 3");
        let error = server.wait_ready().await.unwrap_err().to_string();
        assert_eq!(
            error,
            "the server ended before it was ready (exit status 3):\nstarting serve\nno model here"
        );
    }

    #[test]
    fn a_killed_server_is_gone_and_one_that_ended_by_itself_is_an_error() {
        let mut server = scripted("exec sleep 100");
        assert!(server.resident_mib().unwrap() > 0.0);
        server.kill().unwrap();
        assert!(server.kill().is_err());

        let mut server = scripted("echo disk is gone; exit 1");
        let child = server.own_mut().unwrap().child.as_mut().unwrap();
        child.wait().unwrap();
        let error = server.kill().unwrap_err().to_string();
        assert!(error.ends_with("(exit status 1):\ndisk is gone"), "{error}");
    }

    #[tokio::test]
    async fn a_stopped_server_ends_with_success_or_it_is_an_error() {
        let mut server = scripted("trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done");
        // The trap must be set before the signal comes.
        while server.log_tail() != "up" {
            tokio::time::sleep(POLL).await;
        }
        server.stop().await.unwrap();
        let error = scripted("exec sleep 100")
            .stop()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the server stopped with signal 15"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_foreign_server_is_not_stopped() {
        let options = Options {
            endpoint: Some("http://h:1".into()),
            ..Options::default()
        };
        let mut server = Server::start(&options).await.unwrap();
        assert_eq!((server.endpoint(), server.is_own()), ("http://h:1", false));
        let error = server.kill().unwrap_err().to_string();
        assert_eq!(error, "a server at --endpoint cannot be started or stopped");
    }

    #[test]
    fn memory_is_read_from_the_process_status() {
        let status = "Name:\tmemorygate\nVmPeak:\t  9 kB\nVmRSS:\t  2048 kB\nThreads:\t3\n";
        assert_eq!(resident_mib(status), Some(2.0));
        assert_eq!(resident_mib("Name:\tx\n"), None);
    }

    #[test]
    fn sizes_of_all_files_below_are_summed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), [0; 10]).unwrap();
        fs::write(dir.path().join("c"), [0; 5]).unwrap();
        assert_eq!(bytes_below(dir.path()).unwrap(), 15);
    }
}
