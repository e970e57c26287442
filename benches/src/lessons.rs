//! Any number of made-up DevOps lessons, and questions about such things, from a seed.
//!
//! For sizes that no real collection at hand has. What matters for speed is held realistic: notes of
//! two to four sentences; words that repeat as in a language, the most frequent one much more than
//! others (Zipf); identifiers that occur once; a third of the texts in sessions of two to eight.
//! They are no measure of quality.

use memorygate_client::{Experience, domain, experience::VECTOR_DIMENSION};
use memorygate_core::time::TimeMs;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Half of all lessons have it, whatever else they have.
pub(crate) const HALF: (&str, &str) = ("environment", "production");
const OTHER_HALF: &str = "staging";

/// When the first lesson happened, 2020-01-01T00:00:00Z; each next one comes half a minute later, so
/// that seven million of them lie in the past.
const START_MS: i64 = 1_577_836_800_000;
const STEP_MS: i64 = 30 * 1000;

const NOUNS: &[&str] = &[
    "checkout",
    "payments",
    "search",
    "catalog",
    "orders",
    "inventory",
    "billing",
    "identity",
    "sessions",
    "notifications",
    "shipping",
    "pricing",
    "reviews",
    "recommendations",
    "reports",
    "ledger",
    "invoices",
    "media",
    "uploads",
    "exports",
    "audit",
    "webhooks",
    "feeds",
    "tax",
    "loyalty",
    "geo",
    "fraud",
    "cart",
    "profile",
    "support",
    "warehouse",
    "returns",
];
const KINDS: &[&str] = &[
    "api",
    "worker",
    "gateway",
    "cache",
    "db",
    "scheduler",
    "consumer",
    "proxy",
    "indexer",
];
const CLUSTERS: &[&str] = &[
    "prod-eu-1",
    "prod-us-2",
    "stage-eu-1",
    "prod-ap-1",
    "edge-lab",
    "prod-us-1",
    "stage-us-1",
    "build-eu",
    "prod-sa-1",
    "data-eu-2",
];
const COMPONENTS: &[&str] = &[
    "Postgres",
    "the ingress controller",
    "Redis",
    "Kafka",
    "the kubelet",
    "CoreDNS",
    "etcd",
    "the sidecar",
    "nginx",
    "the service mesh",
    "Envoy",
    "the node pool",
    "the load balancer",
    "Elasticsearch",
    "the cluster autoscaler",
    "RabbitMQ",
    "the secret store",
    "containerd",
    "the registry mirror",
    "Prometheus",
    "the message broker",
    "the cron job",
    "Terraform",
    "the NAT gateway",
    "Helm",
    "the object store",
    "the connection pool",
    "Vault",
    "HAProxy",
    "the certificate manager",
    "ZooKeeper",
    "the log shipper",
    "Cassandra",
    "the CI runner",
];
const ERRORS: &[&str] = &[
    "OOMKilled",
    "CrashLoopBackOff",
    "ERR_CONN_RESET",
    "context deadline exceeded",
    "too many connections",
    "no space left on device",
    "ImagePullBackOff",
    "ECONNREFUSED",
    "certificate has expired",
    "503 Service Unavailable",
    "i/o timeout",
    "deadlock detected",
    "NXDOMAIN",
    "429 Too Many Requests",
    "connection reset by peer",
    "permission denied",
    "EADDRINUSE",
    "upstream prematurely closed connection",
    "SIGSEGV",
    "read-only file system",
    "FailedScheduling",
    "x509: certificate signed by unknown authority",
    "502 Bad Gateway",
    "etcdserver: request timed out",
    "NotReady",
    "exit code 137",
    "Evicted",
    "lock wait timeout",
];
const SYMPTOMS: &[&str] = &[
    "{service} in {cluster} went down with {error} shortly after the rollout of {version}.",
    "p99 latency of {service} rose from {small} to {large} ms while traffic stayed the same.",
    "Pods of {service} restarted every {small} minutes with {error}.",
    "{component} reported {error} whenever {service} opened more than {large} connections.",
    "The deploy of {service} {version} hung at {small} % and was rolled back.",
    "Alerts for {service} fired {small} times during the night, each one for {error}.",
    "Review of the change to {service}: it retries without back-off, so {component} sees {error}.",
    "Consumers of {service} lagged {large} messages behind after {component} was upgraded.",
    "Half of the requests to {service} failed with {error}, only from {cluster}.",
    "Disk of {host} filled up since {component} kept {large} old files open.",
    "A migration of {service} locked a table for {small} minutes and writers saw {error}.",
    "Users of {service} were logged out; {component} answered {error} for {small} minutes.",
];
const CAUSES: &[&str] = &[
    "{component} still had the old limit of {large} from before the move to {cluster}.",
    "The memory limit was {large} Mi and a nightly batch of {service} needs twice as much.",
    "A config map had been edited by hand, so {pod} ran with other settings than its siblings.",
    "DNS answers of {component} were cached for {small} minutes and pointed to {host}.",
    "The readiness probe passed before {service} had warmed its cache.",
    "Someone had pinned {component} to {version}, which leaks file descriptors.",
    "Idle time-outs were in the wrong order: {small} s in front, {large} s behind {component}.",
    "The index on the largest table was missing, so every call of {service} scanned it all.",
    "A retry storm: each of {small} callers repeated every request {small} times.",
    "The certificate of {component} was renewed, but {service} reads it only at start.",
    "Requests of {service} were far below what it uses, so the scheduler overfilled {host}.",
    "Clock drift of {small} s on {host} made tokens look expired.",
];
const FIXES: &[&str] = &[
    "Raised the limit to {large} and added an alert at {small} % below it.",
    "Rolled back to {version}; the next release of {service} carries the fix.",
    "Set maxSurge to {small} and a PodDisruptionBudget for {service}.",
    "Drained {host}, replaced it, and let {component} rebalance.",
    "Added the index concurrently; the same query now takes {small} ms.",
    "Moved {service} to a pool of its own, so that it cannot starve {component}.",
    "Restarted {pod} and the others one by one; since then no more {error}.",
    "Put a jittered back-off into the client and a budget of {small} retries a minute.",
    "Bumped keep-alive in {component} above the balancer's {small} s.",
    "Removed the hand-made change and let the pipeline own that file.",
];
const FOLLOW_UPS: &[&str] = &[
    "See {ticket} for the graphs.",
    "The runbook of {service} has a new section on this.",
    "Follow-up {ticket}: test this in {cluster} before the next freeze.",
    "Watch {component} for a week.",
    "{pod} is kept for a core dump.",
    "Commit {commit} has the details.",
];
const QUESTIONS: &[&str] = &[
    "why does {service} fail with {error}?",
    "what did we do when {component} answered {error} in {cluster}?",
    "{service} became slow although traffic is the same, where to look first",
    "how was {error} on {service} fixed the last time",
    "rollout of {service} hangs, what has helped before?",
    "disk full because of {component}",
    "which limit of {component} has to be raised for {service}?",
    "logins fail from {cluster} only",
    "retries make an outage of {service} worse, what should a client do instead",
    "who changed the settings of {component} by hand and what broke?",
    "is it safe to upgrade {component} to {version}?",
    "pods restart again and again with {error} after a deploy",
];

