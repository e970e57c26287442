//! What is seen of something that does not work.

use std::{collections::BTreeMap, io::BufRead};

use super::{kubernetes, log};

/// Symptoms that are kept; the gravest win.
const SYMPTOMS_MAX: usize = 64;

/// Characters of one symptom.
const TEXT_CHARS_MAX: usize = 300;

/// Characters of the words that a task is made of: the model reads about as much.
const WORDS_CHARS_MAX: usize = 1_200;

/// What a text is a sign of, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    OutOfMemory,
    NodeNotReady,
    NodePressure,
    Evicted,
    ImagePull,
    MissingConfig,
    Volume,
    Unschedulable,
    DiskFull,
    Certificate,
    Forbidden,
    Probe,
    Dependency,
    Dns,
    Throttled,
    CrashLoop,
    /// Something is wrong, but it is not known what it is a sign of.
    Other,
}

/// Words by which each is known, in lower case. The first that is found in a text decides.
const WORDS: &[(&str, Sign)] = &[
    ("oomkill", Sign::OutOfMemory),
    ("out of memory", Sign::OutOfMemory),
    ("outofmemory", Sign::OutOfMemory),
    ("exit code 137", Sign::OutOfMemory),
    ("cannot allocate memory", Sign::OutOfMemory),
    ("nodenotready", Sign::NodeNotReady),
    ("node is not ready", Sign::NodeNotReady),
    ("kubelet stopped posting", Sign::NodeNotReady),
    ("memorypressure", Sign::NodePressure),
    ("diskpressure", Sign::NodePressure),
    ("pidpressure", Sign::NodePressure),
    ("low on resource", Sign::Evicted),
    ("evicted", Sign::Evicted),
    ("imagepullbackoff", Sign::ImagePull),
    ("errimagepull", Sign::ImagePull),
    ("failed to pull image", Sign::ImagePull),
    ("manifest unknown", Sign::ImagePull),
    ("createcontainerconfigerror", Sign::MissingConfig),
    ("configmap \"", Sign::MissingConfig),
    ("secret \"", Sign::MissingConfig),
    ("failedmount", Sign::Volume),
    ("failedattachvolume", Sign::Volume),
    ("unable to attach or mount", Sign::Volume),
    ("failedscheduling", Sign::Unschedulable),
    ("nodes are available", Sign::Unschedulable),
    ("no space left on device", Sign::DiskFull),
    ("disk full", Sign::DiskFull),
    ("certificate has expired", Sign::Certificate),
    ("x509", Sign::Certificate),
    ("certificate", Sign::Certificate),
    ("forbidden", Sign::Forbidden),
    ("permission denied", Sign::Forbidden),
    ("unauthorized", Sign::Forbidden),
    ("probe failed", Sign::Probe),
    ("unhealthy", Sign::Probe),
    ("no such host", Sign::Dns),
    ("name resolution", Sign::Dns),
    ("connection refused", Sign::Dependency),
    ("connection timed out", Sign::Dependency),
    ("i/o timeout", Sign::Dependency),
    ("deadline exceeded", Sign::Dependency),
    ("too many connections", Sign::Dependency),
    ("throttl", Sign::Throttled),
    ("crashloopbackoff", Sign::CrashLoop),
    ("back-off restarting", Sign::CrashLoop),
];

impl Sign {
    /// What the text is a sign of.
    pub fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let known = WORDS.iter().find(|(word, _)| text.contains(word));
        known.map_or(Self::Other, |(_, sign)| *sign)
    }
}

/// Something that was seen, and how often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symptom {
    pub sign: Sign,
    /// In the words of the input, without what differs from time to time.
    pub text: String,
    pub count: u64,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symptoms {
    /// The workload or node that the first document names.
    pub subject: Option<String>,
    seen: BTreeMap<(Sign, String), u64>,
    left_out: u64,
}

