//! From a diff to findings, by the evidence of past reviews.
//!
//! ```text
//!                Σ s² of the rule's reviews that were right
//! p(rule) = ─────────────────────────────────────────────────────
//!            Σ s² of those + Σ s² of those that were wrong + 1/4
//! ```
//!
//! A review counts by the square of its similarity, as a case does. That nothing is wrong with the
//! code is worth one review of similarity ½: one comment on similar code is heard, and one rejection
//! of it silences it.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_client::{
    Error, Key, KnowledgeStore, LearningContext, Recalled, Stage, TimeMs, domain,
};
use sha2::{Digest as _, Sha256};

use super::{
    Diff,
    diff::{File, Line, head},
    past::{self, CODE_HEADING},
};
use crate::evidence::similarity;

/// A past review less similar than this says nothing: any two texts are a little alike.
pub const SIMILARITY_MIN: f32 = 0.4;
/// And the closest line shares at least this of its words with the code of the past review.
const CLOSENESS_MIN: f32 = 0.35;
/// What no finding is worth, see the module.
const PRIOR: f32 = 0.25;
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
    store: &dyn KnowledgeStore,
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
            let mut context = context.clone();
            context.domain = Some(domain::CODE_REVIEW.to_owned());
            context.filter = context.filter.domain(domain::CODE_REVIEW);
            // One that was accepted and one that was rejected may say almost the same, and mostly one agent
            // learned both.
            context = context.without(Stage::Fold).without(Stage::Diversity);
            context.task = question(&file.path, &piece);
            let recalled = store.retrieve_context(&context, RECALLED).await?.results;
            for finding in weigh(&file.path, &piece, &recalled, settings) {
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

fn weigh(path: &str, piece: &[&Line], recalled: &[Recalled], settings: &Settings) -> Vec<Finding> {
    let mut rules: BTreeMap<String, Vec<(f32, &Recalled)>> = BTreeMap::new();
    for recalled in recalled {
        let similarity = similarity(recalled);
        if similarity >= SIMILARITY_MIN && past::fits(&recalled.memory, path) {
            let of = rules.entry(past::rule(&recalled.memory)).or_default();
            of.push((similarity, recalled));
        }
    }
    let mut findings: Vec<Finding> = rules
        .into_iter()
        .filter_map(|(rule, past)| finding(path, piece, rule, past))
        .filter(|finding| finding.confidence >= settings.sure)
        .collect();
    findings.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.rule.cmp(&b.rule))
    });
    findings.truncate(PIECE_FINDINGS_MAX);
    findings
}

fn finding(
    path: &str,
    piece: &[&Line],
    rule: String,
    mut past: Vec<(f32, &Recalled)>,
) -> Option<Finding> {
    past.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.memory.key.cmp(&y.memory.key)));
    let sum = |right: bool| -> f32 {
        let such = past
            .iter()
            .filter(|(_, r)| past::was_right(&r.memory) == right);
        such.map(|(similarity, _)| similarity * similarity).sum()
    };
    let (right, wrong) = (sum(true), sum(false));
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
        confidence: right / (right + wrong + PRIOR),
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
