//! Each checker passes what a correct store can say, and finds what it cannot.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_jepsen::{
    caller::Answer,
    checker,
    findings::Findings,
    history::{Call, Operation},
    workload::{
        feedback::{self, Counted},
        register, session, set,
    },
};

/// One operation after another, on node 0, or from `invoked_us` to `completed_us`.
fn operation<C: Call>(
    (invoked_us, completed_us): (u64, u64),
    call: C,
    answer: Answer<C::Reply>,
) -> Operation<C> {
    Operation {
        process: invoked_us,
        node: 0,
        invoked_us,
        completed_us,
        call,
        answer,
    }
}

fn failed<T>() -> Answer<T> {
    Answer::Failed("failed".to_owned())
}

fn unknown<T>() -> Answer<T> {
    Answer::Unknown("unknown".to_owned())
}

fn found(findings: &Findings) -> (u64, u64, u64) {
    (findings.lost, findings.phantom, findings.violations)
}

mod of_the_set {
    use set::{Ask, Told};

    use super::*;

    /// Element 1 is acknowledged, 2 unknown, 3 failed; then a node has `elements`.
    fn check(elements: &[u64]) -> (u64, u64, u64) {
        let elements: BTreeSet<u64> = elements.iter().copied().collect();
        let history = [
            operation((0, 1), Ask::Add(1), Answer::Done(Told::Added)),
            operation((2, 3), Ask::Add(2), unknown()),
            operation((4, 5), Ask::Add(3), failed()),
            operation(
                (6, 7),
                Ask::Read,
                Answer::Done(Told::Elements(elements, Vec::new())),
            ),
        ];
        let findings = checker::set::check(&history);
        assert_eq!(
            (findings.acknowledged, findings.unknown, findings.failed),
            (1, 1, 1)
        );
        found(&findings)
    }

    #[test]
    fn what_is_unknown_may_be_there_or_not() {
        assert_eq!(check(&[1]), (0, 0, 0));
        assert_eq!(check(&[1, 2]), (0, 0, 0));
    }

    #[test]
    fn a_lost_write_is_found() {
        assert_eq!(check(&[2]), (1, 0, 0));
    }

    #[test]
    fn what_failed_and_what_nobody_sent_must_not_be_there() {
        assert_eq!(check(&[1, 3]), (0, 1, 0));
        assert_eq!(check(&[1, 9]), (0, 1, 0));
    }

    #[test]
    fn a_node_that_cannot_be_read_is_a_violation() {
        let history = [
            operation((0, 1), Ask::Add(1), Answer::Done(Told::Added)),
            operation((6, 7), Ask::Read, failed()),
        ];
        assert_eq!(found(&checker::set::check(&history)).2, 2);
    }

    #[test]
    fn what_was_learned_twice_or_is_no_element_is_a_phantom() {
        let others = vec!["\"element 1 of the set\" was learned 2 times".to_owned()];
        let told = Told::Elements(BTreeSet::new(), others);
        let history = [operation((6, 7), Ask::Read, Answer::Done(told))];
        assert_eq!(found(&checker::set::check(&history)), (0, 1, 0));
    }
}

mod of_registers {
    use register::{Ask, Told};

    use super::*;

    fn read(at: (u64, u64), value: u64) -> Operation<Ask> {
        // In these histories a value's version is one more than the value.
        let version = value + 1;
        operation(
            at,
            Ask::Read { key: 7 },
            Answer::Done(Told::Value { version, value }),
        )
    }

    fn swap(at: (u64, u64), old: u64, new: u64, answer: Answer<Told>) -> Operation<Ask> {
        let version = old + 1;
        let call = Ask::CompareAndSet {
            key: 7,
            version,
            old,
            new,
        };
        operation(at, call, answer)
    }

    fn done(new: u64) -> Answer<Told> {
        Answer::Done(Told::Swapped { version: new + 1 })
    }

    fn violations(history: &[Operation<Ask>]) -> u64 {
        let findings = checker::linearizable::check(history);
        assert_eq!((findings.lost, findings.phantom), (0, 0));
        findings.violations
    }

    #[test]
    fn one_after_another_is_linearizable() {
        let history = [
            read((0, 1), 0),
            swap((2, 3), 0, 1, done(1)),
            read((4, 5), 1),
            swap((6, 7), 0, 2, Answer::Refused("another version".to_owned())),
            read((8, 9), 1),
        ];
        assert_eq!(violations(&history), 0);
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [swap((0, 1), 0, 1, done(1)), read((2, 3), 0)];
        assert_eq!(violations(&history), 1);
        // While the write is under way, either value may be read.
        let history = [swap((0, 5), 0, 1, done(1)), read((2, 3), 0)];
        assert_eq!(violations(&history), 0);
        // But nobody goes back.
        let history = [
            swap((0, 9), 0, 1, done(1)),
            read((2, 3), 1),
            read((4, 5), 0),
        ];
        assert_eq!(violations(&history), 1);
    }

    #[test]
    fn two_swaps_of_one_value_are_found() {
        let history = [swap((0, 5), 0, 1, done(1)), swap((0, 5), 0, 2, done(2))];
        assert_eq!(violations(&history), 1);
    }

    #[test]
    fn an_unknown_swap_may_happen_late_or_never() {
        let history = [
            swap((0, 1), 0, 1, unknown()),
            read((2, 3), 0),
            read((4, 5), 1),
        ];
        assert_eq!(violations(&history), 0);
        let history = [swap((0, 1), 0, 1, unknown()), read((2, 3), 0)];
        assert_eq!(violations(&history), 0);
        // It does not happen and then not have happened.
        let history = [
            swap((0, 1), 0, 1, unknown()),
            read((2, 3), 1),
            read((4, 5), 0),
        ];
        assert_eq!(violations(&history), 1);
    }

