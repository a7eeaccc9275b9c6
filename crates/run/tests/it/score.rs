//! Tests of classifier scores: comparison with hand computation and with direct definitions, and undefined scores.

use wgrad_run::score::Roc;
use wgrad_run::{Predictions, ScoreError, Scores};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

/// Returns probabilities `[n, 2]` where `scores` are the probabilities of class 1.
fn binary(scores: &[f32]) -> Vec<f32> {
    scores.iter().flat_map(|score| [1.0 - score, *score]).collect()
}

fn roc(scores: &[f32], labels: &[u32]) -> Option<Roc> {
    Predictions::new(&binary(scores), 2, labels).unwrap().roc(1)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

/// Returns a linear congruential generator of integers in `0..below`, where `below` is its argument.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn scores_of_three_classes_match_hand_computation() {
    // The predicted classes are 0, 1, 1, 1, 0, 2, 2, 0. The last row is a tie, for which the first class is predicted.
    let probabilities = [
        [0.8, 0.1, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.6, 0.3],
        [0.3, 0.4, 0.3],
        [0.4, 0.3, 0.3],
        [0.1, 0.2, 0.7],
        [0.1, 0.3, 0.6],
        [0.5, 0.0, 0.5],
    ]
    .concat();
    let labels = [0, 0, 1, 1, 1, 2, 2, 2];
    let scores = Scores::of(&Predictions::new(&probabilities, 3, &labels).unwrap(), &names(3), None).unwrap();
    assert_eq!(scores.confusion, [[1, 1, 0], [1, 2, 0], [1, 0, 2]]);
    assert_eq!((scores.examples, scores.accuracy), (8, 5.0 / 8.0));
    let scores_of = |class: usize| {
        let class = &scores.classes[class];
        (class.examples, class.recall.unwrap(), class.precision.unwrap(), class.f1.unwrap())
    };
    assert_eq!(scores_of(0), (2, 1.0 / 2.0, 1.0 / 3.0, 2.0 / 5.0));
    assert_eq!(scores_of(1), (3, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0));
    assert_eq!(scores_of(2), (3, 2.0 / 3.0, 1.0, 4.0 / 5.0));
    assert!(close(scores.balanced_accuracy.unwrap(), (0.5 + 2.0 / 3.0 + 2.0 / 3.0) / 3.0));
    // AUC is the fraction of pairs in which the positive example has the higher score; a tie is one half.
    // Class 0: positive scores 0.8 and 0.2 against 0.1, 0.3, 0.4, 0.1, 0.1 and 0.5 are higher in 6 and 3 of 12 pairs.
    // Class 1: 0.6, 0.4 and 0.3 against 0.1, 0.7, 0.2, 0.3 and 0.0 are higher in 4, 4 and 3½ of 15 pairs.
    // Class 2: 0.7, 0.6 and 0.5 are higher in all pairs.
    let expected = [9.0 / 12.0, 11.5 / 15.0, 1.0];
    for (class, expected) in scores.classes.iter().zip(expected) {
        assert!(close(class.auc.unwrap(), expected), "{class:?}");
    }
    assert!(close(scores.macro_auc.unwrap(), expected.iter().sum::<f64>() / 3.0));
    assert_eq!(scores.binary, None);
}

#[test]
fn curve_has_one_point_per_distinct_score() {
    let roc = roc(&[0.9, 0.5, 0.5, 0.5, 0.1, 0.0, -0.0], &[1, 1, 0, 1, 0, 0, 1]).unwrap();
    let points: Vec<_> =
        roc.points.iter().map(|point| (point.threshold, point.sensitivity, point.specificity)).collect();
    assert_eq!(
        points,
        [
            (None, 0.0, 1.0),
            (Some(0.9), 0.25, 1.0),
            (Some(0.5), 0.75, 2.0 / 3.0),
            (Some(0.1), 0.75, 1.0 / 3.0),
            (Some(0.0), 1.0, 0.0),
        ]
    );
    // The positive example with score 0.9 is higher in 3 pairs. Both positive examples with score 0.5 are higher in 2
    // pairs and tie in one. The positive example with score 0 ties in one pair and is lower in 2.
    assert!(close(roc.area(), (3.0 + 2.0 * 2.5 + 0.5) / 12.0), "{}", roc.area());
}

