//! `mgctl cluster verify`: whether all members hold the same.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment};
use memorygate_client::cluster::{Digest, Verification};
use serde::Serialize;

use crate::{
    args::Global,
    failure::{NotWell, Operation},
    output::{Output, PositionRecord},
    style,
};

/// Digits of a hash in a table.
const HASH_DIGITS: usize = 16;

const EXAMPLES: &str = "\
Every member reads its whole state from its disk, all at the same position, and the digests are compared.
Exit code: 0 if all are the same, 1 if not.

Examples:
  mgctl cluster verify
  mgctl cluster verify --timeout 1h --output json | jq .different_namespaces";

/// Compare what the members hold, row by row, at one position
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Document<'a> {
    is_equal: bool,
    position: PositionRecord,
    different_namespaces: &'a [String],
    members: Vec<MemberRecord<'a>>,
}

#[derive(Serialize)]
struct MemberRecord<'a> {
    node_id: &'a str,
    #[serde(flatten)]
    digest: Option<DigestRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<&'a str>,
}

#[derive(Serialize)]
struct DigestRecord<'a> {
    state_hash: &'a str,
    matches_own_count: bool,
    rows: u64,
    namespaces: &'a BTreeMap<String, String>,
}

pub(super) async fn run(_args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let verified = global.patient_client()?.cluster().verify().await;
    let verified = verified.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: "compare the members".to_owned(),
            look: "mgctl cluster status",
        })
    })?;
    if output.is_json() {
        output.json(&document(&verified))?;
    } else {
        show(&verified, output)?;
    }
    if is_well(&verified) {
        Ok(())
    } else {
        Err(NotWell.into())
    }
}

/// All the same, and what each had counted while it applied.
fn is_well(verified: &Verification) -> bool {
    let counted = |digest: &Digest| digest.matches_own_count;
    verified.is_equal && (verified.members.iter()).all(|m| m.digest.as_ref().is_ok_and(counted))
}

fn show(verified: &Verification, output: &Output) -> anyhow::Result<()> {
    let rows = verified.members.iter().map(|m| {
        let mut row = vec![Cell::new(style::one_line(&m.node_id, 20))];
        match &m.digest {
            Ok(digest) => {
                let hash = digest.state_hash.get(..HASH_DIGITS).unwrap_or("-");
                let counted = match digest.matches_own_count {
                    true => "as counted".to_owned(),
                    false => output.style.alert("not as counted"),
                };
                let count = Cell::new(digest.rows).set_alignment(CellAlignment::Right);
                row.extend([Cell::new(hash), count, Cell::new(counted)]);
            }
            Err(why) => {
                let why = format!("did not answer: {}", style::one_line(why, 60));
                row.extend([
                    Cell::new("-"),
                    Cell::new("-"),
                    Cell::new(output.style.alert(&why)),
                ]);
            }
        }
        row
    });
    output.table(&["MEMBER", "STATE HASH", "ROWS", "STATE"], rows.collect())?;
    output.line("")?;
    let members = style::count(verified.members.len() as u64, "member");
    let position = verified.position;
    if is_well(verified) {
        let line = format!("equal: {members} hold the same at {position}");
        output.line(&output.style.bold(&line))?;
        return Ok(());
    }
    let answered: Vec<&Digest> = (verified.members.iter())
        .filter_map(|m| m.digest.as_ref().ok())
        .collect();
    let is_same = answered
        .windows(2)
        .all(|two| two[0].state_hash == two[1].state_hash);
    let line = match (answered.len() < verified.members.len(), is_same) {
        (_, false) => format!("different: the members do not hold the same at {position}"),
        (true, true) => format!(
            "unknown: {} of {members} answered, and hold the same at {position}",
            answered.len()
        ),
        (false, true) => format!(
            "different: {members} hold the same at {position}, and not what they had counted"
        ),
    };
    output.line(&output.style.alert(&line))?;
    for namespace in &verified.different_namespaces {
        output.line(&format!("  differs: {}", style::printable(namespace)))?;
    }
    if !is_same {
        output.line(
            "do: keep the members on which a majority agrees, and replace the other (`mgctl member \
             replace`) by one that starts with an empty data directory",
        )?;
    }
    Ok(())
}

fn document(verified: &Verification) -> Document<'_> {
    let members = verified.members.iter().map(|m| MemberRecord {
        node_id: &m.node_id,
        digest: m.digest.as_ref().ok().map(|d| DigestRecord {
            state_hash: &d.state_hash,
            matches_own_count: d.matches_own_count,
            rows: d.rows,
            namespaces: &d.namespaces,
        }),
        unreachable: m.digest.as_ref().err().map(String::as_str),
    });
    Document {
        is_equal: verified.is_equal,
        position: verified.position.into(),
        different_namespaces: &verified.different_namespaces,
        members: members.collect(),
    }
}