/// Draws lessons and questions. The same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Lessons {
    random: StdRng,
    drawn: u64,
    /// The open session's number and how many of its lessons are still to come.
    session: (u64, u32),
}

impl Lessons {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            drawn: 0,
            session: (0, 0),
        }
    }

    /// The next lesson; no two have the same content.
    pub(crate) fn lesson(&mut self) -> Experience {
        let at = self.drawn;
        self.drawn += 1;
        let mut content = self.text(SYMPTOMS);
        let second = if self.random.random_bool(0.5) {
            CAUSES
        } else {
            FIXES
        };
        content.push(' ');
        content.push_str(&self.text(second));
        while self.random.random_bool(0.3) {
            content.push(' ');
            content.push_str(&self.text(FOLLOW_UPS));
        }
        // The number in it is what makes it the only one of its kind.
        content.push_str(&format!(" INC-{at}"));
        let half = if self.random.random_bool(0.5) {
            HALF.1
        } else {
            OTHER_HALF
        };
        let domain = *domain::ALL
            .choose(&mut self.random)
            .expect("there are four domains");
        let agent = self.random.random_range(0..20);
        let step = i64::try_from(at).expect("nobody draws 2^63 lessons");
        let lesson = Experience::new(content, domain)
            .occurred_at(TimeMs(START_MS + step * STEP_MS))
            .importance(self.random.random_range(0.2..0.9))
            .agent(format!("agent-{agent}"))
            .metadata(HALF.0, half);
        match self.next_session() {
            Some(session) => lesson.session(session),
            None => lesson,
        }
    }

    /// A question of 4 to 15 words.
    pub(crate) fn question(&mut self) -> String {
        self.text(QUESTIONS)
    }

    /// A direction without meaning, for what measures the way of a vector and not its worth.
    pub(crate) fn vector(&mut self) -> Vec<f32> {
        (0..VECTOR_DIMENSION)
            .map(|_| self.random.random_range(-1.0..1.0))
            .collect()
    }

    fn next_session(&mut self) -> Option<String> {
        let (number, left) = self.session;
        if left > 0 {
            self.session.1 -= 1;
            return Some(format!("incident-{number}"));
        }
        // A session has 5 lessons on average and is begun by one in 11 of the others, so that a third
        // are in one.
        if self.random.random_bool(1.0 / 11.0) {
            self.session = (number + 1, self.random.random_range(1..8));
            return Some(format!("incident-{}", number + 1));
        }
        None
    }

    /// One of `templates` with its slots filled.
    fn text(&mut self, templates: &[&str]) -> String {
        let template = *templates
            .choose(&mut self.random)
            .expect("no list is empty");
        let mut text = String::with_capacity(2 * template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (slot, after) = after.split_once('}').expect("every slot is closed");
            text.push_str(before);
            text.push_str(&self.fill(slot));
            rest = after;
        }
        text.push_str(rest);
        text
    }

    fn fill(&mut self, slot: &str) -> String {
        match slot {
            "service" => format!("{}-{}", self.frequent(NOUNS), self.frequent(KINDS)),
            "cluster" => self.frequent(CLUSTERS).to_owned(),
            "component" => self.frequent(COMPONENTS).to_owned(),
            "error" => self.frequent(ERRORS).to_owned(),
            "small" => self.random.random_range(2..60).to_string(),
            "large" => (self.random.random_range(4..80) * 50).to_string(),
            "version" => {
                let (minor, patch) = (
                    self.random.random_range(0..40),
                    self.random.random_range(0..12),
                );
                format!("v{}.{minor}.{patch}", self.random.random_range(1..6))
            }
            "ticket" => format!("OPS-{}", self.random.random_range(1000..90_000)),
            "commit" => format!("{:07x}", self.random.random_range(0..0x1000_0000)),
            "host" => {
                let (a, b) = (
                    self.random.random_range(0..32),
                    self.random.random_range(1..255),
                );
                format!("ip-10-2-{a}-{b}")
            }
            "pod" => {
                let service = self.fill("service");
                format!("{service}-{:05x}", self.random.random_range(0..0x10_0000))
            }
            other => unreachable!("no template has a slot {other:?}"),
        }
    }

    /// The `n`-th of a list is drawn `n` times less often than the first (Zipf's law).
    fn frequent<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let weighted: Vec<(usize, &str)> = list.iter().copied().enumerate().collect();
        let drawn = weighted.choose_weighted(&mut self.random, |(n, _)| 1.0 / (n + 1) as f64);
        drawn
            .expect("no list is empty and all weights are positive")
            .1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn lessons(seed: u64, count: usize) -> Vec<Experience> {
        let mut lessons = Lessons::new(seed);
        (0..count).map(|_| lessons.lesson()).collect()
    }

    #[test]
    fn a_seed_always_gives_the_same() {
        assert_eq!(lessons(7, 20), lessons(7, 20));
        assert_ne!(lessons(7, 1), lessons(8, 1));
        let questions = |seed| {
            let mut lessons = Lessons::new(seed);
            (lessons.question(), lessons.vector())
        };
        assert_eq!(questions(3), questions(3));
    }

    #[test]
    fn no_two_contents_are_equal_and_all_are_of_ordinary_length() {
        let lessons = lessons(1, 5000);
        let contents: BTreeSet<&str> = lessons.iter().map(|l| l.content.as_str()).collect();
        assert_eq!(contents.len(), lessons.len());
        let words: Vec<usize> = contents
            .iter()
            .map(|c| c.split_whitespace().count())
            .collect();
        let mean = words.iter().sum::<usize>() / words.len();
        assert!((22..34).contains(&mean), "{mean} words on average");
        assert!(words.iter().all(|n| (12..90).contains(n)), "{words:?}");
        assert!(contents.iter().all(|c| !c.contains(['{', '}'])));
    }

    #[test]
    fn halves_are_halves() {
        let lessons = lessons(2, 5000);
        let share = |is: &dyn Fn(&&Experience) -> bool| {
            lessons.iter().filter(is).count() as f64 / lessons.len() as f64
        };
        let half = share(&|l| l.metadata.get(HALF.0).is_some_and(|value| value == HALF.1));
        assert!((0.47..0.53).contains(&half), "{half}");
        let in_session = share(&|l| l.session.is_some());
        assert!((0.27..0.40).contains(&in_session), "{in_session}");
    }

    #[test]
    fn words_repeat_as_in_a_language() {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for lesson in lessons(3, 5000) {
            for word in lesson.content.split_whitespace() {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let all: usize = counts.iter().sum();
        let frequent: usize = counts.iter().take(100).sum();
        assert!(
            frequent * 2 > all,
            "the 100 most frequent words are {frequent} of {all}"
        );
        let once = counts.iter().filter(|n| **n == 1).count();
        assert!(
            once * 2 > counts.len(),
            "{once} of {} words occur once",
            counts.len()
        );
    }

    #[test]
    fn a_session_follows_in_time() {
        let lessons = lessons(4, 2000);
        let times: Vec<_> = lessons.iter().map(|l| l.occurred_at.unwrap()).collect();
        assert!(times.is_sorted());
        let sessions: BTreeSet<&String> =
            lessons.iter().filter_map(|l| l.session.as_ref()).collect();
        let changes = lessons
            .windows(2)
            .filter(|w| w[0].session != w[1].session)
            .count();
        // Each session is one run, so it begins once and ends once.
        assert!(
            changes <= 2 * sessions.len(),
            "{changes} changes, {} sessions",
            sessions.len()
        );
    }
}
