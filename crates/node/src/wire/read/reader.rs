//! On whose behalf a call reads.

use memorygate_core::{name::Name, scope::Reader};
use memorygate_proto::v1;

use crate::error::Violation;

/// Teams of one reader.
const TEAMS_MAX: usize = 64;

/// A call that does not say who reads sees what is shared.
pub(super) fn reader(reader: Option<v1::Reader>) -> Result<Reader, Violation> {
    let Some(reader) = reader else {
        return Ok(Reader::default());
    };
    if reader.teams.len() > TEAMS_MAX {
        let actual = reader.teams.len();
        let reason = format!("has {actual} names, expected at most {TEAMS_MAX}");
        return Err(Violation::at("reader.teams", reason));
    }
    let teams = (0..).zip(&reader.teams).map(|(at, team)| {
        Name::parse(team).map_err(|e| Violation::at(&format!("reader.teams[{at}]"), e))
    });
    Ok(Reader {
        teams: teams.collect::<Result<_, _>>()?,
        agent: Name::parse_optional(&reader.agent).map_err(|e| Violation::at("reader.agent", e))?,
        everything: reader.everything,
    })
}
