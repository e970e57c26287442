//! What can be done about an incident, before its cause is known and after.

/// A response that is known without any memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub action: &'static str,
    /// When it helps, in the words of those who would see it.
    pub when: &'static str,
    pub steps: &'static [&'static str],
}

pub const RESPONSES: &[Response] = &[
    Response {
        action: "roll-back",
        when: "errors or latency rose right after a deployment or a change of configuration",
        steps: &[
            "undo the last change (kubectl rollout undo, or revert its commit)",
            "watch the error rate for ten minutes",
        ],
    },
    Response {
        action: "scale-out",
        when: "more load than the replicas can serve: queues grow, processors are saturated",
        steps: &[
            "add replicas, or raise the autoscaler's maximum",
            "see that what they depend on can take the load",
        ],
    },
    Response {
        action: "restart",
        when: "a process hangs, leaks or is deadlocked and answers no more",
        steps: &[
            "save a dump or a profile of one replica first",
            "restart one after another (kubectl rollout restart)",
        ],
    },
    Response {
        action: "fail-over",
        when: "a primary, a zone or a region is unavailable and a standby is there",
        steps: &[
            "check how far the standby is behind",
            "switch over and keep the old one out",
        ],
    },
    Response {
        action: "raise-limits",
        when: "containers are killed for memory or throttled for processor time",
        steps: &["raise the limit of what is killed or throttled, and its request with it"],
    },
    Response {
        action: "free-space",
        when: "a disk or a volume is full or will be within hours",
        steps: &["remove or rotate what fills it", "enlarge the volume"],
    },
    Response {
        action: "renew-certificate",
        when: "a TLS certificate expired or expires soon",
        steps: &["renew it and reload who serves it"],
    },
    Response {
        action: "shed-load",
        when: "one caller or one kind of request overwhelms a shared resource",
        steps: &[
            "limit the rate of the caller that stands out",
            "switch off what can wait",
        ],
    },
    Response {
        action: "restore-dependency",
        when: "something that others depend on is down: a database, a queue, DNS or a provider",
        steps: &[
            "find the deepest service that is down, and work there",
            "tell its owners; look at the provider's status page",
        ],
    },
    Response {
        action: "replace-node",
        when: "a machine is unreachable or its hardware, kernel or network fails",
        steps: &[
            "cordon and drain it",
            "replace it, and see that its pods run elsewhere",
        ],
    },
];
