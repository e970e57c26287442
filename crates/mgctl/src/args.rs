//! What every verb takes: where the server is, for whom, and in which form.

use std::{collections::BTreeMap, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use memorygate_client::{
    Archive, Client, Error, Filter, Freshness, Key, Moment, Reader, RequestId, Settings, TimeMs,
    client::ENDPOINT_DEFAULT,
    time::{self, Direction},
};

use crate::{
    agent, alarm, cluster, completions, conflicts, consolidate, drain, export, feedback, forget,
    get, history, import, leader, learn, link, list, mcp, member, recall, restore, share, snapshot,
    stats, trust, update,
};

/// How long one call may take if it is not said.
const TIMEOUT: Duration = Duration::from_secs(30);

/// … one that reads every row of a node: at 100 MB/s, some 60 GB.
const TIMEOUT_OF_WHOLE_STATE: Duration = Duration::from_secs(600);

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, and a write that failed changed nothing; or the cluster is not well
  2  the request or the usage is wrong
  3  no such memory that the reader may see
  4  the outcome of a write is unknown: repeat it with the --request-id that the error names

Examples:
  mgctl learn \"OOMKilled at 256Mi, 512Mi holds\" --domain infrastructure
  mgctl recall \"pod gets killed for memory\"
  mgctl stats --output json
  mgctl cluster status --watch";

/// Learn, recall and tend the memories of a MemoryGate cluster.
#[derive(Parser)]
#[command(name = "mgctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    Learn(learn::Args),
    Recall(recall::Args),
    Get(get::Args),
    History(history::Args),
    List(list::Args),
    Update(update::Args),
    Feedback(feedback::Args),
    Forget(forget::Args),
    Link(link::Args),
    Share(share::Args),
    Restore(restore::Args),
    Stats(stats::Args),
    Import(import::Args),
    Export(export::Args),
    Consolidate(consolidate::Args),
    Conflicts(conflicts::Args),
    Trust(trust::Args),
    Cluster(cluster::Args),
    Member(member::Args),
    Leader(leader::Args),
    Drain(drain::Args),
    Alarm(alarm::Args),
    Snapshot(snapshot::Args),
    Agent(agent::Args),
    Mcp(mcp::Args),
    Completions(completions::Args),
}

#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Servers of the cluster, separated by commas
    #[arg(
        long,
        global = true,
        env = "MEMORYGATE_ENDPOINT",
        value_name = "URL",
        value_delimiter = ',',
        default_value = ENDPOINT_DEFAULT
    )]
    pub(crate) endpoint: Vec<String>,

    /// Namespace; `recall` and `mcp` take several, up to 16 [default: default]
    #[arg(
        long,
        short,
        global = true,
        env = "MEMORYGATE_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) namespace: Vec<String>,

    /// The agent on whose behalf to act: sees its own memories, is named in what it learns
    #[arg(long, global = true, env = "MEMORYGATE_AGENT", value_name = "NAME")]
    pub(crate) agent: Option<String>,

    /// A team whose memories to see as well; may be repeated
    #[arg(
        long,
        global = true,
        env = "MEMORYGATE_TEAM",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) team: Vec<String>,

    /// See every scope of the namespace (for operators)
    #[arg(long, global = true)]
    pub(crate) everything: bool,

    /// How long one call may take, all its attempts together [default: 30s; 10m to verify, to
    /// make a snapshot and to plan]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// Form of the output
    #[arg(
        long,
        short,
        global = true,
        env = "MEMORYGATE_OUTPUT",
        value_name = "FORM",
        default_value = "text"
    )]
    pub(crate) output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    Text,
    /// For programs: one document, or one a line
    Json,
}

impl Global {
    /// A client for a single command: it gives up sooner than an agent's would, since a person is
    /// waiting, and asks the nodes that were named and no others, since a person may have meant those.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        self.client_within(TIMEOUT)
    }

    /// The same for a call that reads a whole state.
    pub(crate) fn patient_client(&self) -> Result<Client, Error> {
        self.client_within(TIMEOUT_OF_WHOLE_STATE)
    }

    fn client_within(&self, timeout: Duration) -> Result<Client, Error> {
        Client::new(Settings {
            follow_members: false,
            timeout: self.timeout.unwrap_or(timeout),
            ..self.settings(4)
        })
    }

    /// A client for work that takes a while: it tries each call this often, and goes where the cluster
    /// goes.
    pub(crate) fn client_with(&self, attempts_max: u32) -> Result<Client, Error> {
        Client::new(self.settings(attempts_max))
    }

    /// How long one call may take.
    pub(crate) fn timeout_or_default(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    fn settings(&self, attempts_max: u32) -> Settings {
        Settings {
            namespace: self.namespace_or_default().to_owned(),
            reader: self.reader(),
            timeout: self.timeout_or_default(),
            attempts_max,
            ..Settings::new(&self.endpoint)
        }
    }

    /// The namespace that was named, if any was.
    pub(crate) fn named_namespace(&self) -> Option<&str> {
        self.namespace.first().map(String::as_str)
    }

    pub(crate) fn namespace_or_default(&self) -> &str {
        self.named_namespace().unwrap_or("default")
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader {
            agent: self.agent.clone(),
            teams: self.team.iter().cloned().collect(),
            everything: self.everything,
        }
    }

    /// The reader, or an operator where none was named: an export or an import that silently left
    /// out what a nobody may not see would be worse than none.
    pub(crate) fn reader_or_operator(&self) -> Reader {
        if self.agent.is_none() && self.team.is_empty() {
            Reader::operator()
        } else {
            self.reader()
        }
    }
}