/// Uses the ratings of 109 tomograms in table I of Hanley and McNeil (1982), who report an area of 0.893 with a
/// standard error of 0.032.
#[test]
fn auc_matches_the_example_of_hanley_and_mcneil() {
    let (normal, abnormal) = ([33, 6, 6, 11, 2], [3, 2, 2, 11, 33]);
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for (label, counts) in [(0, normal), (1, abnormal)] {
        for (rating, count) in counts.into_iter().enumerate() {
            scores.extend(std::iter::repeat_n(rating as f32, count));
            labels.extend(std::iter::repeat_n(label, count));
        }
    }
    let roc = roc(&scores, &labels).unwrap();
    let auc = roc.auc(7);
    assert_eq!((roc.negatives, roc.positives), (58, 51));
    assert_eq!(format!("{:.3} {:.3}", auc.value, auc.standard_error), "0.893 0.032");
    let [low, high] = auc.interval;
    assert!((low - (0.893 - 1.96 * 0.032)).abs() < 0.02 && (high - (0.893 + 1.96 * 0.032)).abs() < 0.02);
    assert_eq!(roc.auc(7), auc, "the same seed must give the same interval");
    assert_ne!(roc.auc(8).interval, auc.interval);
}

#[test]
fn area_and_curve_match_their_definitions() {
    let mut random = random(3);
    for case in 0..60 {
        let n = 2 + random(60) as usize;
        // Use few distinct scores, so that most scores are tied.
        let levels = 1 + random(12);
        let scores: Vec<f32> = (0..n).map(|_| random(levels) as f32 / 8.0).collect();
        let labels: Vec<u32> = (0..n).map(|_| random(2) as u32).collect();
        let rows_of = |class: u32| (0..n).filter(|row| labels[*row] == class).collect::<Vec<_>>();
        let (positive, negative) = (rows_of(1), rows_of(0));
        let Some(roc) = roc(&scores, &labels) else {
            assert!(positive.is_empty() || negative.is_empty(), "case {case}");
            continue;
        };
        let mut wins = 0.0;
        for p in &positive {
            for q in &negative {
                wins += match scores[*p].total_cmp(&scores[*q]) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
        assert!(close(roc.area(), wins / (positive.len() * negative.len()) as f64), "case {case}");
        for point in &roc.points {
            let predicted = |row: &&usize| point.threshold.is_some_and(|least| scores[**row] >= least);
            let hits = positive.iter().filter(predicted).count() as f64;
            let wrong = negative.iter().filter(predicted).count() as f64;
            assert!(close(point.sensitivity, hits / positive.len() as f64), "case {case}: {point:?}");
            assert!(close(point.specificity, 1.0 - wrong / negative.len() as f64), "case {case}: {point:?}");
        }
    }
}

#[test]
fn scores_do_not_depend_on_the_order_of_examples() {
    let mut random = random(5);
    let mut rows: Vec<(f32, u32)> = (0..80).map(|_| (random(20) as f32 / 20.0, random(2) as u32)).collect();
    let score = |rows: &[(f32, u32)]| {
        let (scores, labels): (Vec<f32>, Vec<u32>) = rows.iter().copied().unzip();
        Scores::of(&Predictions::new(&binary(&scores), 2, &labels).unwrap(), &names(2), None).unwrap()
    };
    let before = score(&rows);
    for last in (1..rows.len()).rev() {
        rows.swap(last, random(last as u64 + 1) as usize);
    }
    assert_eq!(score(&rows), before);
}

#[test]
fn swapping_the_positive_class_mirrors_the_curve() {
    // The probabilities are multiples of 1/8, so that 1 − p is exact and ties are preserved.
    let probabilities = binary(&[0.875, 0.75, 0.75, 0.5, 0.25, 0.125]);
    let predictions = Predictions::new(&probabilities, 2, &[1, 1, 0, 1, 0, 0]).unwrap();
    let binary_scores =
        |positive| Scores::of(&predictions, &names(2), Some(positive)).unwrap().binary.unwrap();
    let (one, zero) = (binary_scores(1), binary_scores(0));
    assert!(close(one.auc.value, zero.auc.value) && close(one.auc.standard_error, zero.auc.standard_error));
    let mirrored: Vec<_> =
        zero.roc.points.iter().rev().map(|point| (point.specificity, point.sensitivity)).collect();
    let points: Vec<_> = one.roc.points.iter().map(|point| (point.sensitivity, point.specificity)).collect();
    assert_eq!(points, mirrored);
}

#[test]
fn operating_points_maximize_one_rate_at_a_minimum_of_the_other() {
    // 20 negative examples have the scores 0.01 to 0.20, and four positive examples have 0.05, 0.195, 0.5 and 0.6.
    let negatives = (1..=20).map(|step| (step as f32 / 100.0, 0));
    let positives = [0.05, 0.195, 0.5, 0.6].map(|score| (score, 1));
    let (scores, labels): (Vec<f32>, Vec<u32>) = negatives.chain(positives).unzip();
    let roc = roc(&scores, &labels).unwrap();
    let at = roc.at_specificity(0.95);
    assert_eq!(
        (at.point.threshold, at.point.sensitivity, at.point.specificity),
        (Some(0.195), 0.75, 0.95),
        "expected 19 of 20 to satisfy a specificity of 0.95"
    );
    let at = roc.at_specificity(1.0);
    assert_eq!((at.point.threshold, at.point.sensitivity, at.point.specificity), (Some(0.5), 0.5, 1.0));
    let at = roc.at_sensitivity(0.75);
    assert_eq!((at.point.threshold, at.point.specificity), (Some(0.195), 0.95));
    let at = roc.at_sensitivity(0.76);
    assert_eq!((at.point.threshold, at.point.sensitivity, at.point.specificity), (Some(0.05), 1.0, 0.2));
    let chosen = roc.at_threshold(0.3);
    assert_eq!((chosen.threshold, chosen.sensitivity, chosen.specificity), (Some(0.3), 0.5, 1.0));
    let none = roc.at_threshold(0.7);
    assert_eq!((none.sensitivity, none.specificity), (0.0, 1.0));
}

#[test]
fn undefined_scores_are_none() {
    // Class 2 has no examples and is predicted once. Class 3 has no examples and is never predicted.
    let probabilities = [[0.9, 0.0, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0]].concat();
    let scores =
        Scores::of(&Predictions::new(&probabilities, 4, &[0, 1, 1]).unwrap(), &names(4), None).unwrap();
    let scores_of = |class: usize| {
        let class = &scores.classes[class];
        (class.recall, class.precision, class.f1, class.auc)
    };
    assert_eq!(scores_of(2), (None, Some(0.0), Some(0.0), None));
    assert_eq!(scores_of(3), (None, None, None, None));
    assert_eq!((scores.balanced_accuracy, scores.macro_auc), (None, None));
    let one_class = Predictions::new(&[0.5, 0.5], 2, &[1]).unwrap();
    let scores = Scores::of(&one_class, &names(2), None).unwrap();
    assert_eq!((scores.binary, scores.macro_auc), (None, None));
}

#[test]
fn scores_round_trip_through_json() {
    let probabilities = binary(&[0.9, 0.8, 0.3, 0.1, 1.0 / 3.0]);
    let predictions = Predictions::new(&probabilities, 2, &[1, 0, 1, 0, 0]).unwrap();
    let scores = Scores::of(&predictions, &names(2), None).unwrap();
    let json = serde_json::to_string(&scores).unwrap();
    assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), scores);
    assert_eq!(
        scores.binary.unwrap().roc.auc(1),
        serde_json::from_str::<Scores>(&json).unwrap().binary.unwrap().auc
    );
}

