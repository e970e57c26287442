//! One server process: started, killed, stopped in its tracks, and looked at from outside.

use std::{
    fmt,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Lines of a log that are shown with an unexpected end.
const LOG_LINES: usize = 6;

/// Where one node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// For members.
    pub listen: SocketAddr,
}

/// How a process ended by itself.
#[derive(Clone, Debug)]
pub struct Exit {
    pub status: ExitStatus,
    /// The last lines of its log.
    pub tail: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; its log ends:\n{}", self.status, self.tail)
    }
}

/// A server, running or not.
#[derive(Debug)]
pub struct Node {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Name of the network namespace that it runs in.
    namespace: Option<String>,
    data: PathBuf,
    log: PathBuf,
    addresses: Addresses,
    child: Option<Child>,
    is_paused: bool,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Node {
    pub(super) fn new(
        program: PathBuf,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
        namespace: Option<String>,
        data: PathBuf,
        log: PathBuf,
        addresses: Addresses,
    ) -> Self {
        Self {
            program,
            arguments,
            environment,
            namespace,
            data,
            log,
            addresses,
            child: None,
            is_paused: false,
        }
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Everything that the node's processes have said.
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The process id; `None` if it does not run.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        assert!(self.child.is_none(), "a stopped node is started");
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.context("open a node's log")?;
        let mut command = match &self.namespace {
            // It replaces itself by the server: the process keeps its id.
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{namespace}"))
                    .arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open a node's log")?)
            .stderr(log);
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("run {}", self.program.display()))?);
        Ok(())
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<bool> {
        let Some(mut child) = self.child.take() else {
            return Ok(false);
        };
        self.is_paused = false;
        child.kill().context("kill a node")?;
        let status = child.wait().context("wait for a killed node")?;
        Ok(status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// SIGTERM: the process finishes what it has and ends.
    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Another program runs from the next start on.
    pub(super) fn install(&mut self, program: PathBuf) {
        assert!(self.child.is_none(), "a stopped node is installed anew");
        self.program = program;
    }

    pub(super) fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        self.is_paused = true;
        Ok(())
    }

    pub(super) fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        self.is_paused = false;
        Ok(())
    }

    /// How the process ended, if it did so by itself since it was looked at last.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<Exit>> {
        let Some(child) = self.child.as_mut() else {
            return Ok(None);
        };
        let Some(status) = child.try_wait().context("look at a node")? else {
            return Ok(None);
        };
        self.child = None;
        self.is_paused = false;
        Ok(Some(Exit {
            status,
            tail: self.log_tail(),
        }))
    }

    /// The state letter of the process as the kernel shows it: `T` when it is stopped.
    pub fn process_state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()?)).ok()?;
        // The name before it is in brackets and may hold anything.
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    }

    /// Whether the process has a connection to `other` on which it sends the same again and again,
    /// or that is never accepted.
    pub fn sends_in_vain(&self, other: IpAddr) -> bool {
        let table = self.id().map(|id| format!("/proc/{id}/net/tcp"));
        let table = table.and_then(|path| fs::read_to_string(path).ok());
        table.is_some_and(|table| is_in_vain(&table, other))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the node does not run")?;
        kill_process(Pid::from_child(child), signal).context("send a signal to a node")
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Reads the kernel's table of TCP connections.
fn is_in_vain(table: &str, other: IpAddr) -> bool {
    const SYN_SENT: &str = "02";
    let IpAddr::V4(other) = other else {
        return false;
    };
    // The kernel prints the four bytes as one little-endian number.
    let other = format!("{:08X}:", u32::from_le_bytes(other.octets()));
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, remote, state, _, _, again, ..] = fields[..] else {
            return false;
        };
        let again = u32::from_str_radix(again, 16).unwrap_or(0);
        remote.starts_with(&other) && (state == SYN_SENT || again > 0)
    })
}

/// Says in words whether a check of the data directory finds it whole.
pub fn check_directory(program: &Path, data: &Path) -> anyhow::Result<(bool, String)> {
    let output = Command::new(program)
        .arg("check")
        .arg(data)
        .output()
        .context("run the check of a data directory")?;
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.push_str(&String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.code().is_some(),
        "the check of a data directory was ended by {}",
        output.status
    );
    Ok((output.status.success(), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_answers_is_seen_in_the_kernels_table() {
        let table = |state: &str, again: &str| {
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid\n   \
                 0: 0107E70A:1CF5 0207E70A:9C40 {state} 00000000:00000000 01:00000019 {again} 0 0 1\n"
            )
        };
        let other: IpAddr = "10.231.7.2".parse().unwrap();
        let third: IpAddr = "10.231.7.3".parse().unwrap();
        assert!(!is_in_vain(&table("01", "00000000"), other));
        assert!(is_in_vain(&table("01", "00000003"), other));
        assert!(is_in_vain(&table("02", "00000000"), other));
        assert!(!is_in_vain(&table("02", "00000000"), third));
    }
}
