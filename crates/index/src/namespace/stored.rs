//! A namespace in a checkpoint.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read, Write},
};

use memorygate_core::{
    embedding::ModelId,
    key::Key,
    memory::Created,
    name::{Domain, Name, Namespace},
    scope::Scope,
    time::TimeMs,
};
use minicbor::{Decode, Encode};

use super::{Identity, NamespaceIndex};
use crate::{
    checkpoint::{
        LoadError,
        sections::{self, Kind},
    },
    columns::{Columns, Fields},
    dense,
    ids::Ids,
    lexical::Lexical,
    pieces::{Distinct, PieceCounts},
    sessions::{Place, Sessions},
};

/// A namespace's index at one moment.
pub(crate) struct Image {
    memories: Vec<u8>,
    words: Vec<u8>,
    dense: dense::stored::Image,
}

/// What the memories section holds. Field numbers are never reused.
#[derive(Encode, Decode)]
struct Memories {
    #[n(0)]
    name: Namespace,
    #[n(1)]
    memories: Vec<Row>,
}

/// All of a memory but its words and vectors.
#[derive(Encode, Decode)]
struct Row {
    #[n(0)]
    key: Key,
    #[n(1)]
    created: Created,
    #[n(2)]
    model: ModelId,
    #[n(3)]
    scope: Scope,
    #[n(4)]
    domain: Domain,
    #[n(5)]
    agent: Option<Name>,
    #[n(6)]
    session: Option<Name>,
    #[n(7)]
    occurred_at: TimeMs,
    #[n(8)]
    importance: f32,
    /// `None` too if the memory is pinned.
    #[n(9)]
    expires_at: Option<TimeMs>,
    #[n(10)]
    metadata: BTreeMap<String, String>,
    /// Different ones, ascending.
    #[n(11)]
    pieces: Vec<u16>,
    #[cbor(n(12), skip_if = "is_false")]
    archived: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the derived code passes it so"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Image {
    pub(crate) fn of(name: &Namespace, index: &NamespaceIndex) -> Self {
        let slots: Vec<u32> = index.columns.live().iter().collect();
        let row = |slot: &u32| {
            let Identity {
                key,
                created,
                model,
                distinct,
                ..
            } = &index.identities[*slot as usize];
            let fields = index.columns.fields(*slot);
            Row {
                key: *key,
                created: *created,
                model: *model,
                scope: fields.scope.clone(),
                domain: fields.domain.clone(),
                agent: fields.agent.cloned(),
                session: fields.session.cloned(),
                occurred_at: fields.occurred_at,
                importance: fields.importance,
                expires_at: fields.expires_at,
                metadata: index.columns.metadata(*slot).cloned().collect(),
                pieces: distinct.as_slice().to_vec(),
                archived: fields.is_archived,
            }
        };
        let memories = Memories {
            name: name.clone(),
            memories: slots.iter().map(row).collect(),
        };
        Self {
            memories: minicbor::to_vec(&memories).expect("writing to a vector cannot fail"),
            words: index.lexical.to_bytes(&slots),
            dense: dense::stored::Image::of(&index.dense, &slots),
        }
    }

    pub(crate) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        sections::write(file, Kind::Memories, &self.memories)?;
        sections::write(file, Kind::Words, &self.words)?;
        self.dense.write(file)
    }
}

/// Reads a namespace back, with its name.
pub(crate) fn read(file: &mut impl Read) -> Result<(Namespace, NamespaceIndex), LoadError> {
    let bytes = sections::read(file, Kind::Memories)?;
    let Memories { name, memories } =
        minicbor::decode(&bytes).map_err(|error| Kind::Memories.damaged(error.to_string()))?;
    let words = sections::read(file, Kind::Words)?;
    let lexical = Lexical::from_bytes(&words, memories.len())
        .ok_or_else(|| Kind::Words.damaged("it does not hold words of its memories"))?;
    let dense = dense::stored::read(file, memories.len())?;
    let mut index = NamespaceIndex {
        slots: HashMap::with_capacity_and_hasher(memories.len(), ahash::RandomState::new()),
        free: Vec::new(),
        identities: Vec::with_capacity(memories.len()),
        columns: Columns::default(),
        groups: Ids::default(),
        sessions: Sessions::default(),
        dense,
        lexical,
        pieces: PieceCounts::default(),
        models: BTreeMap::new(),
    };
    for (slot, row) in (0..).zip(memories) {
        let fields = Fields {
            scope: &row.scope,
            domain: &row.domain,
            agent: row.agent.as_ref(),
            session: row.session.as_ref(),
            occurred_at: row.occurred_at,
            importance: row.importance,
            expires_at: row.expires_at,
            is_archived: row.archived,
        };
        index.columns.insert(slot, &fields, &row.metadata);
        let distinct = Distinct::of(row.pieces);
        index.pieces.add(&distinct);
        let place = row.session.map(|session| Place {
            group: index.groups.acquire(&(row.scope, session)),
            occurred_at: row.occurred_at,
            created: row.created,
        });
        if let Some(place) = place {
            index.sessions.insert(place, slot);
        }
        let (key, created, model) = (row.key, row.created, row.model);
        *index.models.entry(model).or_default() += 1;
        index.identities.push(Identity {
            key,
            created,
            model,
            place,
            distinct,
        });
        if index.slots.insert(key, slot).is_some() {
            return Err(Kind::Memories.damaged(format!("memory {key} is there twice")));
        }
    }
    Ok((name, index))
}
