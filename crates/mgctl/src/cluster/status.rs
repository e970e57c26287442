//! `mgctl cluster status`: where every member stands, and whether all is well.

use std::{io::Write as _, time::Duration};

use comfy_table::{Cell, CellAlignment};
use memorygate_client::{
    Client,
    cluster::{Alarm, Report, Role, Status},
    time,
};
use serde::Serialize;

use super::members::MemberRecord;
use crate::{
    alarm::{self, AlarmRecord},
    args::Global,
    failure::{self, NotWell, Operation},
    output::Output,
    style, which,
};

/// Entries of the log that a member may be behind and be called well: a moment under load.
const LAG_MAX: u64 = 1000;

/// Between two looks if it is not said.
const WATCH_DEFAULT: &str = "2";

/// … at least, in seconds.
const WATCH_MIN_S: f64 = 0.1;

const EXAMPLES: &str = "\
Exit code: 0 if all is well, 1 if not.

Examples:
  mgctl cluster status
  mgctl cluster status --watch
  mgctl cluster status --watch=0.5
  mgctl cluster status --output json | jq '.members[] | {node_id, lag}'
  until mgctl cluster status; do sleep 1; done";

/// Show where every member stands, and whether all is well
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Look again and again, with this many seconds between
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WATCH_DEFAULT,
        value_parser = seconds
    )]
    watch: Option<Duration>,
}

#[derive(Serialize)]
struct Document<'a> {
    is_healthy: bool,
    summary: &'a str,
    cluster_id: String,
    is_writable: bool,
    log_format: u32,
    answered_by: &'a str,
    members: Vec<StatusRecord<'a>>,
    alarms: Vec<AlarmRecord<'a>>,
}

#[derive(Serialize)]
struct StatusRecord<'a> {
    #[serde(flatten)]
    member: MemberRecord<'a>,
    state: &'a str,
    #[serde(flatten)]
    report: Option<ReportRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<&'a str>,
}

#[derive(Serialize)]
struct ReportRecord<'a> {
    role: &'a str,
    term: u64,
    last_log: u64,
    committed: u64,
    applied: u64,
    lag: u64,
    index_position: u64,
    index_lag: u64,
    snapshot: u64,
    disk_free_bytes: u64,
    disk_total_bytes: u64,
    server_version: &'a str,
    log_format_min: u32,
    log_format_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    round_trip_ms: u128,
    clock_offset_ms: i64,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    match args.watch {
        None if look(&client, output).await? => Ok(()),
        None => Err(NotWell.into()),
        Some(every) => watch(&client, every, output).await,
    }
}

/// Looks until someone ends it. A look that fails is told, and the next one made.
async fn watch(client: &Client, every: Duration, output: &Output) -> anyhow::Result<()> {
    loop {
        if output.is_terminal() && !output.is_json() {
            // Begins the screen anew; what stood there stays to be scrolled to.
            output.raw(b"\x1b[H\x1b[2J")?;
        }
        match look(client, output).await {
            Ok(_) => {}
            Err(error) if failure::is_broken_pipe(&error) => return Err(error),
            Err(error) => drop(failure::report(&error, output)),
        }
        if !output.is_json() {
            output.line("")?;
        }
        std::io::stdout().flush()?;
        tokio::time::sleep(every).await;
    }
}

/// Shows how things are, and returns whether all is well.
async fn look(client: &Client, output: &Output) -> anyhow::Result<bool> {
    let status = client.cluster().status().await.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: "look at the cluster".to_owned(),
            look: which::LOOK,
        })
    })?;
    let verdict = Verdict::of(&status);
    if output.is_json() {
        output.json(&document(&status, &verdict))?;
    } else {
        show(&status, &verdict, output)?;
    }
    Ok(verdict.is_healthy)
}

/// What is to be made of a status.
struct Verdict {
    is_healthy: bool,
    summary: String,
    /// Of each member, a word or two.
    states: Vec<&'static str>,
}

impl Verdict {
    fn of(status: &Status) -> Self {
        let states: Vec<&'static str> = (status.members.iter())
            .map(|m| match &m.report {
                Err(_) => "unreachable",
                Ok(report) if report.role == Some(Role::Stopped) => "stopped",
                Ok(report) if report.role == Some(Role::Candidate) => "no leader",
                Ok(_) if m.member.is_draining => "draining",
                Ok(report) if report.lag > LAG_MAX => "catching up",
                Ok(_) => "ok",
            })
            .collect();
        let members = status.members.len();
        let well = states.iter().filter(|s| **s == "ok").count();
        let is_healthy =
            status.is_writable && well == members && status.alarms.is_empty() && members > 0;
        let health = match (is_healthy, status.is_writable) {
            (true, _) => "healthy",
            (false, true) => "degraded",
            (false, false) => "down",
        };
        let leader = match status.leader() {
            Some(leader) => format!("leader {}", style::printable(&which::told(&leader.member))),
            None => "no leader".to_owned(),
        };
        let writes = if status.is_writable {
            "writes are taken"
        } else {
            "writes are refused"
        };
        let mut summary = format!("{health}: {well} of {members} members, {leader}, {writes}");
        if !status.alarms.is_empty() {
            summary.push_str(", ");
            summary.push_str(&style::count(status.alarms.len() as u64, "alarm"));
        }
        Self {
            is_healthy,
            summary,
            states,
        }
    }
}

