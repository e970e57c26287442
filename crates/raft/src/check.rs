//! Reads everything in a data directory that no server uses, and says what is damaged.

use std::{ops::ControlFlow, path::Path};

use memorygate_core::state::StateDigest;

use crate::{
    dir::{ClusterId, DataDir, Identity, OpenError},
    fatal::Alarm,
    kv::{self, Family, tag},
    log_store::{
        self, reader,
        seal::{self, Seal, Sealed},
    },
    rocks::{Kind, Memory, Mode, Scan, Store},
    settings::Settings,
    snapshots::{self, manifest::Manifest},
    state::{check_owner, generation, local},
};

/// What a check found. Without damage the digests are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Index of the last applied log entry.
    pub position: u64,
    /// As stored with the position.
    pub expected_digest: String,
    /// Of the rows that are there.
    pub digest: String,
    /// Replicated rows of the state.
    pub rows: u64,
    pub log_entries: u64,
    pub snapshots: u64,
    /// One line a finding, with the file or row it is about.
    pub damage: Vec<String>,
}

/// Verifies the checksums of every block, row, entry and snapshot file in `dir`, and the state's
/// digest. Changes nothing. An error means that the directory could not be looked at.
pub fn check(dir: &Path) -> Result<Report, OpenError> {
    let data = DataDir::open_existing(dir)?;
    let group = data.group();
    let memory = Memory::new(&Settings::default());
    let mut report = Report::default();
    let open = |kind, path: &Path| Store::open(kind, Mode::ReadOnly, path, &memory, Alarm::new());
    let mut state_checked = || {
        let path = generation::current_dir(&group.join("state"))?;
        check_state(
            &open(Kind::State, &path)?,
            data.identity().cluster_id,
            &mut report,
        )
    };
    let state = state_checked();
    note(state, &mut report)?;
    let seal = Seal::open(&group.join(seal::FILE))
        .map_err(|error| OpenError::io("open", &group.join(seal::FILE), error))?
        .read();
    // What was restored and has not been served yet has no log.
    if !data.is_restored() || group.join("log").exists() {
        let log = open(Kind::Log, &group.join("log"));
        note(
            log.and_then(|log| check_log(&log, &seal, data.identity(), &mut report)),
            &mut report,
        )?;
    }
    let snapshots = group.join("snapshots");
    if data.is_restored() && !snapshots.exists() {
        return Ok(report);
    }
    let list = |error| OpenError::io("list", &snapshots, error);
    for entry in std::fs::read_dir(&snapshots).map_err(list)? {
        let path = entry.map_err(list)?.path();
        report.snapshots += 1;
        let verified = Manifest::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|manifest| {
                let cluster_id = data.identity().cluster_id;
                snapshots::verify(&path, &manifest, cluster_id).map_err(|error| error.to_string())
            });
        report.damage.extend(verified.err());
    }
    Ok(report)
}

/// Damage is a finding, anything else ends the check.
fn note(result: Result<(), OpenError>, report: &mut Report) -> Result<(), OpenError> {
    match result {
        Err(OpenError::Corrupt { path, reason }) => {
            report.damage.push(format!("{}: {reason}", path.display()));
            Ok(())
        }
        other => other,
    }
}

fn check_state(store: &Store, cluster_id: ClusterId, report: &mut Report) -> Result<(), OpenError> {
    check_owner(store, cluster_id)?;
    let applied = local(store, &kv::applied::KEY, kv::applied::decode)?.unwrap_or_default();
    local(store, &kv::membership::KEY, kv::membership::decode)?;
    report.position = applied.position();
    report.expected_digest = applied.digest.to_string();
    let mut digest = StateDigest::default();
    for (tag, family) in kv::REPLICATED {
        let rows = &mut report.rows;
        visit_all(store, family, tag, |key, value| {
            let row = kv::decode(key).map_err(|malformed| malformed.to_string())?;
            *rows += 1;
            digest.add(&row, value);
            Ok(())
        })?;
    }
    visit_all(store, Family::Journal, tag::JOURNAL, |_, value| {
        kv::journal::decode(value).map(drop)
    })?;
    report.digest = digest.to_string();
    if digest == applied.digest {
        return Ok(());
    }
    Err(OpenError::corrupt(
        store.path(),
        format!("rows have digest {digest}, expected {}", applied.digest),
    ))
}

fn check_log(
    store: &Store,
    seal: &Sealed,
    identity: &Identity,
    report: &mut Report,
) -> Result<(), OpenError> {
    log_store::is_owned(store, identity)?;
    log_store::load_sealed(store, seal)?;
    let mut before = None;
    let entries = &mut report.log_entries;
    visit_all(store, Family::Entries, tag::ENTRY, |key, value| {
        let index = reader::decode(key, value)?.log_id.index;
        *entries += 1;
        match before.replace(index) {
            Some(before) if before + 1 != index => {
                Err(format!("log entry {index} follows {before}"))
            }
            Some(_) | None => Ok(()),
        }
    })
}

/// Shows every row with this tag, until one is damaged.
fn visit_all(
    store: &Store,
    family: Family,
    tag: u8,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), OpenError> {
    let mut damage = None;
    let scan = Scan::everything(None);
    store
        .visit(family, &[tag], &[tag + 1], scan, |key, value| {
            damage = visit(key, value).err();
            match damage {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        })
        .map_err(|error| OpenError::corrupt(store.path(), error))?;
    match damage {
        None => Ok(()),
        Some(reason) => Err(OpenError::corrupt(store.path(), reason)),
    }
}
