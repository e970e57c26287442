//! What a `RecallRequest` means.

use std::collections::BTreeSet;

use memorygate_core::{
    embedding, limits,
    moment::Moment,
    name::Namespace,
    rank::{self, Stage, Stages},
};
use memorygate_proto::v1;

use super::{filter::filter, reader::reader};
use crate::{error::Violation, recall::Query};

/// Results of a recall that does not say.
const LIMIT_DEFAULT: usize = 10;

/// Links that are followed from a result.
const LINK_HOPS_MAX: u32 = 1;

/// Weights that the request does not set are those of `ranking`.
pub fn recall(request: v1::RecallRequest, ranking: &rank::Settings) -> Result<Query, Violation> {
    if request.query.len() > limits::QUERY_BYTES_MAX {
        let actual = request.query.len();
        let max = limits::QUERY_BYTES_MAX;
        return Err(Violation::at(
            "query",
            format!("has {actual} bytes, expected at most {max}"),
        ));
    }
    let text = Some(request.query).filter(|q| !q.trim().is_empty());
    let vector = match request.vector.as_slice() {
        [] => None,
        vector => Some(embedding::unit(vector).map_err(|e| Violation::at("vector", e))?),
    };
    if text.is_none() && vector.is_none() {
        return Err(Violation::at(
            "query",
            "is empty, expected a text or a vector",
        ));
    }
    if request.link_hops > LINK_HOPS_MAX {
        let actual = request.link_hops;
        let reason = format!("is {actual}, expected at most {LINK_HOPS_MAX}");
        return Err(Violation::at("link_hops", reason));
    }
    Ok(Query {
        namespaces: namespaces(&request.namespace, &request.namespaces)?,
        text,
        vector,
        limit: super::limit(
            "limit",
            request.limit,
            LIMIT_DEFAULT,
            limits::RECALL_LIMIT_MAX,
        )?,
        reader: reader(request.reader)?,
        filter: filter(request.filter)?,
        ranking: weights(request.weights, ranking)?,
        stages: stages(&request.without)?,
        at_least: super::position(request.at_least)?,
        linearizable: request.linearizable,
        follow_links: request.link_hops > 0,
        as_of: match request.as_of {
            None => None,
            Some(v1::recall_request::AsOf::AsOfPosition(index)) => Some(Moment::Position(index)),
            Some(v1::recall_request::AsOf::AsOfTime(time)) => Some(super::as_of_time(time)?),
        },
    })
}

/// All that are asked, in their order. The one name that stands alone is `default` if empty.
fn namespaces(alone: &str, several: &[String]) -> Result<Vec<Namespace>, Violation> {
    let mut namespaces = BTreeSet::new();
    if several.is_empty() || !alone.is_empty() {
        namespaces.insert(super::namespace(alone)?);
    }
    let actual = namespaces.len() + several.len();
    if actual > limits::RECALL_NAMESPACES_MAX {
        let max = limits::RECALL_NAMESPACES_MAX;
        let reason = format!("are {actual} with the one in namespace, expected at most {max}");
        return Err(Violation::at("namespaces", reason));
    }
    for (at, name) in several.iter().enumerate() {
        let field = format!("namespaces[{at}]");
        let namespace = Namespace::parse(name).map_err(|e| Violation::at(&field, e))?;
        if !namespaces.insert(namespace) {
            return Err(Violation::at(&field, format!("{name} is named twice")));
        }
    }
    Ok(namespaces.into_iter().collect())
}

fn weights(
    weights: Option<v1::Weights>,
    ranking: &rank::Settings,
) -> Result<rank::Settings, Violation> {
    let mut ranking = ranking.clone();
    let Some(weights) = weights else {
        return Ok(ranking);
    };
    let fields = [
        ("late", weights.late, &mut ranking.late),
        ("lexical", weights.lexical, &mut ranking.lexical),
        ("dense", weights.dense, &mut ranking.dense),
        ("expansion", weights.expansion, &mut ranking.expansion),
        ("session", weights.session, &mut ranking.session),
        ("recency", weights.recency, &mut ranking.recency),
        ("importance", weights.importance, &mut ranking.importance),
        ("usefulness", weights.usefulness, &mut ranking.usefulness),
        ("trust", weights.trust, &mut ranking.trust),
    ];
    for (name, wanted, weight) in fields {
        let Some(wanted) = wanted else { continue };
        if !(0.0..=rank::Settings::WEIGHT_MAX).contains(&wanted) {
            let max = rank::Settings::WEIGHT_MAX;
            let reason = format!("is {wanted}, expected 0 to {max}");
            return Err(Violation::at(&format!("weights.{name}"), reason));
        }
        *weight = wanted;
    }
    Ok(ranking)
}

fn stages(without: &[i32]) -> Result<Stages, Violation> {
    let mut stages = Stages::all();
    for (at, number) in (0..).zip(without) {
        let known = v1::Stage::try_from(*number).ok().and_then(stage);
        let Some(stage) = known else {
            let reason = format!("is {number}, which is no stage that this server knows");
            return Err(Violation::at(&format!("without[{at}]"), reason));
        };
        stages = stages.without(stage);
    }
    Ok(stages)
}

fn stage(stage: v1::Stage) -> Option<Stage> {
    Some(match stage {
        v1::Stage::Unspecified => return None,
        v1::Stage::Dense => Stage::Dense,
        v1::Stage::Lexical => Stage::Lexical,
        v1::Stage::Neighbours => Stage::Neighbours,
        v1::Stage::Late => Stage::Late,
        v1::Stage::Expansion => Stage::Expansion,
        v1::Stage::Session => Stage::Session,
        v1::Stage::Recency => Stage::Recency,
        v1::Stage::Importance => Stage::Importance,
        v1::Stage::Usefulness => Stage::Usefulness,
        v1::Stage::Trust => Stage::Trust,
        v1::Stage::Fold => Stage::Fold,
        v1::Stage::Diversity => Stage::Diversity,
    })
}
