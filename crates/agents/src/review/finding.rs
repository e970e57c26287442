//! From a diff to findings, by the evidence of past reviews.
//!
//! Each piece of added lines is a task: which of the rules that past reviews of similar code name hold here
//! too? Several may, or none, so each stands for itself ([`Task::independent`]); that none does is the
//! executor's abstention, or a confidence below what is asked for. The case-based executor lets one comment on
//! similar code be heard, and one rejection of it silence it.

use std::collections::BTreeSet;

use memorygate_client::{Key, LearningContext, Recalled, TimeMs, domain};
use sha2::{Digest as _, Sha256};

use super::{
    Diff,
    diff::{File, Line, head},
    past::{self, CODE_HEADING},
};
use crate::{
    agent::{Error, MemoryEnabledAgent},
    cited::Cited,
    decision::Proposal,
    evidence::{Case, Evidence, Known, similarity},
    task::{Action, Task},
};

/// A past review less similar than this says nothing: any two texts are a little alike.
pub const SIMILARITY_MIN: f32 = 0.4;
/// And the closest line shares at least this of its words with the code of the past review.
const CLOSENESS_MIN: f32 = 0.35;
/// Added lines of one question, and their bytes: about what a model reads at once.
const PIECE_LINES: usize = 20;
const PIECE_BYTES_MAX: usize = 2000;
/// Questions of one review; what is left is told.
pub const PIECES_MAX: usize = 500;
const RECALLED: usize = 20;
const PIECE_FINDINGS_MAX: usize = 3;
const FILE_FINDINGS_MAX: usize = 20;
/// The same finding at most so many lines on is one.
const NEAR_LINES: u32 = 5;
const PAST_MAX: usize = 5;
const TEXT_CHARS_MAX: usize = 400;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A finding less sure than this is not reported, 0 to 1; 0.5 by default.
    pub sure: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sure: 0.5 }
    }
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Review {
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    pub files: usize,
    /// Pieces of added lines that the memory was asked about, and those beyond the bound.
    pub asked: usize,
    pub left_out: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub path: String,
    /// After the change, from 1.
    pub line: u32,
    /// The line's text.
    pub code: String,
    /// The name of what was found.
    pub rule: String,
    /// A past reviewer's words. They are quoted, not ours: they may say anything.
    pub message: String,
    pub severity: Severity,
    /// That a reviewer would say the same, 0 to 1.
    pub confidence: f32,
    /// The most similar first.
    pub past: Vec<PastReview>,
    /// The same for the same finding at the same code, wherever its line moves.
    pub fingerprint: String,
    /// The added lines that the memory was asked about, for what is learned of it.
    pub(super) piece: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PastReview {
    pub key: Key,
    pub was_right: bool,
    pub similarity: f32,
    pub text: String,
    pub agent: Option<String>,
    pub at: TimeMs,
    /// How often it was seen.
    pub occurrences: u32,
}

impl PastReview {
    /// As other agents show it.
    pub(crate) fn cited(&self) -> Cited {
        Cited {
            key: self.key,
            text: self.text.clone(),
            worked: Some(self.was_right),
            similarity: self.similarity,
            agent: self.agent.clone(),
            at: self.at,
            occurrences: self.occurrences,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Note,
    Warning,
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Note, Self::Warning, Self::Error]
            .into_iter()
            .find(|severity| severity.as_str() == text)
    }
}

/// Asks the memory about all that a diff adds.
pub async fn review(
    agent: &MemoryEnabledAgent,
    context: &LearningContext,
    diff: &Diff,
    settings: &Settings,
) -> Result<Review, Error> {
    let mut review = Review {
        files: diff.files.len(),
        ..Review::default()
    };
    for file in &diff.files {
        let mut found: Vec<Finding> = Vec::new();
        for piece in pieces(file) {
            if review.asked == PIECES_MAX {
                review.left_out += 1;
                continue;
            }
            review.asked += 1;
            let found_here = look(agent, context, &file.path, &piece, settings).await?;
            for finding in found_here {
                join(&mut found, finding);
            }
        }
        found.sort_by(|a, b| {
            b.confidence
                .total_cmp(&a.confidence)
                .then(a.line.cmp(&b.line))
        });
        found.truncate(FILE_FINDINGS_MAX);
        found.sort_by(|a, b| (a.line, &a.rule).cmp(&(b.line, &b.rule)));
        review.findings.extend(found);
    }
    Ok(review)
}

/// Added lines that are asked about together.
fn pieces(file: &File) -> Vec<Vec<&Line>> {
    let mut pieces = Vec::new();
    for hunk in &file.hunks {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for line in hunk.added().filter(|line| !line.text.trim().is_empty()) {
            if piece.len() == PIECE_LINES || bytes + line.text.len() > PIECE_BYTES_MAX {
                pieces.push(std::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += line.text.len();
            piece.push(line);
        }
        pieces.push(piece);
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// In the form of a past review, so that like meets like.
fn question(path: &str, piece: &[&Line]) -> String {
    let code: Vec<String> = piece.iter().map(|line| format!("+{}", line.text)).collect();
    format!(
        "Review of {}{CODE_HEADING}{}",
        head(path, 256),
        code.join("\n")
    )
}

/// What the executor finds in one piece, by the past reviews of similar code.
async fn look(
    agent: &MemoryEnabledAgent,
    context: &LearningContext,
    path: &str,
    piece: &[&Line],
    settings: &Settings,
) -> Result<Vec<Finding>, Error> {
    let mut task = Task::new(LearningContext {
        task: question(path, piece),
        domain: Some(domain::CODE_REVIEW.to_owned()),
        ..context.clone()
    })
    .independent();
    let mut recalled = agent.recall(&task, RECALLED).await?;
    recalled.retain(|r| similarity(r) >= SIMILARITY_MIN && past::fits(&r.memory, path));
    let evidence = evidence(recalled);
    if evidence.cases.is_empty() {
        return Ok(Vec::new());
    }
    for known in &evidence.known {
        let of = |case: &&Case| case.action == known.action;
        let case = evidence.cases.iter().find(of).map(|case| case.key);
        let said = evidence
            .recalled
            .iter()
            .find(|r| Some(r.memory.key) == case);
        let said = said.map(|r| past::message(&r.memory)).unwrap_or_default();
        let action = Action::new(&known.action).described(said);
        task = task.action(action.fitting(known.similarity));
    }
    let performed = agent.decide(&task, evidence).await?;
    if performed.decision.abstained {
        return Ok(Vec::new());
    }
    let mut findings: Vec<Finding> = performed
        .decision
        .proposals
        .iter()
        .filter(|proposal| proposal.confidence >= settings.sure)
        .filter_map(|proposal| finding(path, piece, proposal, &performed.evidence))
        .collect();
    findings.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.rule.cmp(&b.rule))
    });
    findings.truncate(PIECE_FINDINGS_MAX);
    Ok(findings)
}

/// The rules that past reviews name, each with those for and against it. Nothing but these speaks for one.
fn evidence(recalled: Vec<Recalled>) -> Evidence {
    let case = |r: &Recalled| Case {
        key: r.memory.key,
        action: past::rule(&r.memory),
        worked: past::was_right(&r.memory),
        similarity: similarity(r),
        occurrences: r.memory.occurrences,
    };
    let cases: Vec<Case> = recalled.iter().map(case).collect();
    let rules: BTreeSet<&str> = cases.iter().map(|case| case.action.as_str()).collect();
    let known = |rule: &&str| Known {
        action: (*rule).to_owned(),
        similarity: 0.0,
    };
    Evidence {
        known: rules.iter().map(known).collect(),
        cases,
        recalled,
    }
}

fn finding(
    path: &str,
    piece: &[&Line],
    proposal: &Proposal,
    evidence: &Evidence,
) -> Option<Finding> {
    let rule = proposal.action.clone();
    let mut past: Vec<(f32, &Recalled)> = evidence
        .recalled
        .iter()
        .filter(|r| past::rule(&r.memory) == rule)
        .map(|r| (similarity(r), r))
        .collect();
    past.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.memory.key.cmp(&y.memory.key)));
    let (_, said) = past.iter().find(|(_, r)| past::was_right(&r.memory))?;
    let close = |line: &Line| past::closeness(&line.text, &said.memory);
    // The first of those that are equally close.
    let closest = piece
        .iter()
        .rev()
        .max_by(|a, b| close(a).total_cmp(&close(b)))?;
    if close(closest) < CLOSENESS_MIN {
        return None;
    }
    let severity = said.memory.metadata.get(past::SEVERITY_METADATA);
    let code = closest.text.trim().to_owned();
    Some(Finding {
        path: path.to_owned(),
        line: closest.number,
        message: past::message(&said.memory),
        severity: severity
            .and_then(|text| Severity::parse(text))
            .unwrap_or(Severity::Warning),
        confidence: proposal.confidence,
        fingerprint: fingerprint(&[path, &rule, &code]),
        past: past
            .iter()
            .take(PAST_MAX)
            .map(|(similarity, r)| cited(*similarity, r))
            .collect(),
        piece: piece.iter().map(|line| line.text.clone()).collect(),
        code,
        rule,
    })
}

fn cited(similarity: f32, recalled: &Recalled) -> PastReview {
    let memory = &recalled.memory;
    PastReview {
        key: memory.key,
        was_right: past::was_right(memory),
        similarity,
        text: memory.content.chars().take(TEXT_CHARS_MAX).collect(),
        agent: memory.agent.clone(),
        at: memory.last_seen_at,
        occurrences: memory.occurrences,
    }
}

/// The surer one of two that say the same on near lines.
fn join(found: &mut Vec<Finding>, finding: Finding) {
    let same = |other: &&mut Finding| {
        let says_it = other.rule == finding.rule || other.message == finding.message;
        says_it && other.line.abs_diff(finding.line) <= NEAR_LINES
    };
    match found.iter_mut().find(same) {
        Some(other) if other.confidence >= finding.confidence => {}
        Some(other) => *other = finding,
        None => found.push(finding),
    }
}

fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Review {
    /// Each rule once.
    pub(super) fn rules(&self) -> BTreeSet<&str> {
        self.findings
            .iter()
            .map(|finding| finding.rule.as_str())
            .collect()
    }
}