/// What a recall, a list or an export may return.
#[derive(clap::Args)]
#[command(next_help_heading = "Filter")]
pub(crate) struct FilterArgs {
    /// Only of this domain; may be repeated
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    pub(crate) domain: Vec<String>,
    /// Only learned by this agent; may be repeated
    #[arg(long, value_name = "AGENT")]
    pub(crate) by: Vec<String>,
    /// Only of this session; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Vec<String>,
    /// Only with this metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) meta: Vec<(String, String)>,
    /// Only what happened at or after this time (RFC 3339, or an amount ago: 2h, 30d)
    #[arg(long, value_name = "TIME", value_parser = past)]
    pub(crate) since: Option<TimeMs>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME", value_parser = past)]
    pub(crate) until: Option<TimeMs>,
    /// Only at least this important, 0 to 1
    #[arg(long, value_name = "NUMBER")]
    pub(crate) min_importance: Option<f32>,
    /// What is in the archive too, or nothing else; it is left out otherwise
    #[arg(long, value_name = "WHICH")]
    pub(crate) archived: Option<Archived>,
}

/// What of the archive passes a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Archived {
    Include,
    Only,
}

impl FilterArgs {
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            domains: self.domain.iter().cloned().collect(),
            agents: self.by.iter().cloned().collect(),
            sessions: self.session.iter().cloned().collect(),
            metadata: self.meta.iter().cloned().collect::<BTreeMap<_, _>>(),
            since: self.since,
            until: self.until,
            min_importance: self.min_importance,
            archive: match self.archived {
                None => Archive::Without,
                Some(Archived::Include) => Archive::With,
                Some(Archived::Only) => Archive::Only,
            },
        }
    }
}

/// How recent an answer has to be.
#[derive(clap::Args)]
pub(crate) struct Recency {
    /// See everything that anyone was told is done, whichever node answers: it asks the leader first
    #[arg(long)]
    linearizable: bool,
}

impl Recency {
    pub(crate) fn freshness(&self) -> Freshness {
        if self.linearizable {
            Freshness::Linearizable
        } else {
            Freshness::Seen
        }
    }
}

/// Of which moment the memories are.
#[derive(clap::Args)]
pub(crate) struct Past {
    /// The memories as they were: at a position of the log (a number), or at a time (RFC 3339, or an amount
    /// ago: 2h, 30d, "3 days ago"). What was forgotten or has expired since is not there
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment)]
    pub(crate) as_of: Option<Moment>,
}

/// How a write can be repeated.
#[derive(clap::Args)]
pub(crate) struct Repeat {
    /// Repeat a write whose outcome was unknown under its id: it is run at most once
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<RequestId>,
}

/// `KEY=VALUE`; the value may be empty and may hold further equals signs.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(crate) fn past(text: &str) -> Result<TimeMs, time::ParseError> {
    time::parse(text, time::now(), Direction::Ago)
}

fn moment(text: &str) -> Result<Moment, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(position) = text.parse()
    {
        return Ok(Moment::Position(position));
    }
    match past(text) {
        Ok(time) => Ok(Moment::Time(time)),
        Err(error) => Err(format!("{error}, nor a position such as 48213")),
    }
}

pub(crate) fn future(text: &str) -> Result<TimeMs, time::ParseError> {
    time::parse(text, time::now(), Direction::Ahead)
}

pub(crate) fn key(text: &str) -> Result<Key, String> {
    text.parse::<Key>().map_err(|_| {
        "expected a key of 32 hexadecimal digits (`mgctl list --wide` shows them whole)".to_owned()
    })
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    time::parse_amount(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "expected an amount of time such as 500ms, 30s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("0s").is_err() && duration("30").is_err());
        assert!(key("abc").is_err());
        assert_eq!(moment("48213"), Ok(Moment::Position(48_213)));
        let date = time::parse_rfc3339("2026-11-01").unwrap();
        assert_eq!(moment("2026-11-01"), Ok(Moment::Time(date)));
        assert!(matches!(moment("3d"), Ok(Moment::Time(_))));
        assert!(matches!(moment("3 days ago"), Ok(Moment::Time(_))));
        let refused = moment("last week").unwrap_err();
        for form in ["2026-01-31T12:00:00Z", "2026-01-31", "2h", "30d", "48213"] {
            assert!(refused.contains(form), "{form}: {refused}");
        }
        assert!(moment("").is_err() && moment("yesterday").is_err());
    }
}
