use super::*;
use crate::scale::laws::testing::{self, MLP, RESNET};

fn predictions(trials: &[Trial]) -> Vec<Prediction> {
    let planned = |family| Planned {
        id: if family == PLAIN { "mlp-large" } else { "resnet-large" },
        dataset: "fashion-mnist",
        family,
        network: "large",
        parameters: 800 * 256,
        examples: 50_000,
    };
    let predict = |family| Prediction::of(planned(family), trials, "2026-01-02T03:04:05Z", 100, 1).unwrap();
    [PLAIN, BETTER].map(predict).into()
}

fn laws(trials: &[Trial]) -> Laws {
    Laws::of(trials, &predictions(trials), 100, 1)
}

#[test]
fn a_sweep_shows_the_laws_it_follows() {
    let trials = testing::sweep();
    let laws = laws(&trials);
    assert_eq!(laws.families.len(), 2);
    for (family, planted) in laws.families.iter().zip([MLP, RESNET]) {
        let joint = family.joint.law.as_ref().unwrap();
        for (term, planted) in joint.terms.iter().zip([planted[2], planted[4]]) {
            assert!((term.exponent.value - planted).abs() < 0.05, "{term:?} for {planted}");
        }
        assert_eq!(
            joint.terms.iter().map(|term| term.variable).collect::<Vec<_>>(),
            [Variable::Parameters, Variable::Examples]
        );
        let (n, d) = (&family.by_parameters, &family.by_examples);
        assert_eq!((n.held, d.held), (Some(32_000), Some(800 * 64)));
        assert_eq!((n.trials.len(), d.trials.len(), family.joint.trials.len()), (15, 12, 60));
        // The floor of a law of one variable is what the other leaves.
        let only = &d.law.as_ref().unwrap().terms[0];
        assert_eq!((only.variable, only.range), (Variable::Examples, [500.0, 32_000.0]));
    }
    assert_eq!(laws.diverged.len(), 2);
    assert_eq!(laws.versus.len(), 1);
    assert!(laws.outcomes.iter().all(|outcome| outcome.measured.is_some()));
}

#[test]
fn every_law_names_trainings_that_there_are() {
    let trials = testing::sweep();
    let laws = laws(&trials);
    let there = |id: &String| trials.iter().any(|trial| trial.id == *id && !trial.diverged);
    for family in &laws.families {
        let fits = [&family.by_parameters, &family.by_examples, &family.joint];
        assert!(fits.iter().flat_map(|fit| &fit.trials).all(there));
        for fit in fits {
            assert_eq!(fit.trials.len(), fit.law.as_ref().unwrap().points);
        }
        assert!(family.frontier.points.iter().flat_map(|point| &point.trials).all(there));
    }
    let points = laws.versus.iter().flat_map(|versus| &versus.budgets).flat_map(|budget| &budget.points);
    assert!(points.flat_map(|point| &point.trials).all(there));
    for outcome in &laws.outcomes {
        let measured = outcome.measured.as_ref().unwrap();
        assert!(outcome.prediction.trials.iter().chain(&measured.trials).all(there));
    }
}

#[test]
fn laws_survive_json() {
    let mut trials = testing::sweep();
    for trial in trials.iter_mut().filter(|trial| trial.role == Role::Versus).take(1) {
        *trial = testing::diverged(trial.clone());
    }
    let laws = laws(&trials);
    let text = serde_json::to_string(&laws).unwrap();
    assert!(text.contains("\"inf\""), "the loss of a diverged training is infinite");
    assert_eq!(serde_json::from_str::<Laws>(&text).unwrap(), laws);
}