fn show(status: &Status, verdict: &Verdict, output: &Output) -> anyhow::Result<()> {
    let style = output.style;
    let paint = |text: &str, is_alert: bool| match is_alert {
        true => style.alert(text),
        false => text.to_owned(),
    };
    let line = match verdict.is_healthy {
        true => style.bold(&verdict.summary),
        false => style.alert(&verdict.summary),
    };
    output.line(&line)?;
    output.line("")?;
    let digits = which::digits(status.members.iter().map(|m| m.member.node_id.as_str()));
    let leader = status.leader().map(|m| m.member.node_id.as_str());
    let rows = status
        .members
        .iter()
        .zip(&verdict.states)
        .map(|(m, state)| {
            let id = style::printable(which::start(&m.member.node_id, digits));
            let is_leader = leader == Some(m.member.node_id.as_str());
            let mark = match (is_leader, *state) {
                (_, state) if state != "ok" => "!",
                (true, _) => "*",
                (false, _) => " ",
            };
            let address = match m.member.client_address.as_str() {
                "" => &m.member.peer_address,
                address => address,
            };
            let mut row = vec![
                Cell::new(paint(&format!("{mark} {id}"), mark == "!")),
                Cell::new(role(m.member.is_voter, m.report.as_ref().ok())),
                Cell::new(paint(state, *state != "ok")),
            ];
            row.extend(numbers(m.report.as_ref().ok()));
            row.push(Cell::new(style::one_line(address, 60)));
            row
        });
    let head = [
        "  MEMBER",
        "ROLE",
        "STATE",
        "TERM",
        "APPLIED",
        "LAG",
        "INDEX LAG",
        "DISK FREE",
        "VERSION",
        "ADDRESS",
    ];
    output.table(&head, rows.collect())?;
    let mut remarks = Vec::new();
    for m in &status.members {
        let id = which::start(&m.member.node_id, digits);
        match &m.report {
            Err(why) => remarks.push(format!("! {id} did not answer: {}", style::printable(why))),
            Ok(report) if !status.log_formats_include(report) => remarks.push(format!(
                "! {id} reads formats {} to {} of the log, which is written in {}",
                report.log_format_min, report.log_format_max, status.log_format
            )),
            Ok(_) => {}
        }
    }
    if !remarks.is_empty() {
        output.line("")?;
    }
    for remark in remarks {
        output.line(&style.alert(&remark))?;
    }
    if !status.alarms.is_empty() {
        output.line("")?;
        alarm::show(&status.alarms, output)?;
    }
    Ok(())
}

fn role(is_voter: bool, report: Option<&Report>) -> &'static str {
    match report.and_then(|r| r.role) {
        Some(role) => role.as_str(),
        None if is_voter => "voter",
        None => "learner",
    }
}

/// The columns from the term to the version.
fn numbers(report: Option<&Report>) -> Vec<Cell> {
    let texts = match report {
        None => ["-"; 6].map(str::to_owned),
        Some(report) => [
            report.term.to_string(),
            report.applied.to_string(),
            report.lag.to_string(),
            index_lag(report).to_string(),
            disk(report),
            style::one_line(&report.server_version, 20),
        ],
    };
    let cells = texts.into_iter().map(Cell::new);
    cells
        .map(|cell| cell.set_alignment(CellAlignment::Right))
        .collect()
}

/// Entries that are applied and not yet in the search index.
fn index_lag(report: &Report) -> u64 {
    report.applied.saturating_sub(report.index_position)
}

fn disk(report: &Report) -> String {
    let free = style::bytes(report.disk_free_bytes);
    match report.disk_total_bytes {
        0 => free,
        total => {
            let percent = report.disk_free_bytes as f64 * 100.0 / total as f64;
            format!("{free} ({percent:.0}%)")
        }
    }
}

fn document<'a>(status: &'a Status, verdict: &'a Verdict) -> Document<'a> {
    let members = status.members.iter().zip(&verdict.states);
    let members = members.map(|(m, state)| StatusRecord {
        member: MemberRecord::from(&m.member),
        state,
        report: m.report.as_ref().ok().map(|r| ReportRecord {
            role: r.role.map_or("unknown", Role::as_str),
            term: r.term,
            last_log: r.last_log,
            committed: r.committed,
            applied: r.applied,
            lag: r.lag,
            index_position: r.index_position,
            index_lag: index_lag(r),
            snapshot: r.snapshot,
            disk_free_bytes: r.disk_free_bytes,
            disk_total_bytes: r.disk_total_bytes,
            server_version: &r.server_version,
            log_format_min: r.log_format_min,
            log_format_max: r.log_format_max,
            started_at: r.started_at.map(time::format),
            round_trip_ms: r.round_trip.as_millis(),
            clock_offset_ms: r.clock_offset_ms,
        }),
        unreachable: m.report.as_ref().err().map(String::as_str),
    });
    Document {
        is_healthy: verdict.is_healthy,
        summary: &verdict.summary,
        cluster_id: format!("{:032x}", status.cluster_id),
        is_writable: status.is_writable,
        log_format: status.log_format,
        answered_by: &status.node_id,
        members: members.collect(),
        alarms: status.alarms.iter().map(|a: &Alarm| a.into()).collect(),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|s| *s >= WATCH_MIN_S)
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| format!("expected a number of seconds, at least {WATCH_MIN_S}"))
}