    #[test]
    fn a_swap_that_failed_has_not_happened() {
        let history = [swap((0, 1), 0, 1, failed()), read((2, 3), 1)];
        assert_eq!(violations(&history), 1);
    }

    #[test]
    fn a_refusal_says_that_the_value_was_another() {
        let refused = || Answer::Refused("another version".to_owned());
        let history = [swap((0, 1), 0, 1, refused()), read((2, 3), 0)];
        assert_eq!(violations(&history), 1);
    }

    #[test]
    fn two_values_of_one_version_are_found() {
        let told = |value| Answer::Done(Told::Value { version: 3, value });
        let history = [
            swap((0, 10), 0, 1, unknown()),
            swap((0, 10), 0, 2, unknown()),
            operation((20, 21), Ask::Read { key: 7 }, told(1)),
            operation((20, 21), Ask::Read { key: 7 }, told(2)),
        ];
        assert!(violations(&history) >= 1);
    }

    #[test]
    fn many_concurrent_operations_are_decided() {
        let mut history = Vec::new();
        for round in 0..40 {
            let at = (round * 10, round * 10 + 15);
            history.push(swap(at, round, round + 1, done(round + 1)));
            history.push(read((at.0 + 12, at.1 + 4), round + 1));
            history.push(swap(at, round, 1_000 + round, unknown()));
        }
        assert_eq!(violations(&history), 0);
    }
}

mod of_sessions {
    use session::{Ask, Told};

    use super::*;

    fn write(at: u64, value: u64, position: u64) -> Operation<Ask> {
        let call = Ask::Write {
            session: 1,
            memory: 1,
            value,
        };
        operation((at, at + 1), call, Answer::Done(Told { position, value }))
    }

    fn read(at: u64, session: u64, token: u64, position: u64, value: u64) -> Operation<Ask> {
        let call = Ask::Read {
            session,
            memory: 1,
            token,
            is_recall: false,
        };
        operation((at, at + 1), call, Answer::Done(Told { position, value }))
    }

    fn check(history: &[Operation<Ask>]) -> (u64, u64, u64) {
        found(&checker::session::check(history))
    }

    #[test]
    fn own_writes_and_later_ones_may_be_read() {
        let history = [write(0, 5, 10), read(2, 1, 10, 10, 5), read(4, 2, 0, 9, 0)];
        assert_eq!(check(&history), (0, 0, 0));
    }

    #[test]
    fn a_session_that_does_not_see_its_write_is_found() {
        assert_eq!(check(&[write(0, 5, 10), read(2, 1, 10, 10, 0)]), (0, 0, 1));
    }

    #[test]
    fn an_answer_older_than_asked_for_is_found() {
        assert_eq!(check(&[write(0, 5, 10), read(2, 2, 10, 9, 5)]), (0, 0, 1));
    }

    #[test]
    fn a_reader_that_goes_back_is_found() {
        let history = [write(0, 5, 10), read(2, 2, 0, 10, 5), read(4, 2, 0, 11, 0)];
        assert_eq!(check(&history), (0, 0, 1));
    }

    #[test]
    fn two_contents_at_one_position_are_found() {
        let history = [write(0, 5, 10), read(2, 2, 0, 12, 0), read(4, 3, 0, 12, 5)];
        assert_eq!(check(&history), (0, 0, 1));
    }

    #[test]
    fn what_nobody_wrote_or_what_failed_must_not_be_read() {
        assert_eq!(check(&[read(2, 2, 0, 12, 77)]), (0, 1, 0));
        let call = Ask::Write {
            session: 1,
            memory: 1,
            value: 5,
        };
        let history = [operation((0, 1), call, failed()), read(2, 2, 0, 12, 5)];
        assert_eq!(check(&history), (0, 1, 0));
    }
}

mod of_feedback {
    use feedback::{Ask, Told};

    use super::*;

    fn give(at: u64, feedback: u64, answer: Answer<Told>) -> Operation<Ask> {
        let call = Ask::Give {
            memory: 0,
            feedback,
            is_positive: true,
        };
        operation((at, at + 1), call, answer)
    }

    fn given(version: u64) -> Answer<Told> {
        Answer::Done(Told::Given { version })
    }

    fn count(positive: u64) -> Operation<Ask> {
        let counted = Counted {
            count: positive,
            positive,
            negative: 0,
        };
        let counts = BTreeMap::from([(0, counted)]);
        operation((90, 91), Ask::Count, Answer::Done(Told::Counts(counts)))
    }

    fn check(history: &[Operation<Ask>]) -> (u64, u64, u64) {
        found(&checker::feedback::check(history))
    }

    #[test]
    fn each_counts_once_and_what_is_unknown_at_most_once() {
        let history = |positive| {
            [
                give(0, 1, given(2)),
                give(2, 2, unknown()),
                give(4, 2, failed()),
                count(positive),
            ]
        };
        assert_eq!(check(&history(1)), (0, 0, 0));
        assert_eq!(check(&history(2)), (0, 0, 0));
        assert_eq!(check(&history(0)), (1, 0, 0));
        assert_eq!(check(&history(3)), (0, 1, 0));
    }

    #[test]
    fn a_repeat_that_is_counted_again_is_found() {
        let history = [give(0, 1, unknown()), give(2, 1, given(2)), count(2)];
        assert_eq!(check(&history), (0, 1, 0));
    }

    #[test]
    fn a_repeat_with_another_answer_is_found() {
        let history = [give(0, 1, given(2)), give(2, 1, given(3)), count(1)];
        assert_eq!(check(&history), (0, 0, 1));
    }

    #[test]
    fn what_failed_does_not_count() {
        assert_eq!(check(&[give(0, 1, failed()), count(1)]), (0, 1, 0));
    }
}
