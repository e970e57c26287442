//! What the other agents say of an incident, made of what each found in inputs of its own.

use memorygate_client::domain;

use crate::{
    cited::Cited,
    optimise::Advice,
    review::{Finding, Review},
    troubleshoot::Diagnosis,
};

/// What one agent has to say about one input.
const CONTRIBUTIONS_MAX: usize = 3;

/// What another agent has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Its domain: it is not asked again.
    pub domain: String,
    /// By which it is called.
    pub agent: String,
    /// What it found, in a sentence.
    pub found: String,
    /// What to do about it.
    pub action: String,
    pub confidence: f32,
    pub steps: Vec<String>,
    pub cases: Vec<Cited>,
}

impl Contribution {
    /// The likeliest cause.
    pub fn of_diagnosis(diagnosis: &Diagnosis) -> Option<Self> {
        let cause = diagnosis.causes.first()?;
        Some(Self {
            domain: domain::INFRASTRUCTURE.to_owned(),
            agent: "troubleshooting".to_owned(),
            found: cause.cause.clone(),
            action: cause.action.clone(),
            confidence: cause.confidence,
            steps: cause.steps.clone(),
            cases: cause.cases.clone(),
        })
    }

    /// What reviewers said of code like that of a change that may have caused it; the surest first.
    pub fn of_review(review: &Review) -> Vec<Self> {
        let mut findings: Vec<&Finding> = review.findings.iter().collect();
        findings.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let of = |finding: &&Finding| {
            let place = format!("{}:{}", finding.path, finding.line);
            Self {
                domain: domain::CODE_REVIEW.to_owned(),
                agent: "code review".to_owned(),
                found: format!("{place}: {}", finding.message),
                action: finding.rule.clone(),
                confidence: finding.confidence,
                steps: vec![
                    format!("look at {place}: {}", finding.code),
                    "if it began with this change, roll the change back before it is mended"
                        .to_owned(),
                ],
                cases: finding.past.iter().map(|past| past.cited()).collect(),
            }
        };
        findings.iter().take(CONTRIBUTIONS_MAX).map(of).collect()
    }

    /// What to change first about each workload; the surest first.
    pub fn of_advice(advice: &[Advice]) -> Vec<Self> {
        let of = |advice: &Advice| {
            let first = advice.proposals.first()?;
            let mut steps = vec![format!("expected: {}", first.effect)];
            if let Some(patch) = &first.patch {
                let line = patch
                    .line
                    .map(|line| format!(":{line}"))
                    .unwrap_or_default();
                steps.push(format!("in {}{line}, or: {}", patch.file, patch.command));
            }
            Some(Self {
                domain: domain::DEPLOYMENT.to_owned(),
                agent: "deployment".to_owned(),
                found: format!("{}: {}", advice.workload, first.reason),
                action: first.action.clone(),
                confidence: first.confidence,
                steps,
                cases: first.cases.clone(),
            })
        };
        let mut all: Vec<Self> = advice.iter().filter_map(of).collect();
        all.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        all.truncate(CONTRIBUTIONS_MAX);
        all
    }
}
