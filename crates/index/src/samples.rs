//! Memories made from a few numbers, for tests.

mod state;

use memorygate_core::{
    embedding::{
        DIMENSION, Embedding, ModelId, QueryEmbedding, QueryPiece, STATE_BYTES, TokenStates,
        Window, unit,
    },
    filter::Filter,
    key::Key,
    memory::{Archived, Created, Feedback, Memory, Reason, Used},
    name::{Domain, Name, Namespace},
    scope::{Reader, Scope},
    time::TimeMs,
};

pub(crate) use self::state::State;
use crate::{
    dot::Vector,
    index::{Index, Record},
    late::Redundancy,
    namespace::Query,
    sessions::Shares,
};

pub(crate) const MODEL: ModelId = ModelId(7);

/// A fixed sequence that looks random.
pub(crate) struct Sequence(u64);

impl Sequence {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Three values a dimension, so that distances and scores are often equal.
pub(crate) fn vector(seed: u64) -> Vector {
    let mut sequence = Sequence::new(seed);
    let values: Vec<f32> = (0..DIMENSION)
        .map(|_| sequence.below(3) as f32 - 0.9)
        .collect();
    unit(&values).unwrap().try_into().unwrap()
}

pub(crate) fn name(number: u64) -> Name {
    Name::parse(&number.to_string()).unwrap()
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

/// Shared, one of three teams, one of three agents.
pub(crate) fn scope(number: u64) -> Scope {
    match number % 5 {
        0..=2 => Scope::Shared,
        3 => Scope::Team(name(number / 5 % 3)),
        _ => Scope::Agent(name(number / 5 % 3)),
    }
}

pub(crate) fn reader(number: u64) -> Reader {
    Reader {
        agent: (!number.is_multiple_of(3)).then(|| name(number % 3)),
        teams: (0..3)
            .filter(|team| number >> team & 1 == 1)
            .map(name)
            .collect(),
        everything: number.is_multiple_of(11),
    }
}

const WORDS: [&str; 16] = [
    "deployment",
    "failed",
    "restart",
    "web-7f9c",
    "OOMKilled",
    "memory",
    "limit",
    "raised",
    "nginx",
    "rollback",
    "latency",
    "node",
    "drained",
    "v1.29.3",
    "certificate",
    "expired",
];

pub(crate) fn text(seed: u64) -> String {
    let mut sequence = Sequence::new(seed);
    let words = 2 + sequence.below(10);
    let words: Vec<&str> = (0..words)
        .map(|_| WORDS[sequence.below(16) as usize])
        .collect();
    words.join(" ")
}

/// A memory whose fields all follow from `seed`, learned by the log entry at `index`.
pub(crate) fn memory(seed: u64, index: u64) -> Memory {
    let mut sequence = Sequence::new(seed);
    let mut field = |bound| sequence.below(bound);
    Memory {
        scope: scope(field(60)),
        content: text(seed),
        domain: Domain::parse(["infrastructure", "deployment", "d"][field(3) as usize]).unwrap(),
        occurred_at: TimeMs(field(6) as i64),
        importance: field(5) as f32 / 4.0,
        metadata: (0..field(3))
            .map(|_| (field(3).to_string(), field(2).to_string()))
            .collect(),
        agent: (field(3) > 0).then(|| name(field(3))),
        session: (field(3) > 0).then(|| name(field(3))),
        links: [].into(),
        expires_at: (field(3) == 0).then(|| TimeMs(field(6) as i64)),
        pinned: field(4) == 0,
        version: 1,
        occurrences: 1,
        last_seen_at: TimeMs(0),
        feedback: Feedback::default(),
        created: Created {
            index,
            offset: 0,
            at: TimeMs(0),
        },
        updated_at: TimeMs(0),
        used: Used::default(),
        archived: (field(5) == 0).then_some(Archived {
            reason: Reason::Faded,
            at: TimeMs(1),
        }),
        merged: [].into(),
        shared: [].into(),
        changed_index: 0,
    }
}

pub(crate) fn states(seed: u64) -> TokenStates {
    let mut sequence = Sequence::new(seed);
    let pieces: Vec<u16> = (0..1 + sequence.below(6))
        .map(|_| sequence.below(40) as u16)
        .collect();
    let signs = (0..pieces.len() * STATE_BYTES)
        .map(|_| sequence.below(256) as u8)
        .collect();
    TokenStates { pieces, signs }
}

/// One to three windows; one in eight memories has a vector that its caller gave.
pub(crate) fn embedding(seed: u64) -> Embedding {
    if seed.is_multiple_of(8) {
        return Embedding::given(&vector(seed)).unwrap();
    }
    let window = |seed| Window {
        dense: vector(seed).into(),
        states: states(seed),
    };
    Embedding {
        model: MODEL,
        windows: (0..1 + seed % 3).map(|i| window(seed + i)).collect(),
    }
}

pub(crate) fn key(number: u64) -> Key {
    // Keys that do not follow the order in which they are made.
    Key((u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
}

/// Everything that a reader could tell of an index: what it answers to many questions. Sessions are
/// told apart by who is in them, for their numbers are history.
pub(crate) fn answers(index: &Index) -> Vec<String> {
    let mut answers = vec![format!("{:?}", index.sizes().memories)];
    for (name, namespace) in index.namespaces() {
        answers.push(format!("{name} {}", namespace.len()));
        for seed in 0..24 {
            let words = text(seed);
            let embedding = QueryEmbedding {
                model: MODEL,
                dense: vector(seed).into(),
                pieces: vec![QueryPiece {
                    piece: seed as u16,
                    state: vector(seed + 1).into(),
                }],
            };
            let query = Query {
                words: Some(&words),
                vector: Some(&embedding),
                count: 5,
                shares: Shares::default(),
                filter: &Filter::default(),
                reader: &reader(seed),
                now: TimeMs(seed as i64 % 7),
                as_of: None,
            };
            let candidates = namespace.candidates(&query).unwrap();
            for a in &candidates {
                let same = candidates
                    .iter()
                    .filter(|b| a.session.is_some() && a.session == b.session);
                let session: Vec<Key> = same.map(|b| b.key).collect();
                answers.push(format!("{} {} {} {session:?}", a.key, a.dense, a.lexical));
            }
            let late = namespace.late_query(&embedding);
            let fit = late.fit_embedding(&self::embedding(seed));
            let score = fit.map(|fit| late.score(&fit, &Redundancy::of([&fit]), 0.02));
            answers.push(format!("{score:?}"));
        }
    }
    answers
}

/// The index of a state, built in an order of its own.
pub(crate) fn index_of(state: &State) -> Index {
    let mut index = Index::default();
    let records = state
        .memories
        .iter()
        .rev()
        .map(|((namespace, key), stored)| Record {
            namespace: namespace.clone(),
            key: *key,
            stored: Some(stored.clone()),
        });
    let steps = index.prepare_records(records.collect());
    index.apply(&steps).unwrap();
    index
}
