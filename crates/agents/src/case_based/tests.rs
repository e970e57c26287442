//! What is weighed: tables of cases and the decisions that they lead to.

use memorygate_client::Key;
use proptest::prelude::*;

use super::*;

fn case(number: u8, action: &str, worked: bool, similarity: f32) -> Case {
    Case {
        key: Key([number; 16]),
        action: action.to_owned(),
        worked,
        similarity,
        occurrences: 1,
    }
}

fn known(actions: &[(&str, f32)]) -> Vec<Known> {
    let known = |&(action, similarity): &(&str, f32)| Known {
        action: action.to_owned(),
        similarity,
    };
    actions.iter().map(known).collect()
}

/// The proposals, each with its confidence in percent, and what is said of the first.
fn check(cases: Vec<Case>, actions: &[(&str, f32)]) -> String {
    let evidence = Evidence {
        recalled: Vec::new(),
        cases,
        known: known(actions),
    };
    let decision = CaseBased::default().decide(&Task::default(), &evidence);
    let proposals: Vec<String> = decision
        .proposals
        .iter()
        .map(|p| format!("{} {:.0}%", p.action, p.confidence * 100.0))
        .collect();
    format!("{} | {}", proposals.join(", "), decision.explanation)
}

#[test]
fn without_cases_the_action_that_sounds_right_is_taken() {
    assert_eq!(
        check(vec![], &[("raise", 0.5), ("roll-back", 0.1)]),
        "raise 20%, roll-back 0% | not known well enough: raise was not tried in a similar case; its description fits best"
    );
}

#[test]
fn nothing_known_is_said_to_be_unknown() {
    assert_eq!(
        check(vec![], &[]),
        " | no similar case is known, and no action to choose from"
    );
    let many: Vec<String> = (0..20).map(|n| format!("a{n:02}")).collect();
    let many: Vec<(&str, f32)> = many.iter().map(|name| (name.as_str(), 0.2)).collect();
    assert!(check(vec![], &many).ends_with(
        "| not known well enough: a00 was not tried in a similar case; its description fits best"
    ));
}

#[test]
fn what_worked_in_similar_cases_is_done_again() {
    let cases = vec![
        case(1, "roll-back", true, 0.9),
        case(2, "roll-back", true, 0.8),
        case(3, "raise", true, 0.3),
    ];
    assert_eq!(
        check(cases, &[("raise", 0.2), ("roll-back", 0.2)]),
        "roll-back 61%, raise 7% | roll-back worked in 2 similar cases"
    );
}

#[test]
fn what_failed_gives_way_to_the_next_best_description() {
    let cases = vec![case(1, "raise", false, 0.9)];
    assert_eq!(
        check(cases, &[("raise", 0.25), ("roll-back", 0.2), ("wait", 0.1)]),
        "roll-back 7%, raise 6%, wait 2% | not known well enough: roll-back was not tried in a similar case; its \
         description fits best"
    );
}

#[test]
fn only_the_actions_of_the_task_can_be_chosen() {
    let cases = vec![case(1, "reboot", true, 1.0)];
    assert!(check(cases.clone(), &[("raise", 0.2)]).starts_with("raise 10% |"));
    assert!(check(cases, &[]).starts_with("reboot 60% |"));
}

#[test]
fn an_action_names_the_cases_that_speak_for_and_against_it() {
    let cases = vec![
        case(1, "raise", false, 0.4),
        case(2, "raise", true, 0.9),
        case(3, "wait", true, 0.8),
    ];
    let evidence = Evidence {
        recalled: Vec::new(),
        cases,
        known: Vec::new(),
    };
    let decision = CaseBased::default().decide(&Task::default(), &evidence);
    let first = decision.chosen().unwrap();
    assert_eq!(first.action, "raise");
    assert_eq!(first.evidence, [Key([2; 16]), Key([1; 16])]);
}

