//! `memorygate snapshot`: what a snapshot file holds, and whether every byte of it is right.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use memorygate_raft::backup::{self, Manifest, read};
use serde_json::json;

use super::{
    print,
    source::{S3Arguments, Source},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Reads a snapshot file as a whole and checks every digest in it.
    #[command(after_help = "Example:\n  memorygate snapshot verify monday.snapshot")]
    Verify(Arguments),
    /// Shows what a snapshot file says of itself, and checks nothing.
    #[command(after_help = "Example:\n  memorygate snapshot show monday.snapshot --output json")]
    Show(Arguments),
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The snapshot file, or s3://BUCKET/KEY of one in an object store.
    #[arg(value_name = "FILE|URL")]
    file: PathBuf,
    #[command(flatten)]
    s3: S3Arguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct OutputArguments {
    /// For people or for programs.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Lines of name and value.
    Text,
    /// One JSON object.
    Json,
}

pub(super) fn run(verb: &Verb) -> anyhow::Result<()> {
    let (Verb::Verify(arguments) | Verb::Show(arguments)) = verb;
    let Arguments { file, s3, output } = arguments;
    let mut from = Source::open(file, s3)?;
    let manifest = match verb {
        Verb::Verify(_) => backup::verify(&mut from),
        Verb::Show(_) => read::peek(&mut from),
    };
    let manifest = manifest.with_context(|| format!("snapshot {}", file.display()))?;
    let is_verified = matches!(verb, Verb::Verify(_));
    match output.output {
        Output::Text => {
            print(&text(&manifest))?;
            match is_verified {
                true => print("every byte is as it was written\n"),
                false => Ok(()),
            }
        }
        Output::Json => {
            let mut shown = serde_json::to_value(&manifest).context("write as JSON")?;
            shown["verified"] = json!(is_verified);
            shown["bytes"] = json!(manifest.file_bytes());
            print(&format!("{shown:#}\n"))
        }
    }
}

pub(super) fn text(manifest: &Manifest) -> String {
    format!(
        "cluster      {}\nposition     {} (term {})\nlog time     {}\nstate hash   {}\nmemories     {}\n\
         created at   {} by version {}\nsize         {} bytes in {} parts\n",
        manifest.cluster_id,
        manifest.position,
        manifest.term,
        time(manifest.log_time_ms),
        manifest.state_hash,
        manifest.memories,
        time(manifest.created_at_ms),
        manifest.made_by,
        manifest.file_bytes(),
        manifest.parts.len(),
    )
}

/// As RFC 3339 has it.
fn time(ms: i64) -> String {
    let nanos = i32::try_from(ms.rem_euclid(1_000)).expect("it is below a thousand") * 1_000_000;
    let time = prost_types::Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos,
    };
    time.to_string()
}