/// Why a document was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has {actual} bytes, expected at most {limit}: cut out the part that matters")]
    TooLarge { actual: usize, limit: usize },
    #[error("it looks like JSON, but {reason}: save the whole output of kubectl")]
    Json { reason: String },
    #[error(
        "it is nothing that is understood: expected the output of `kubectl describe`, of \
         `kubectl get events` or of `kubectl get … -o json`"
    )]
    Unknown,
    #[error("reading it failed: {reason}")]
    Io { reason: String },
}

impl Symptoms {
    /// Adds what the output of `kubectl describe`, `kubectl get events` or `kubectl get … -o json` tells.
    pub fn read_document(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        kubernetes::read(bytes, self)
    }

    /// Adds the errors of a log of any length, in bounded memory.
    pub fn read_log(&mut self, lines: impl BufRead) -> Result<(), Unreadable> {
        log::read(lines, self)
    }

    /// Adds one, if there is anything in it.
    pub fn add(&mut self, text: &str, count: u64) {
        let text = normalized(text);
        if text.is_empty() {
            return;
        }
        let known = self.seen.entry((Sign::of(&text), text)).or_default();
        *known = known.saturating_add(count.max(1));
        if self.seen.len() > SYMPTOMS_MAX {
            let least = self.seen.iter().max_by(|a, b| {
                let sign = a.0.0.cmp(&b.0.0);
                sign.then_with(|| b.1.cmp(a.1))
                    .then_with(|| a.0.1.cmp(&b.0.1))
            });
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                self.seen.remove(&key);
                self.left_out += 1;
            }
        }
    }

    pub(super) fn name(&mut self, subject: &str) {
        let subject: String = subject
            .chars()
            .filter(|c| !c.is_control())
            .take(253)
            .collect();
        if self.subject.is_none() && !subject.is_empty() {
            self.subject = Some(subject);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub fn has(&self, sign: Sign) -> bool {
        self.seen.keys().any(|(seen, _)| *seen == sign)
    }

    /// The gravest first, and of one sign the most frequent.
    pub fn gravest(&self) -> Vec<Symptom> {
        let mut symptoms: Vec<Symptom> = self
            .seen
            .iter()
            .map(|((sign, text), count)| Symptom {
                sign: *sign,
                text: text.clone(),
                count: *count,
            })
            .collect();
        symptoms.sort_by(|a, b| {
            let sign = a.sign.cmp(&b.sign);
            sign.then_with(|| b.count.cmp(&a.count))
                .then_with(|| a.text.cmp(&b.text))
        });
        symptoms
    }

    /// As a question to the memory: without the workload's name, so that a case of another one is
    /// found.
    pub fn words(&self) -> String {
        let mut words = String::new();
        for symptom in self.gravest() {
            let room = WORDS_CHARS_MAX.saturating_sub(words.chars().count());
            if symptom.text.chars().count() + 1 > room {
                break;
            }
            if !words.is_empty() {
                words.push('\n');
            }
            words.push_str(&symptom.text);
        }
        words
    }
}

/// One line without what differs from time to time: long numbers and hexadecimal names.
fn normalized(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut clean = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.push_str(&without_ids(word));
        if clean.chars().count() > TEXT_CHARS_MAX {
            break;
        }
    }
    clean.chars().take(TEXT_CHARS_MAX).collect()
}

/// Times, addresses and generated names written as `#`; quantities such as `256Mi` stay.
fn without_ids(word: &str) -> String {
    let part = |part: &str| {
        let digits = part.chars().filter(char::is_ascii_digit).count();
        let is_hex = part.len() >= 8 && part.chars().all(|c| c.is_ascii_hexdigit());
        let is_generated = part.len() >= 9
            && digits >= 2
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if digits >= 5 || is_hex && digits > 0 || is_generated {
            "#".to_owned()
        } else {
            part.to_owned()
        }
    };
    let mut clean = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find(['-', '/', ':', '_', '=', '"', ',', '(', ')', '[', ']']) {
        clean.push_str(&part(&rest[..at]));
        clean.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    clean.push_str(&part(rest));
    clean
}