#[test]
fn lines_align_scores_classes_and_confusion_matrix() {
    let probabilities = binary(&[0.9, 0.8, 0.3, 0.1]);
    let predictions = Predictions::new(&probabilities, 2, &[1, 1, 1, 0]).unwrap();
    let lines = Scores::of(&predictions, &["benign".to_owned(), "ill".to_owned()], None).unwrap().lines();
    assert_eq!(lines[1], "accuracy           0.7500");
    assert!(lines[3].starts_with("AUC                1.0000"), "{lines:?}");
    assert_eq!(
        lines[lines.len() - 8..],
        [
            "class   examples  recall  precision      F1     AUC",
            "benign         1  1.0000     0.5000  0.6667  1.0000",
            "ill            3  0.6667     1.0000  0.8000  1.0000",
            "",
            "confusion matrix: true classes are rows, predicted classes are columns",
            "           0  1",
            "0  benign  1  0",
            "1  ill     1  2",
        ]
    );
}

#[test]
fn lines_list_frequent_confusions_of_many_classes() {
    // Class 0 is predicted as class 5 twice, and class 1 is predicted as class 2 once.
    let labels = [0, 0, 1, 3];
    let mut probabilities = vec![0.0; 4 * 20];
    for (row, predicted) in [5, 5, 2, 3].into_iter().enumerate() {
        probabilities[20 * row + predicted] = 1.0;
    }
    let lines = Scores::of(&Predictions::new(&probabilities, 20, &labels).unwrap(), &names(20), None)
        .unwrap()
        .lines();
    let names = names(20);
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "most frequent confusions; --json prints the whole matrix".to_owned(),
            format!("       2  {} predicted as {}", names[0], names[5]),
            format!("       1  {} predicted as {}", names[1], names[2]),
        ]
    );
}

