//! Any number of made-up incidents, each told again and again as agents tell them: in the same words, in
//! other order and with other small words, or in words of another person; and questions about them.
//!
//! An incident is a service in a cluster and what happened to it; it has one cause and one remedy. There
//! are many of the same service and many of the same kind, so each is surrounded by what is like it and
//! is not it.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

const SERVICES: [&str; 24] = [
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
    "loyalty",
    "fraud",
];

const PARTS: [&str; 8] = [
    "api",
    "worker",
    "gateway",
    "cache",
    "database",
    "scheduler",
    "consumer",
    "proxy",
];

const CLUSTERS: [&str; 6] = [
    "prod-eu-1",
    "prod-us-2",
    "stage-eu-1",
    "prod-ap-1",
    "prod-us-1",
    "build-eu-3",
];

/// What happened, why, and what helped, each as three people say it.
struct Kind {
    symptom: [&'static str; 3],
    cause: [&'static str; 3],
    remedy: [&'static str; 3],
}

const KINDS: [Kind; 16] = [
    Kind {
        symptom: [
            "pods were killed for lack of memory",
            "containers ran out of memory and were OOM-killed",
            "the kernel ended processes that took too much memory",
        ],
        cause: [
            "the limit was below the working set of the cache",
            "its cache needs more than the limit allows",
            "the memory limit had been set before the cache was added",
        ],
        remedy: [
            "raising the memory limit helped",
            "it was stable with a higher memory limit",
            "we gave it more memory",
        ],
    },
    Kind {
        symptom: [
            "requests failed with expired certificates",
            "clients refused the TLS certificate as out of date",
            "handshakes broke because of an old certificate",
        ],
        cause: [
            "the renewal job had been suspended",
            "nobody had resumed the job that renews it",
            "certificate renewal was switched off during the freeze",
        ],
        remedy: [
            "renewing it by hand and resuming the job helped",
            "we renewed the certificate and started the job",
            "issuing a new certificate fixed it",
        ],
    },
    Kind {
        symptom: [
            "the disk filled up with old logs",
            "no space was left on the volume of the logs",
            "log files took the whole disk",
        ],
        cause: [
            "rotation was off after the migration",
            "the migration had lost the rotation settings",
            "logrotate had no rule for the new path",
        ],
        remedy: [
            "deleting old logs and turning rotation on helped",
            "we removed old files and enabled rotation",
            "cleaning up and adding a rotation rule was enough",
        ],
    },
    Kind {
        symptom: [
            "connections to the database were exhausted",
            "the pool had no free connection",
            "queries waited for a connection until they timed out",
        ],
        cause: [
            "a retry loop never closed its connections",
            "each retry opened another connection and kept it",
            "connections leaked in the retry path",
        ],
        remedy: [
            "closing connections after each retry helped",
            "we fixed the leak in the retry loop",
            "a smaller pool with a time limit solved it",
        ],
    },
    Kind {
        symptom: [
            "consumers lagged hours behind",
            "the queue grew faster than it was read",
            "messages were handled with a long delay",
        ],
        cause: [
            "one partition got most of the keys",
            "the keys were spread badly over partitions",
            "a hot key sent everything to one consumer",
        ],
        remedy: [
            "another partition key helped",
            "we spread the keys over all partitions",
            "hashing the customer into the key solved it",
        ],
    },
    Kind {
        symptom: [
            "the rollout hung half-way",
            "new pods never became ready",
            "the deployment did not go on",
        ],
        cause: [
            "the readiness probe asked a path that was gone",
            "the probe's path had been renamed",
            "the health endpoint moved and the probe did not",
        ],
        remedy: [
            "pointing the probe at the new path helped",
            "we corrected the readiness probe",
            "the probe had to be changed to the new endpoint",
        ],
    },
    Kind {
        symptom: [
            "images could not be pulled",
            "the registry refused the image",
            "pods waited for their image",
        ],
        cause: [
            "the pull secret had been rotated",
            "its registry token was no longer valid",
            "credentials of the registry had changed",
        ],
        remedy: [
            "copying the new secret into the namespace helped",
            "we updated the pull secret",
            "a fresh token in the secret solved it",
        ],
    },
    Kind {
        symptom: [
            "names were resolved slowly",
            "DNS lookups took seconds",
            "every call waited for the resolver",
        ],
        cause: [
            "each lookup tried five search domains first",
            "the search list made five queries of one",
            "ndots sent short names through all suffixes",
        ],
        remedy: [
            "using full names with a final dot helped",
            "we set ndots to one",
            "a local resolver cache solved it",
        ],
    },
    Kind {
        symptom: [
            "the leader changed every few minutes",
            "elections never ended",
            "leadership moved back and forth",
        ],
        cause: [
            "the disk was too slow for its syncs",
            "fsync took longer than the election timeout",
            "other writers on the disk delayed heartbeats",
        ],
        remedy: [
            "moving it to a faster disk helped",
            "we gave it a disk of its own",
            "a longer election timeout and better disks solved it",
        ],
    },
    Kind {
        symptom: [
            "jobs ran twice",
            "the same task was done by two workers",
            "scheduled work was repeated",
        ],
        cause: [
            "the lock expired before the job ended",
            "locks were shorter than the jobs",
            "the lease ran out while the job was still at work",
        ],
        remedy: [
            "renewing the lock while the job runs helped",
            "we made the lease renew itself",
            "fencing tokens solved it",
        ],
    },
    Kind {
        symptom: [
            "latency doubled after the upgrade",
            "responses took twice as long with the new version",
            "the upgrade made everything slow",
        ],
        cause: [
            "the new driver prepared each statement anew",
            "statements were no longer cached by the driver",
            "the statement cache was off in the new driver",
        ],
        remedy: [
            "turning the statement cache on helped",
            "we enabled caching in the driver",
            "going back to the old driver solved it",
        ],
    },
    Kind {
        symptom: [
            "requests were refused with too many requests",
            "the rate limiter turned callers away",
            "clients met the rate limit",
        ],
        cause: [
            "a batch job shared the limit of users",
            "nightly batches used the same key as people",
            "one internal job took the whole quota",
        ],
        remedy: [
            "a limit of its own for the batch helped",
            "we split the quota between batch and users",
            "giving the job another key solved it",
        ],
    },
    Kind {
        symptom: [
            "the configuration was read as empty",
            "settings fell back to their defaults",
            "none of the settings took effect",
        ],
        cause: [
            "the config map was mounted at another path",
            "the mount path had a typing error",
            "the volume was mounted beside the expected directory",
        ],
        remedy: [
            "correcting the mount path helped",
            "we mounted it where it is read",
            "fixing the volume's path solved it",
        ],
    },
    Kind {
        symptom: [
            "garbage collection stopped everything for seconds",
            "long pauses of the collector froze it",
            "the runtime paused again and again",
        ],
        cause: [
            "the heap was nearly as large as the memory limit",
            "there was no room between heap and limit",
            "the heap had been set to the size of the container",
        ],
        remedy: [
            "a smaller heap helped",
            "we left a quarter of memory outside the heap",
            "another collector with a smaller heap solved it",
        ],
    },
    Kind {
        symptom: [
            "traffic went to pods that were gone",
            "calls reached addresses of removed pods",
            "connections were reset after each scale-down",
        ],
        cause: [
            "pods ended before the endpoints were updated",
            "they stopped sooner than the load balancer knew",
            "there was no delay before the shutdown",
        ],
        remedy: [
            "a short sleep before shutdown helped",
            "we added a preStop delay",
            "draining connections first solved it",
        ],
    },
    Kind {
        symptom: [
            "the index was rebuilt at each start",
            "every restart indexed all documents again",
            "starting took an hour of indexing",
        ],
        cause: [
            "the data volume was not persistent",
            "its directory lay on an ephemeral disk",
            "the volume claim had been dropped from the chart",
        ],
        remedy: [
            "a persistent volume helped",
            "we put the claim back into the chart",
            "mounting a disk that stays solved it",
        ],
    },
];

/// A made-up incident. Equal ones are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incident {
    service: usize,
    part: usize,
    cluster: usize,
    kind: usize,
}

/// Different incidents that there can be.
pub(crate) const INCIDENTS: usize = SERVICES.len() * PARTS.len() * CLUSTERS.len() * KINDS.len();

impl Incident {
    /// Number `number` of [`INCIDENTS`].
    pub(crate) fn number(number: usize) -> Self {
        let (rest, kind) = (number / KINDS.len(), number % KINDS.len());
        let (rest, cluster) = (rest / CLUSTERS.len(), rest % CLUSTERS.len());
        Self {
            service: rest / PARTS.len() % SERVICES.len(),
            part: rest % PARTS.len(),
            cluster,
            kind,
        }
    }

    /// As the person tells it who told it first.
    pub(crate) fn first(self) -> String {
        self.told(0, 0, "")
    }

    /// In the words of that person, in another order or with other small words.
    pub(crate) fn reworded(self, random: &mut StdRng) -> String {
        const OPENINGS: [&str; 6] = [
            "",
            "Again: ",
            "Once more: ",
            "Seen again: ",
            "As before, ",
            "And again, ",
        ];
        let opening = OPENINGS.choose(random).expect("there are openings");
        self.told(0, random.random_range(0..ORDERS), opening)
    }

    /// In the words of somebody else.
    pub(crate) fn retold(self, random: &mut StdRng) -> String {
        self.told(1, random.random_range(0..ORDERS), "")
    }

    /// As the third of them asks, who has it for the first time and suspects the cause.
    pub(crate) fn question(self, random: &mut StdRng) -> String {
        let kind = &KINDS[self.kind];
        let (symptom, cause) = (kind.symptom[ASKING], kind.cause[ASKING]);
        let (subject, cluster) = (self.subject(), CLUSTERS[self.cluster]);
        match random.random_range(0..3) {
            0 => format!("{subject}, {cluster}: {symptom}, maybe since {cause}. What to do?"),
            1 => format!("what helped when {symptom} on {subject} of {cluster} and {cause}?"),
            _ => format!("{symptom} ({subject} in {cluster}); could it be that {cause}?"),
        }
    }

    fn subject(self) -> String {
        format!("{} {}", SERVICES[self.service], PARTS[self.part])
    }

    fn told(self, person: usize, order: usize, opening: &str) -> String {
        let kind = &KINDS[self.kind];
        let (subject, cluster) = (self.subject(), CLUSTERS[self.cluster]);
        let (symptom, cause, remedy) = (
            kind.symptom[person],
            kind.cause[person],
            kind.remedy[person],
        );
        match order {
            0 => {
                format!("{opening}{subject} in {cluster}: {symptom}. The cause: {cause}; {remedy}.")
            }
            1 => format!(
                "{opening}{symptom} at the {subject} of {cluster}, since {cause}, and {remedy}."
            ),
            2 => format!(
                "{opening}{remedy} when {symptom} on the {subject} in {cluster}, because {cause}."
            ),
            _ => format!(
                "{opening}in {cluster} {symptom} for {subject}; the reason was that {cause}. There {remedy}."
            ),
        }
    }
}

/// Whoever asks: nothing that is learned is in these words.
const ASKING: usize = 2;

/// Ways to put what one person says.
const ORDERS: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_number_is_another_incident_told_in_other_words() {
        let all: BTreeSet<Incident> = (0..INCIDENTS).map(Incident::number).collect();
        assert_eq!(all.len(), INCIDENTS);
        let mut random = StdRng::seed_from_u64(1);
        let one = Incident::number(12_345);
        let texts: BTreeSet<String> = (0..100).map(|_| one.retold(&mut random)).collect();
        assert_eq!(texts.len(), ORDERS);
        assert!(!texts.contains(&one.first()));
    }

    /// The beginnings of words of more than three letters, so that inflected ones count as the same.
    fn words(texts: &[&str]) -> BTreeSet<String> {
        let words = texts
            .iter()
            .flat_map(|t| t.split(|c: char| !c.is_alphanumeric()));
        let long = words.filter(|word| word.len() > 3);
        long.map(|word| word.to_lowercase().chars().take(5).collect())
            .collect()
    }

    #[test]
    fn who_asks_has_few_words_in_common_with_who_tells() {
        let (mut asked, mut common) = (0, [0; ASKING]);
        for kind in &KINDS {
            let question = words(&[kind.symptom[ASKING], kind.cause[ASKING]]);
            asked += question.len();
            for (person, common) in common.iter_mut().enumerate() {
                let told = words(&[
                    kind.symptom[person],
                    kind.cause[person],
                    kind.remedy[person],
                ]);
                let both = question.intersection(&told).count();
                assert!(
                    both * 5 <= question.len() * 3,
                    "{both} of {question:?} are also in {told:?}"
                );
                *common += both;
            }
        }
        for common in common {
            assert!(common * 4 <= asked, "{common} of {asked} words are told");
        }
    }
}
