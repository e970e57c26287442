//! What the requests that change one memory mean: a command and the id that it runs under.

use std::collections::BTreeSet;

use memorygate_core::{
    apply::Target,
    command::{Forget, GiveFeedback, Restore, SetLink, Share, Update, update::Expiry},
    limits, memory,
    name::Name,
    scope::Scope,
};
use memorygate_proto::v1;

use super::{experience::scope, key, link_target, namespace, reader::reader, request_id, time};
use crate::{error::Violation, mutate::Mutation};

pub fn update(request: v1::UpdateRequest) -> Result<Mutation<Update>, Violation> {
    let expires_at = time("expires_at", request.expires_at)?;
    let expiry = match (expires_at, request.clear_expires_at) {
        (Some(_), true) => {
            return Err(Violation::at(
                "clear_expires_at",
                "is set together with expires_at",
            ));
        }
        (Some(at), false) => Some(Expiry::At(at)),
        (None, true) => Some(Expiry::Never),
        (None, false) => None,
    };
    if let Some(importance) = request.importance {
        memory::check_importance(importance).map_err(|e| Violation::at("importance", e))?;
    }
    memory::check_metadata(&request.set_metadata).map_err(|e| Violation::at("set_metadata", e))?;
    let remove_metadata: BTreeSet<String> = request.remove_metadata.into_iter().collect();
    if remove_metadata.len() > limits::METADATA_ENTRIES_MAX {
        let actual = remove_metadata.len();
        let invalid = memory::Invalid::MetadataEntries { actual };
        return Err(Violation::at("remove_metadata", invalid));
    }
    if let Some(both) = remove_metadata
        .iter()
        .find(|k| request.set_metadata.contains_key(*k))
    {
        let both: String = both.chars().take(80).collect();
        return Err(Violation::at(
            "remove_metadata",
            format!("{both:?} is also in set_metadata"),
        ));
    }
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: Update {
            target: target(&request.namespace, &request.key, request.reader)?,
            expected_version: request.expected_version,
            importance: request.importance,
            pinned: request.pinned,
            expiry,
            set_metadata: request.set_metadata,
            remove_metadata,
        },
    })
}

pub fn feedback(request: v1::FeedbackRequest) -> Result<Mutation<GiveFeedback>, Violation> {
    if !(-1.0..=1.0).contains(&request.score) {
        let actual = request.score;
        return Err(Violation::at("score", memory::Invalid::Score { actual }));
    }
    if request.reason.len() > limits::REASON_BYTES_MAX {
        let actual = request.reason.len();
        return Err(Violation::at(
            "reason",
            memory::Invalid::ReasonTooLong { actual },
        ));
    }
    let agent = Name::parse_optional(&request.agent).map_err(|e| Violation::at("agent", e))?;
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: GiveFeedback {
            target: target(&request.namespace, &request.key, request.reader)?,
            score: request.score,
            reason: request.reason,
            agent,
        },
    })
}

pub fn forget(request: v1::ForgetRequest) -> Result<Mutation<Forget>, Violation> {
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: Forget {
            target: target(&request.namespace, &request.key, request.reader)?,
            expected_version: request.expected_version,
            reason: String::new(),
        },
    })
}

pub fn link(request: v1::LinkRequest) -> Result<Mutation<SetLink>, Violation> {
    let link = request
        .target
        .ok_or_else(|| Violation::at("", "is not set"))
        .and_then(|target| link_target(&target))
        .map_err(|v| v.within("target"))?;
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: SetLink {
            target: target(&request.namespace, &request.key, request.reader)?,
            link,
            remove: request.remove,
        },
    })
}

pub fn restore(request: v1::RestoreRequest) -> Result<Mutation<Restore>, Violation> {
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: Restore {
            target: target(&request.namespace, &request.key, request.reader)?,
        },
    })
}

pub fn share(request: v1::ShareRequest) -> Result<Mutation<Share>, Violation> {
    let with = request
        .scope
        .filter(|scope| scope.kind.is_some())
        .ok_or_else(|| Violation::at("scope", "is not set, expected a team or shared"))?;
    let with = scope(Some(with)).map_err(|v| v.within("scope"))?;
    if let Scope::Agent(_) = with {
        return Err(Violation::at(
            "scope.agent",
            memory::Invalid::SharedWithAgent,
        ));
    }
    Ok(Mutation {
        request: request_id(&request.request_id)?,
        command: Share {
            target: target(&request.namespace, &request.key, request.reader)?,
            expected_version: request.expected_version,
            with,
        },
    })
}

fn target(in_namespace: &str, of_key: &str, by: Option<v1::Reader>) -> Result<Target, Violation> {
    Ok(Target {
        namespace: namespace(in_namespace)?,
        key: key("key", of_key)?,
        reader: reader(by)?,
    })
}