#[test]
fn invalid_input_is_an_error_with_its_position() {
    let error_of = |probabilities: &[f32], classes, labels: &[u32]| {
        Predictions::new(probabilities, classes, labels).unwrap_err()
    };
    let error = error_of(&[0.1, 0.9, 0.2, f32::NAN], 2, &[0, 1]);
    assert!(matches!(error, ScoreError::Probability { row: 1, class: 1, value } if value.is_nan()));
    assert!(error.to_string().contains("class 1 in row 1 is NaN"), "{error}");
    assert!(matches!(error_of(&[f32::INFINITY, 0.0], 2, &[0]), ScoreError::Probability { row: 0, .. }));
    assert_eq!(error_of(&[0.1, 0.9], 2, &[2]), ScoreError::Label { row: 0, label: 2, classes: 2 });
    let error = error_of(&[0.1, 0.9, 0.5], 2, &[1]);
    assert_eq!(error, ScoreError::Length { probabilities: 3, labels: 1, classes: 2 });
    assert_eq!(error.to_string(), "1 labels and 2 classes need 2 probabilities, found 3");
    assert_eq!(error_of(&[], 2, &[]), ScoreError::Empty);
    assert_eq!(error_of(&[1.0], 1, &[0]), ScoreError::Classes(1));
    let predictions = Predictions::new(&[0.1, 0.9], 2, &[1]).unwrap();
    let error = Scores::of(&predictions, &names(3), None).unwrap_err();
    assert_eq!(error, ScoreError::Names { names: 3, classes: 2 });
    let error = Scores::of(&predictions, &names(2), Some(2)).unwrap_err();
    assert_eq!(error, ScoreError::Positive { positive: 2, classes: 2 });
    let three = Predictions::new(&[0.1, 0.8, 0.1], 3, &[1]).unwrap();
    let error = Scores::of(&three, &names(3), Some(1)).unwrap_err();
    assert_eq!(error, ScoreError::Positive { positive: 1, classes: 3 });
}