#[test]
fn what_cannot_be_fitted_says_why() {
    let mut trials = testing::sweep();
    trials.retain(|trial| trial.role == Role::Fit && trial.width <= 8);
    let laws = Laws::of(&trials, &[], 50, 1);
    let few = LawError::TooFewValues { variable: Variable::Parameters, values: 2 };
    for family in &laws.families {
        assert_eq!((&family.by_parameters.law, &family.joint.law), (&Err(few), &Err(few)));
        assert!(family.by_examples.law.is_ok());
    }
    assert!(laws.headline().starts_with("No law"));
    let text = laws.sentences().join(" ");
    assert!(
        text.contains("no law of N and D, since an exponent and a floor take 3 different values of N"),
        "{text}"
    );
    assert!(laws.outcomes.is_empty() && laws.versus.is_empty());

    let empty = Laws::of(&[], &[], 50, 1);
    assert!(empty.families.is_empty() && empty.sentences().is_empty());
}

#[test]
fn sentences_follow_the_numbers() {
    let mut trials = testing::sweep();
    let predictions = predictions(&trials);
    let kept = Laws::of(&trials, &predictions, 100, 1);
    assert!(kept.headline().starts_with("2 larger trainings"), "{}", kept.headline());
    let text = kept.sentences().join(" ");
    assert!(text.contains("mlp-large (204,800 parameters, 50,000 examples) was predicted"), "{text}");
    assert!(text.contains("within the interval") && !text.contains("outside"), "{text}");
    assert!(text.contains("2 trainings diverged") && text.contains("d8000-s4-lost"), "{text}");
    for trial in trials.iter_mut().filter(|trial| trial.role == Role::HeldOut) {
        trial.test_loss *= 2.0;
    }
    let broken = Laws::of(&trials, &predictions, 100, 1);
    let text = broken.sentences().join(" ");
    assert!(text.contains("outside the interval") && text.contains("% too low, outside"), "{text}");
    trials.retain(|trial| trial.role != Role::HeldOut);
    let early = Laws::of(&trials, &predictions, 100, 1);
    assert!(early.headline().contains("no larger training has tested them yet"));
    assert!(early.sentences().join(" ").contains("it has not been trained"));
}

#[test]
fn a_page_is_whole_and_shows_every_training() {
    let trials = testing::sweep();
    let laws = laws(&trials);
    let html = html(&laws, &trials);
    let document = roxmltree::Document::parse(html.split_once('\n').unwrap().1).unwrap();
    let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    // For each family loss against compute, N and D, the optimal size, and the check; two budgets with loss and accuracy.
    assert_eq!(count("svg"), 2 * 5 + 2 * 2);
    assert_eq!(count("script"), 0);
    for trial in &trials {
        assert!(html.contains(&format!("<th>{}</th>", trial.id)), "{}", trial.id);
    }
    let errors = laws.outcomes.iter().map(|outcome| outcome.measured.as_ref().unwrap().error);
    for error in errors {
        assert!(html.contains(&format!("<td>{:+.1}%, within</td>", 100.0 * error)));
    }
    assert!(!html.contains("NaN"));
    for (name, law) in [("0.076", "Kaplan"), ("0.34", "Hoffmann")] {
        assert!(html.contains(name) && html.contains(law));
    }
}

#[test]
fn a_page_of_refusals_says_why() {
    let mut trials = testing::sweep();
    trials.retain(|trial| trial.role == Role::Fit && trial.width <= 8);
    let laws = Laws::of(&trials, &[], 50, 1);
    let html = html(&laws, &trials);
    roxmltree::Document::parse(html.split_once('\n').unwrap().1).unwrap();
    assert!(html.contains(
        "No law of N, D = 32,000: an exponent and a floor take 3 different values of N, and there are 2."
    ));
    let laws = Laws::of(&[], &[], 50, 1);
    let html = self::html(&laws, &[]);
    assert!(html.contains("Nothing has been trained yet"));
}

fn html(laws: &Laws, trials: &[Trial]) -> String {
    let mut html = String::new();
    crate::page::begin(&mut html, "Laws", "").unwrap();
    page::write(&mut html, laws, trials).unwrap();
    crate::page::end(&mut html);
    html
}
