//! `mgctl consolidate plan`: what a pass would do, and why.

use memorygate_client::consolidation::{Plan, PlannedStep, StepMemory};
use serde::Serialize;

use super::{Breadth, memories, operation};
use crate::{
    args::Global,
    output::{Output, PositionRecord},
    style,
};

const EXAMPLES: &str = "\
Nothing is changed. What a run does may differ by what is learned until then.

Examples:
  mgctl consolidate plan
  mgctl consolidate plan --everything --limit 1000 --namespace team-a
  mgctl consolidate plan --output json | jq '.steps[] | select(.kind == \"fade\")'";

/// Show what a pass would do now, and why
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    breadth: Breadth,
    /// How many steps to show, 1 to 1000
    #[arg(long, short, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    steps: Vec<Step<'a>>,
    merges: u64,
    fades: u64,
    conflicts: u64,
    relinks: u64,
    compared: u64,
    looked_at: u64,
    position: PositionRecord,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Step<'a> {
    Merge {
        keep: Memory<'a>,
        absorb: Vec<Memory<'a>>,
        cosine: f32,
    },
    Fade {
        memory: Memory<'a>,
        worth: f64,
        unused_days: f64,
    },
    Conflict {
        a: Memory<'a>,
        b: Memory<'a>,
        cosine: f32,
    },
    Relink {
        memory: Memory<'a>,
        relation: &'static str,
        from: String,
        to: String,
    },
}

#[derive(Serialize)]
struct Memory<'a> {
    key: String,
    version: u64,
    /// The beginning of its text.
    content: &'a str,
}

pub(super) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.patient_client()?;
    let plan = client
        .consolidation()
        .plan(args.breadth.reach(), args.limit)
        .await
        .map_err(operation("plan", "mgctl consolidate status"))?;
    if output.is_json() {
        output.json(&document(&plan))?;
        return Ok(());
    }
    for step in &plan.steps {
        for line in block(step, output) {
            output.line(&line)?;
        }
    }
    let all = plan.steps_in_all();
    let looked = format!(
        "{} compared, {} looked at for fading",
        memories(plan.compared),
        memories(plan.looked_at)
    );
    if all == 0 {
        output.line(&format!("nothing to do: {looked}"))?;
        return Ok(());
    }
    output.line("")?;
    let hidden = all.saturating_sub(plan.steps.len() as u64);
    if hidden > 0 {
        let more = format!("{} not shown (--limit)", style::count(hidden, "more step"));
        output.line(&output.style.dim(&more))?;
    }
    let counts = [
        (plan.merges, "merge"),
        (plan.fades, "fade"),
        (plan.conflicts, "conflict"),
        (plan.relinks, "relink"),
    ];
    let counts = counts.map(|(count, noun)| style::count(count, noun));
    output.line(&output.style.bold(&counts.join(", ")))?;
    output.line(&looked)?;
    let again = match args.breadth.everything {
        true => "mgctl consolidate run --everything",
        false => "mgctl consolidate run",
    };
    output.note(&format!("nothing was changed; `{again}` does it"));
    Ok(())
}

/// What is shown of a step: what and why, then the memories that it is about.
fn block(step: &PlannedStep, output: &Output) -> Vec<String> {
    let style = output.style;
    let head = |verb: &str, why: &str| format!("{} {why}", style.bold(verb));
    // What stands before a text: four spaces, and a key of 32 digits with one more.
    let memory = |memory: &StepMemory| {
        let text = style::quoted(&memory.content, style.width, 4 + 33);
        format!("    {} {text}", memory.key)
    };
    match step {
        PlannedStep::Merge {
            keep,
            absorb,
            cosine,
        } => {
            let verb = format!("merge {} into {}", absorb.len(), keep.key);
            let mut lines = vec![head(&verb, &format!("(cosine {cosine:.2})"))];
            lines.push(memory(keep));
            lines.extend(absorb.iter().map(memory));
            lines
        }
        PlannedStep::Fade {
            memory: of,
            worth,
            unused_days,
        } => {
            let why = format!("(worth {worth:.2}, unused for {unused_days:.0} days)");
            vec![head("fade", &why), memory(of)]
        }
        PlannedStep::Conflict { a, b, cosine } => {
            let why = format!("(cosine {cosine:.2})");
            vec![head("conflict", &why), memory(a), memory(b)]
        }
        PlannedStep::Relink {
            memory: of,
            link,
            to,
        } => {
            let why = format!("{} {} to {to}", link.relation.as_str(), link.target);
            vec![head("relink", &why), memory(of)]
        }
    }
}

fn document(plan: &Plan) -> Document<'_> {
    Document {
        steps: plan.steps.iter().map(Step::from).collect(),
        merges: plan.merges,
        fades: plan.fades,
        conflicts: plan.conflicts,
        relinks: plan.relinks,
        compared: plan.compared,
        looked_at: plan.looked_at,
        position: plan.position.into(),
    }
}

impl<'a> From<&'a PlannedStep> for Step<'a> {
    fn from(step: &'a PlannedStep) -> Self {
        match step {
            PlannedStep::Merge {
                keep,
                absorb,
                cosine,
            } => Self::Merge {
                keep: keep.into(),
                absorb: absorb.iter().map(Memory::from).collect(),
                cosine: *cosine,
            },
            PlannedStep::Fade {
                memory,
                worth,
                unused_days,
            } => Self::Fade {
                memory: memory.into(),
                worth: *worth,
                unused_days: *unused_days,
            },
            PlannedStep::Conflict { a, b, cosine } => Self::Conflict {
                a: a.into(),
                b: b.into(),
                cosine: *cosine,
            },
            PlannedStep::Relink { memory, link, to } => Self::Relink {
                memory: memory.into(),
                relation: link.relation.as_str(),
                from: link.target.to_string(),
                to: to.to_string(),
            },
        }
    }
}

impl<'a> From<&'a StepMemory> for Memory<'a> {
    fn from(memory: &'a StepMemory) -> Self {
        Self {
            key: memory.key.to_string(),
            version: memory.version,
            content: &memory.content,
        }
    }
}