/// As `check`, where each action stands for itself.
fn check_each(cases: Vec<Case>, actions: &[(&str, f32)]) -> String {
    let proposals = weigh_each(&cases, &known(actions));
    let shown = proposals
        .iter()
        .map(|p| format!("{} {:.0}%", p.action, p.confidence * 100.0));
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn where_each_stands_for_itself_several_may_be_right() {
    let cases = vec![
        case(1, "raise", true, 0.8),
        case(2, "add-probe", true, 0.8),
        case(3, "wait", false, 0.8),
    ];
    assert_eq!(
        check_each(cases.clone(), &[]),
        "add-probe 72%, raise 72%, wait 0%"
    );
    // What never was tried comes before what failed, and after what worked.
    let actions = [
        ("add-probe", 0.1),
        ("new", 0.5),
        ("raise", 0.9),
        ("wait", 0.9),
    ];
    assert_eq!(
        check_each(cases, &actions),
        "raise 77%, add-probe 72%, new 10%, wait 5%"
    );
}

#[test]
fn one_failure_as_similar_silences_what_worked_once() {
    let mut cases = vec![case(1, "raise", true, 0.9)];
    assert_eq!(check_each(cases.clone(), &[]), "raise 76%");
    cases.push(case(2, "raise", false, 0.9));
    assert_eq!(check_each(cases, &[]), "raise 43%");
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let one = (any::<u8>(), "[a-d]", any::<bool>(), 0.0..=1.0_f32);
    prop::collection::vec(one, 0..60).prop_map(|cases| {
        cases
            .into_iter()
            .map(|(number, action, worked, similarity)| case(number, &action, worked, similarity))
            .collect()
    })
}

proptest! {
    /// Confidences are probabilities, and of all actions at most one thing can be right.
    #[test]
    fn confidences_are_probabilities(cases in cases(), actions in prop::bool::ANY) {
        let known = if actions { known(&[("a", 0.1), ("b", 0.3), ("z", -1.0)]) } else { Vec::new() };
        let proposals = weigh(&cases, &known);
        prop_assert!(proposals.iter().all(|p| (0.0..=1.0).contains(&p.confidence)));
        prop_assert!(proposals.iter().map(|p| p.confidence).sum::<f32>() <= 1.0 + 1e-4);
    }

    /// A further success of an action never makes it less likely, a further failure never more.
    #[test]
    fn evidence_counts_in_its_own_direction(mut cases in cases(), similarity in 0.0..=1.0_f32) {
        cases.truncate(8);
        let known = known(&[("a", 0.1), ("b", 0.3)]);
        let of = |cases: &[Case]| {
            let proposals = weigh(cases, &known);
            proposals.iter().find(|p| p.action == "a").unwrap().confidence
        };
        let before = of(&cases);
        cases.push(case(99, "a", true, similarity));
        prop_assert!(of(&cases) >= before - 1e-6);
        cases.pop();
        cases.push(case(99, "a", false, similarity));
        prop_assert!(of(&cases) <= before + 1e-6);
    }

    /// Each action for itself: probabilities, moved by its own cases alone, each in its own direction.
    #[test]
    fn an_action_for_itself_is_moved_by_its_own_cases(mut cases in cases(), similarity in 0.0..=1.0_f32) {
        cases.truncate(8);
        let known = known(&[("a", 0.1), ("b", 0.3)]);
        let of = |cases: &[Case]| {
            let proposals = weigh_each(cases, &known);
            assert!(proposals.iter().all(|p| (0.0..=1.0).contains(&p.confidence)));
            proposals.iter().find(|p| p.action == "a").unwrap().confidence
        };
        let before = of(&cases);
        for (action, worked) in [("a", true), ("a", false), ("b", true), ("b", false)] {
            cases.push(case(99, action, worked, similarity));
            let after = of(&cases);
            cases.pop();
            match (action, worked) {
                ("a", true) => prop_assert!(after >= before - 1e-6),
                ("a", false) => prop_assert!(after <= before + 1e-6),
                _ => prop_assert_eq!(after, before),
            }
        }
    }

    /// The order in which cases come does not matter.
    #[test]
    fn the_order_of_cases_decides_nothing(cases in cases()) {
        let turned: Vec<Case> = cases.iter().rev().cloned().collect();
        let actions = |cases: &[Case]| -> Vec<(String, u32)> {
            let round = |c: f32| (c * 1e4).round() as u32;
            weigh(cases, &[]).into_iter().map(|p| (p.action, round(p.confidence))).collect()
        };
        let (mut a, mut b) = (actions(&cases), actions(&turned));
        a.sort();
        b.sort();
        prop_assert!(a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && x.1.abs_diff(y.1) <= 1));
    }
}
