//! What is said of a decision, by tables of records.

use proptest::prelude::*;

use super::*;

fn record(past: &[(f32, f32, bool)]) -> Record {
    let past = past.iter().map(|&(similarity, weighed, was_right)| Past {
        similarity,
        weighed,
        was_right,
    });
    Record(past.collect())
}

fn proposal(action: &str, confidence: f32) -> Proposal {
    Proposal {
        action: action.to_owned(),
        confidence,
        weighed: confidence,
        evidence: Vec::new(),
    }
}

#[test]
fn without_a_record_what_was_weighed_is_said() {
    assert_eq!(Record::default().confidence(0.3), 0.3);
    assert_eq!(record(&[(1.0, 0.9, true)]).confidence(0.3), 0.3);
}

#[test]
fn who_was_right_more_often_than_it_weighed_says_more_and_who_was_wrong_less() {
    let said = |was_right| record(&[(0.8, 0.4, was_right); 20]).confidence(0.4);
    assert!(said(true) > 0.95, "{}", said(true));
    assert!(said(false) < 0.05, "{}", said(false));
    let one = record(&[(0.8, 0.4, true)]).confidence(0.4);
    assert!((0.6..0.7).contains(&one), "one case is one case: {one}");
}

#[test]
fn the_others_share_what_is_left() {
    let mut proposals = [proposal("a", 0.5), proposal("b", 0.3), proposal("c", 0.1)];
    record(&[(1.0, 0.5, true); 3]).calibrate(&mut proposals);
    let said: Vec<String> = proposals
        .iter()
        .map(|p| format!("{} {:.3} of {:.1}", p.action, p.confidence, p.weighed))
        .collect();
    assert_eq!(said, ["a 0.875 of 0.5", "b 0.075 of 0.3", "c 0.025 of 0.1"]);
    record(&[]).calibrate(&mut []);
}

proptest! {
    #[test]
    fn it_is_a_probability(
        past in prop::collection::vec((0.0..1.0_f32, 0.0..=1.0_f32, any::<bool>()), 0..60),
        weighed in prop::collection::vec(0.0..=1.0_f32, 1..6),
    ) {
        let record = record(&past);
        let sum: f32 = weighed.iter().sum::<f32>().max(1.0);
        let mut proposals: Vec<Proposal> =
            weighed.iter().map(|w| proposal("a", w / sum)).collect();
        record.calibrate(&mut proposals);
        let said: f32 = proposals.iter().map(|p| p.confidence).sum();
        prop_assert!(proposals.iter().all(|p| (0.0..=1.0).contains(&p.confidence)));
        prop_assert!(said <= 1.0 + 1e-4, "{said}");
    }
}
