//! `mgctl agent troubleshoot`: what is the matter with a workload, and what to do about it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use memorygate_agents::troubleshoot::{DOCUMENT_BYTES_MAX, Diagnosis, Symptoms, diagnose};
use serde::Serialize;

use super::{
    deciding::{Deciding, context, failed},
    input,
    outcome::OutcomeArgs,
    show::{self, CitedRecord},
};
use crate::{args::Global, failure::Usage, output::Output, style};

/// Symptoms that are shown.
const SYMPTOMS_SHOWN: usize = 8;

const EXAMPLES: &str = "\
Files are outputs of `kubectl describe`, `kubectl get events` or `kubectl get … -o json` (pods, events, nodes), in any
order; logs may have any length.

Examples:
  kubectl describe pod checkout-6d5f | mgctl agent troubleshoot -
  mgctl agent troubleshoot pod.txt events.json --logs pod.log --team sre
  mgctl agent troubleshoot pod.txt --outcome success --observed \"no restart for three nights\"
  mgctl agent troubleshoot pod.txt --outcome failure --action raise-memory-limit
  mgctl agent troubleshoot pod.txt --executor chat --model llama3.1 --model-endpoint http://127.0.0.1:11434/v1
  MEMORYGATE_MODEL_KEY=$(cat key) mgctl agent troubleshoot pod.txt --executor chat --model gpt-4.1-mini \\
      --model-endpoint https://api.openai.com/v1 --context-tokens 2000";

/// Find what is the matter with a workload, from what Kubernetes says of it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What kubectl printed; `-` reads standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A log; may be repeated, and `-` reads standard input
    #[arg(long, value_name = "FILE")]
    logs: Vec<PathBuf>,
    #[command(flatten)]
    outcome: OutcomeArgs,
    #[command(flatten)]
    deciding: Deciding,
}

#[derive(Serialize)]
struct DiagnosisRecord {
    subject: Option<String>,
    known: bool,
    explanation: String,
    symptoms: Vec<SymptomRecord>,
    causes: Vec<CauseRecord>,
    related: Vec<CitedRecord>,
}

#[derive(Serialize)]
struct SymptomRecord {
    sign: String,
    text: String,
    count: u64,
}

#[derive(Serialize)]
struct CauseRecord {
    action: String,
    cause: String,
    confidence: f32,
    steps: Vec<String>,
    cases: Vec<CitedRecord>,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let symptoms = read(&args)?;
    let agent = args.deciding.agent(global)?;
    let diagnosis = diagnose(&agent, &symptoms, context(global, "troubleshooter"))
        .await
        .map_err(failed)?;
    let Diagnosis {
        task, performed, ..
    } = &diagnosis;
    if args.outcome.learn(&agent, task, performed, output).await? {
        return Ok(());
    }
    if output.is_json() {
        output.json(&record(&diagnosis))?;
    } else {
        show(&diagnosis, output)?;
    }
    Ok(())
}

fn read(args: &Args) -> anyhow::Result<Symptoms> {
    if args.files.is_empty() && args.logs.is_empty() {
        bail!(Usage(
            "no input: name a file with what kubectl printed, or a log with --logs".to_owned()
        ));
    }
    input::check_stdin(args.files.iter().chain(&args.logs))?;
    let mut symptoms = Symptoms::default();
    for path in &args.files {
        let bytes = input::document(path, DOCUMENT_BYTES_MAX)?;
        let read = symptoms.read_document(&bytes);
        read.with_context(|| format!("read {}", path.display()))?;
    }
    for path in &args.logs {
        let read = symptoms.read_log(input::lines(path)?);
        read.with_context(|| format!("read {}", path.display()))?;
    }
    if symptoms.is_empty() {
        bail!(Usage(
            "nothing in it looks wrong: no warning, no failed container, no error in a log"
                .to_owned()
        ));
    }
    Ok(symptoms)
}

fn show(diagnosis: &Diagnosis, output: &Output) -> anyhow::Result<()> {
    if let Some(subject) = &diagnosis.subject {
        output.line(&output.style.bold(&style::one_line(subject, 253)))?;
    }
    for symptom in diagnosis.symptoms.iter().take(SYMPTOMS_SHOWN) {
        let times = match symptom.count {
            1 => String::new(),
            count => format!(" (×{count})"),
        };
        show::wrapped(&format!("- {}{times}", symptom.text), "  ", output)?;
    }
    output.line("")?;
    let lead = if diagnosis.known { "Likely: " } else { "" };
    show::wrapped(&format!("{lead}{}", diagnosis.explanation), "", output)?;
    for (at, cause) in diagnosis.causes.iter().enumerate() {
        output.line("")?;
        let confidence = show::percent(cause.confidence);
        let head = format!(
            "{}. {} ({confidence})",
            at + 1,
            style::one_line(&cause.action, 128)
        );
        output.line(&output.style.bold(&head))?;
        show::wrapped(&cause.cause, "   ", output)?;
        for step in &cause.steps {
            show::wrapped(&format!("→ {step}"), "   ", output)?;
        }
        show::cases(&cause.cases, "   ", output)?;
    }
    show::related(&diagnosis.related, output)?;
    output.line("")?;
    output.line(
        "Tell it what came of it: the same command with --outcome success|failure --action NAME",
    )?;
    Ok(())
}

fn record(diagnosis: &Diagnosis) -> DiagnosisRecord {
    DiagnosisRecord {
        related: diagnosis.related.iter().map(CitedRecord::of).collect(),
        subject: diagnosis.subject.clone(),
        known: diagnosis.known,
        explanation: diagnosis.explanation.clone(),
        symptoms: diagnosis
            .symptoms
            .iter()
            .map(|symptom| SymptomRecord {
                sign: format!("{:?}", symptom.sign),
                text: symptom.text.clone(),
                count: symptom.count,
            })
            .collect(),
        causes: diagnosis
            .causes
            .iter()
            .map(|cause| CauseRecord {
                action: cause.action.clone(),
                cause: cause.cause.clone(),
                confidence: cause.confidence,
                steps: cause.steps.clone(),
                cases: cause.cases.iter().map(CitedRecord::of).collect(),
            })
            .collect(),
    }
}
