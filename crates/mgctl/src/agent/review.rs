//! `mgctl agent review`: what reviewers said of similar code, at the lines of a diff.

use std::{
    io::BufRead as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use memorygate_agents::review::{
    self, Comment, Diff, Finding, Format, Learned, Review, Settings, diff::DIFF_BYTES_MAX, render,
};
use memorygate_client::{Client, LearningContext};
use serde_json::json;

use super::{
    deciding::{Deciding, context, failed},
    input,
};
use crate::{args::Global, failure::Usage, output::Output};

/// Bytes of a file of comments.
const COMMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Characters of a fingerprint that are enough to name a finding.
const FINGERPRINT_MIN: usize = 6;

const EXAMPLES: &str = "\
A review finds what reviewers said of similar code before, and only that: without memory it finds nothing. Teach it
with --comments (JSON Lines: path, line, text, and if you like rule and severity), or by the examples for CI.

Examples:
  git diff main | mgctl agent review -
  mgctl agent review change.diff --format sarif > review.sarif
  git diff origin/main... | mgctl agent review - --format github
  mgctl agent review change.diff --executor chat --model llama3.1 --model-endpoint http://127.0.0.1:11434/v1
  mgctl agent review change.diff --comments comments.jsonl
  mgctl agent review change.diff --outcome rejected --finding 4be1c07a";

/// Review a diff by what was said of similar code
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A unified diff, as `git diff` writes it; `-` reads standard input
    #[arg(value_name = "FILE")]
    diff: PathBuf,
    /// Form of the findings [default: text, or json with --output json]
    #[arg(long, value_name = "FORM")]
    format: Option<FormatName>,
    /// Learn these comments on the diff, JSON Lines; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "outcome")]
    comments: Option<PathBuf>,
    /// Learn whether a finding was right, from the same diff
    #[arg(long, value_name = "WHAT", requires = "finding")]
    outcome: Option<Came>,
    /// Which finding: the beginning of its fingerprint; may be repeated
    #[arg(
        long,
        value_name = "FINGERPRINT",
        requires = "outcome",
        value_delimiter = ','
    )]
    finding: Vec<String>,
    #[command(flatten)]
    deciding: Deciding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub's workflows
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Came {
    Accepted,
    Rejected,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    input::check_stdin([&args.diff].into_iter().chain(&args.comments))?;
    let shown = args.diff.display();
    let bytes = input::document(&args.diff, DIFF_BYTES_MAX)?;
    let diff = Diff::parse(&bytes).with_context(|| format!("read {shown}"))?;
    let client = global.client()?;
    let context = context(global, "reviewer");
    if let Some(path) = &args.comments {
        return learn(&client, &context, &diff, path, output).await;
    }
    // What is less sure is not reported.
    let settings = args
        .deciding
        .sure()
        .map_or_else(Settings::default, |sure| Settings { sure });
    let agent = args.deciding.agent(global)?;
    let review = review::review(&agent, &context, &diff, &settings).await;
    let review = review.map_err(failed)?;
    if let Some(came) = args.outcome {
        return conclude(&client, &context, &review, &args.finding, came, output).await;
    }
    let format = match args.format {
        None if output.is_json() => Format::Json,
        None | Some(FormatName::Text) => Format::Text,
        Some(FormatName::Json) => Format::Json,
        Some(FormatName::Sarif) => Format::Sarif,
        Some(FormatName::Github) => Format::GitHub,
    };
    output.raw(render(&review, format).as_bytes())?;
    Ok(())
}

/// All comments are read before the first is learned.
async fn learn(
    client: &Client,
    context: &LearningContext,
    diff: &Diff,
    path: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let bytes = input::document(path, COMMENTS_BYTES_MAX)?;
    let mut comments: Vec<Comment> = Vec::new();
    for (at, line) in bytes.lines().enumerate() {
        let line = line.with_context(|| format!("read {}, line {}", path.display(), at + 1))?;
        if !line.trim().is_empty() {
            let comment = serde_json::from_str(&line);
            comments.push(
                comment.with_context(|| format!("read {}, line {}", path.display(), at + 1))?,
            );
        }
    }
    if comments.is_empty() {
        bail!(Usage(format!("{} holds no comment", path.display())));
    }
    let mut keys = Vec::new();
    for comment in &comments {
        let learned = review::learn(client, context, diff, comment).await;
        let key = learned.map_err(|error| match error {
            Learned::Store(error) => error.into(),
            Learned::Comment { .. } => anyhow::Error::from(Usage(error.to_string())),
        });
        let done = || format!("{} of {} comments were learned", keys.len(), comments.len());
        keys.push(key.with_context(done)?.to_string());
    }
    if output.is_json() {
        output.json(&json!({ "learned": keys }))?;
    } else {
        for (comment, key) in comments.iter().zip(&keys) {
            output.line(&format!("learned {key} of line {}", comment.line))?;
        }
    }
    Ok(())
}

async fn conclude(
    client: &Client,
    context: &LearningContext,
    review: &Review,
    named: &[String],
    came: Came,
    output: &Output,
) -> anyhow::Result<()> {
    let mut findings: Vec<&Finding> = Vec::new();
    for name in named {
        findings.push(find(review, name)?);
    }
    let mut keys = Vec::new();
    for finding in findings {
        let right = came == Came::Accepted;
        keys.push(
            review::conclude(client, context, finding, right)
                .await?
                .to_string(),
        );
    }
    if output.is_json() {
        output.json(&json!({ "learned": keys }))?;
    } else {
        for key in &keys {
            output.line(&format!("learned {key}"))?;
        }
    }
    Ok(())
}

fn find<'a>(review: &'a Review, name: &str) -> anyhow::Result<&'a Finding> {
    let found = |finding: &&Finding| finding.fingerprint.starts_with(name);
    let mut findings = review.findings.iter().filter(found);
    match (findings.next(), findings.next()) {
        (Some(finding), None) if name.len() >= FINGERPRINT_MIN => Ok(finding),
        (None, _) => bail!(Usage(format!(
            "no finding {name:?} in this diff: `--output json` lists them with their fingerprints"
        ))),
        (Some(_), _) => bail!(Usage(format!(
            "{name:?} does not name one finding: give more of its fingerprint"
        ))),
    }
}
