//! `SESSION namespace scope session occurred_at created_index created_offset`: a memory's key, by
//! its place in its session.

use memorygate_core::{
    name::{Name, Namespace},
    scope::Scope,
    state::{RowKey, SessionPlace},
    time::TimeMs,
};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(place: &SessionPlace) -> Vec<u8> {
    session(&place.namespace, &place.scope, &place.session)
        .time(place.occurred_at)
        .u64(place.created_index)
        .u32(place.created_offset)
        .finish()
}

/// What all places of a session start with.
pub(crate) fn prefix(namespace: &Namespace, scope: &Scope, name: &Name) -> Vec<u8> {
    session(namespace, scope, name).finish()
}

/// The first key after all places of a session at or before `until`.
pub(crate) fn after(namespace: &Namespace, scope: &Scope, name: &Name, until: TimeMs) -> Vec<u8> {
    match until.0.checked_add(1) {
        Some(next) => session(namespace, scope, name).time(TimeMs(next)).finish(),
        None => super::order::after_prefix(&prefix(namespace, scope, name))
            .expect("a key starts with its tag, which is not 0xff"),
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::SESSION)?;
    let place = SessionPlace {
        namespace: reader.namespace()?,
        scope: reader.scope()?,
        session: reader.name()?,
        occurred_at: reader.time()?,
        created_index: reader.u64()?,
        created_offset: reader.u32()?,
    };
    reader.finish(RowKey::Session(place))
}

fn session(namespace: &Namespace, scope: &Scope, name: &Name) -> Writer {
    Writer::new(tag::SESSION)
        .namespace(namespace)
        .scope(scope)
        .name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    fn place(scope: Scope, occurred_at: i64) -> SessionPlace {
        SessionPlace {
            namespace: Namespace::parse("n").unwrap(),
            scope,
            session: Name::parse("s").unwrap(),
            occurred_at: TimeMs(occurred_at),
            created_index: 258,
            created_offset: 3,
        }
    }

    #[test]
    fn the_bytes_never_change() {
        let name = || Name::parse("a").unwrap();
        let tail = "80000000000000010000000000000102".to_owned() + "00000003";
        check_frozen(
            &RowKey::Session(place(Scope::Shared, 1)),
            &format!("056e00007300{tail}"),
        );
        check_frozen(
            &RowKey::Session(place(Scope::Team(name()), 1)),
            &format!("056e000161007300{tail}"),
        );
        check_frozen(
            &RowKey::Session(place(Scope::Agent(name()), 1)),
            &format!("056e000261007300{tail}"),
        );
    }

    #[test]
    fn a_session_ends_after_the_time_asked_for() {
        let end = |until| {
            let SessionPlace {
                namespace,
                scope,
                session,
                ..
            } = place(Scope::Shared, 0);
            after(&namespace, &scope, &session, TimeMs(until))
        };
        let at = |time| encode(&place(Scope::Shared, time));
        assert!(at(5) < end(5) && end(5) < at(6));
        assert!(at(i64::MAX) < end(i64::MAX));
    }
}
