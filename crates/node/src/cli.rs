//! The command line of `memorygate`: one file per verb.

mod check;
mod config;
mod model;
mod recover;
mod restore;
mod serve;
mod snapshot;
mod source;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::settings::{Layers, LoadError, LogFormat, Settings};

/// Exit code of a command line or settings that cannot be used, as clap has it.
const EXIT_USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "memorygate",
    version,
    about = "A memory store for AI agents: the server",
    long_about = "A memory store for AI agents: the server.\n\nEverything that agents and operators ask \
                  of a running server is done with `mgctl`.",
    after_help = "Examples:\n  \
        memorygate model fetch              # once: download the embedding model\n  \
        memorygate serve                    # data in ./memorygate-data, gRPC on 127.0.0.1:7411\n  \
        memorygate config print --defaults > memorygate.toml\n  \
        memorygate serve --config memorygate.toml --set ranking.recency=0.3"
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a node until SIGTERM or SIGINT.
    #[command(after_help = "Examples:\n  \
        memorygate serve --data-dir /var/lib/memorygate\n  \
        memorygate serve --config /etc/memorygate.toml --log-format json\n  \
        MEMORYGATE_SERVER__GRPC_ADDRESS=0.0.0.0:7411 memorygate serve\n  \
        memorygate serve --grpc-address 0.0.0.0:7411 --peer-address 0.0.0.0:7413 \\\n    \
        --advertise node-1:7413 --peers node-1:7413,node-2:7413,node-3:7413")]
    Serve(serve::Arguments),
    /// Fetches or checks the embedding model.
    #[command(subcommand)]
    Model(model::Verb),
    /// Prints or checks settings.
    #[command(subcommand)]
    Config(config::Verb),
    /// Verifies log, state and snapshots in a data directory that no server uses.
    #[command(after_help = "Example:\n  memorygate check /var/lib/memorygate")]
    Check(check::Arguments),
    /// Makes a cluster of one out of a stopped member's data, when a majority is gone for good.
    #[command(after_help = "Examples:\n  \
        memorygate recover --force-new-cluster /var/lib/memorygate        # says what would happen\n  \
        memorygate recover --force-new-cluster --yes /var/lib/memorygate")]
    Recover(recover::Arguments),
    /// Restores a snapshot file into an empty data directory, which begins a new cluster.
    #[command(after_help = "Examples:\n  \
        memorygate restore --from monday.snapshot --data-dir /var/lib/memorygate\n  \
        memorygate restore --from s3://bucket/prefix/NAME.snapshot --data-dir /var/lib/memorygate\n  \
        memorygate serve --data-dir /var/lib/memorygate\n\n\
        A cluster of three: restore on one node, then start all three with the same --peers, the other \
        two with empty data directories.")]
    Restore(restore::Arguments),
    /// Shows or verifies a snapshot file.
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Prints the version.
    Version,
}

/// Where settings come from: flags go before environment variables, these before the file.
#[derive(Debug, Default, Args)]
struct Sources {
    /// Settings file (TOML). `memorygate config print --defaults` makes one.
    #[arg(long, value_name = "FILE", env = "MEMORYGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory [data.dir].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where agents connect [server.grpc_address].
    #[arg(long, value_name = "HOST:PORT")]
    grpc_address: Option<String>,
    /// Where /metrics, /livez and /readyz are served [server.http_address].
    #[arg(long, value_name = "HOST:PORT")]
    http_address: Option<String>,
    /// Where other nodes connect [cluster.listen].
    #[arg(long, value_name = "HOST:PORT")]
    peer_address: Option<String>,
    /// Where other nodes find this one, if not there [cluster.advertise].
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The nodes that form the cluster, the same on each of them [cluster.peers].
    #[arg(long, value_name = "HOST:PORT,...")]
    peers: Option<String>,
    /// Where the embedding model is [model.dir].
    #[arg(long, value_name = "DIR")]
    model_dir: Option<String>,
    /// Format of the log [log.format].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Level of the log, or a filter [log.level].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any other setting; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Sources {
    fn load(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, LoadError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers = layers.file(path)?;
        }
        layers = layers.environment(environment)?;
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let flags = [
            ("data.dir", "--data-dir", &self.data_dir),
            ("server.grpc_address", "--grpc-address", &self.grpc_address),
            ("server.http_address", "--http-address", &self.http_address),
            ("cluster.listen", "--peer-address", &self.peer_address),
            ("cluster.advertise", "--advertise", &self.advertise),
            ("cluster.peers", "--peers", &self.peers),
            ("model.dir", "--model-dir", &self.model_dir),
            ("log.format", "--log-format", &format),
            ("log.level", "--log-level", &self.log_level),
        ];
        for (name, flag, value) in flags {
            if let Some(value) = value {
                layers = layers.text(name, value, &format!("flag {flag}"))?;
            }
        }
        for pair in &self.set {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            layers = layers.text(name, value, &format!("flag --set {pair}"))?;
        }
        layers.settings()
    }
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let load = |sources: &Sources| sources.load(std::env::vars_os());
    let result = match command_line.verb {
        Verb::Version => print(&format!("memorygate {}\n", env!("CARGO_PKG_VERSION"))),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Recover(arguments) => recover::run(&arguments),
        Verb::Restore(arguments) => restore::run(&arguments),
        Verb::Snapshot(verb) => snapshot::run(&verb),
        Verb::Config(verb) => match load(verb.sources()) {
            Ok(settings) => config::run(&verb, &settings),
            Err(error) => return fail(EXIT_USAGE, &error.into()),
        },
        Verb::Model(verb) => match load(verb.sources()) {
            Ok(settings) => model::run(&verb, &settings),
            Err(error) => return fail(EXIT_USAGE, &error.into()),
        },
        Verb::Serve(arguments) => match load(&arguments.sources) {
            Ok(settings) => serve::run(settings, arguments.clock_file),
            Err(error) => return fail(EXIT_USAGE, &error.into()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    // Nothing can be done if standard error is gone.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(
            &file,
            "[server]\nrequests_max = 1\ngrpc_address = \"a:1\"\n",
        )
        .unwrap();
        let arguments = [
            "memorygate",
            "serve",
            "--config",
            file.to_str().unwrap(),
            "--set",
            "server.requests_max=3",
            "--log-format",
            "json",
        ];
        let CommandLine {
            verb: Verb::Serve(serve::Arguments { sources, .. }),
        } = CommandLine::parse_from(arguments)
        else {
            panic!("not serve");
        };
        let environment = [
            ("MEMORYGATE_SERVER__REQUESTS_MAX".into(), "2".into()),
            ("MEMORYGATE_SERVER__GRPC_ADDRESS".into(), "b:2".into()),
        ];
        let settings = sources.load(environment).unwrap();
        assert_eq!(settings.server.requests_max, 3);
        assert_eq!(settings.server.grpc_address.as_str(), "b:2");
        assert_eq!(settings.log.format, LogFormat::Json);
        let unknown = Sources {
            set: vec!["ranking.lat=1".to_owned()],
            ..Sources::default()
        };
        assert_eq!(
            unknown.load([]).unwrap_err().to_string(),
            "unknown setting ranking.lat in flag --set ranking.lat=1; did you mean ranking.late?"
        );
    }
}
