//! What can be the matter, what it shows itself by, and what remedies it.

use super::symptom::{Sign, Symptoms};

/// A cause that is known without any memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The name of its remedy.
    pub action: &'static str,
    pub cause: &'static str,
    /// It is possible where any of these was seen.
    pub signs: &'static [Sign],
    pub steps: &'static [&'static str],
}

/// Of a remedy that comes from past cases alone.
pub(super) const STEPS_OF_UNKNOWN: &[&str] = &["do what was done in the cases below"];

pub const CAUSES: &[Cause] = &[
    Cause {
        action: "raise-memory-limit",
        cause: "the container is killed because its memory limit is lower than what it needs",
        signs: &[Sign::OutOfMemory],
        steps: &[
            "compare the container's peak working set with its limit (kubectl top pod --containers)",
            "raise resources.limits.memory to the peak and a fifth more, the request with it",
            "watch for a day: if it grows without end, it is a leak",
        ],
    },
    Cause {
        action: "fix-memory-leak",
        cause: "the program's memory grows without end, by a leak or a cache without a bound",
        signs: &[Sign::OutOfMemory],
        steps: &[
            "see whether memory grows steadily since the last start",
            "compare with the revision before; roll back if it did not grow there",
            "take a heap profile and bound or free what grows",
        ],
    },
    Cause {
        action: "recover-node",
        cause: "the node's kubelet or network is gone, so that its pods are not run any more",
        signs: &[Sign::NodeNotReady],
        steps: &[
            "look at the kubelet on the node (journalctl -u kubelet), its disk and its network",
            "cordon and drain the node, then restart the kubelet or replace the node",
        ],
    },
    Cause {
        action: "relieve-node",
        cause: "the node runs out of memory, disk or processes and evicts pods",
        signs: &[Sign::NodePressure, Sign::Evicted, Sign::DiskFull],
        steps: &[
            "see what uses the node (kubectl describe node, kubectl top pod -A)",
            "remove old images and logs, or move the largest pods away",
            "set requests that tell what pods use, so that the scheduler knows",
        ],
    },
    Cause {
        action: "set-requests",
        cause: "pods are evicted first because they request less than they use",
        signs: &[Sign::Evicted, Sign::NodePressure],
        steps: &["set resources.requests to what the pod uses in a busy hour"],
    },
    Cause {
        action: "fix-image",
        cause: "the image's name or tag is wrong, or it was never pushed",
        signs: &[Sign::ImagePull],
        steps: &[
            "look for the tag in the registry",
            "correct spec.containers[].image, or push the image, or roll back",
        ],
    },
    Cause {
        action: "fix-pull-secret",
        cause: "the registry refuses the pull: the credentials are missing or expired",
        signs: &[Sign::ImagePull, Sign::Forbidden],
        steps: &[
            "pull the image with the secret's credentials by hand",
            "renew the secret and name it in imagePullSecrets",
        ],
    },
    Cause {
        action: "create-missing-config",
        cause: "a ConfigMap, a Secret or a key of it that the pod names is not there",
        signs: &[Sign::MissingConfig, Sign::Volume],
        steps: &["create what the message names, in the pod's own namespace"],
    },
    Cause {
        action: "fix-volume",
        cause: "the volume cannot be attached or mounted: held by another node, or of a wrong class",
        signs: &[Sign::Volume],
        steps: &[
            "see who holds it (kubectl get volumeattachment)",
            "remove an attachment to a node that is gone; check the storage class and the zone",
        ],
    },
    Cause {
        action: "make-room",
        cause: "no node has the processors or the memory that the pod requests",
        signs: &[Sign::Unschedulable],
        steps: &[
            "compare the requests with what nodes have left (kubectl describe nodes)",
            "lower the requests to what is used, or add a node",
        ],
    },
    Cause {
        action: "fix-placement",
        cause: "taints, node selectors, affinity or zones leave no node for the pod",
        signs: &[Sign::Unschedulable],
        steps: &[
            "compare the pod's selectors and tolerations with the labels and taints of the nodes",
        ],
    },
    Cause {
        action: "free-disk",
        cause: "a volume or a node's file system is full",
        signs: &[Sign::DiskFull, Sign::NodePressure],
        steps: &[
            "find what fills it (du -x), remove or rotate it",
            "enlarge the volume claim",
        ],
    },
    Cause {
        action: "renew-certificate",
        cause: "a TLS certificate expired, or is not trusted by who checks it",
        signs: &[Sign::Certificate],
        steps: &[
            "read its dates and issuer (openssl s_client -connect HOST:443)",
            "renew it, reload who serves it, and see why it was not renewed by itself",
        ],
    },
    Cause {
        action: "grant-permission",
        cause: "the service account, a role or the file system denies what the program does",
        signs: &[Sign::Forbidden],
        steps: &[
            "ask what is allowed (kubectl auth can-i --as system:serviceaccount:NAMESPACE:NAME)",
            "grant exactly what the message names, or fix the owner of the files (fsGroup)",
        ],
    },
    Cause {
        action: "relax-probe",
        cause: "a probe gives up sooner than the program can answer, above all while it starts",
        signs: &[Sign::Probe],
        steps: &[
            "measure how long the start takes, and the slowest healthy answer",
            "give it a startupProbe, or raise timeoutSeconds and failureThreshold",
        ],
    },
    Cause {
        action: "fix-dependency",
        cause: "something that the program calls does not answer, or refuses connections",
        signs: &[Sign::Dependency, Sign::Probe, Sign::CrashLoop],
        steps: &[
            "call it from within the pod's network",
            "see its endpoints (kubectl get endpointslices), its own pods and its limits",
        ],
    },
    Cause {
        action: "fix-dns",
        cause: "names are not resolved: a wrong name, a network policy, or an overloaded DNS server",
        signs: &[Sign::Dns],
        steps: &[
            "resolve the name from within the pod (nslookup NAME)",
            "look at the DNS server's pods, their errors and network policies on port 53",
        ],
    },
    Cause {
        action: "raise-cpu-limit",
        cause: "the container is throttled: its processor limit is lower than what it needs",
        signs: &[Sign::Throttled, Sign::Probe],
        steps: &[
            "look at container_cpu_cfs_throttled_periods_total",
            "raise or remove limits.cpu",
        ],
    },
    Cause {
        action: "roll-back",
        cause: "the last change of the program or its configuration makes it crash",
        signs: &[Sign::CrashLoop, Sign::Probe, Sign::OutOfMemory, Sign::Other],
        steps: &[
            "see what changed (kubectl rollout history) and whether the trouble began then",
            "kubectl rollout undo, then find the fault with the logs of the failed revision",
        ],
    },
    Cause {
        action: "fix-configuration",
        cause: "a setting, an argument or an environment variable of the program is wrong",
        signs: &[Sign::CrashLoop, Sign::MissingConfig, Sign::Other],
        steps: &[
            "read the last lines before it ended (kubectl logs --previous)",
            "correct the setting that they name",
        ],
    },
];

/// Those that the symptoms allow; all if there are none.
pub(super) fn possible(symptoms: &Symptoms) -> Vec<&'static Cause> {
    let allowed = |cause: &&Cause| cause.signs.iter().any(|sign| symptoms.has(*sign));
    let possible: Vec<_> = CAUSES.iter().filter(allowed).collect();
    if possible.is_empty() {
        CAUSES.iter().collect()
    } else {
        possible
    }
}
