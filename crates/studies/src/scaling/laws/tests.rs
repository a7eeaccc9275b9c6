use super::*;
use crate::scaling::laws::testing::{self, MLP, RESNET};

fn predictions(trials: &[Trial]) -> Vec<Prediction> {
    let planned = |family| PlannedTraining {
        id: if family == PLAIN { "mlp-large" } else { "resnet-large" },
        dataset: "fashion-mnist",
        family,
        depth: if family == PLAIN { 2 } else { 8 },
        network: "large",
        parameters: 800 * 256,
        examples: 50_000,
    };
    let predict = |family| Prediction::new(planned(family), trials, "2026-01-02T03:04:05Z", 100, 1).unwrap();
    [PLAIN, BETTER].map(predict).into()
}

fn laws(trials: &[Trial]) -> Laws {
    Laws::fit(trials, &predictions(trials), 100, 1)
}

#[test]
fn planted_laws_of_a_sweep_are_found() {
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
        assert_eq!((n.fixed, d.fixed), (Some(32_000), Some(800 * 64)));
        assert_eq!((n.trials.len(), d.trials.len(), family.joint.trials.len()), (15, 12, 60));
        let term = &d.law.as_ref().unwrap().terms[0];
        assert_eq!((term.variable, term.range), (Variable::Examples, [500.0, 32_000.0]));
    }
    assert_eq!(laws.diverged.len(), 2);
    assert_eq!(laws.comparisons.len(), 1);
    assert!(laws.outcomes.iter().all(|outcome| outcome.measured.is_some()));
}

#[test]
fn laws_list_existing_training_runs() {
    let trials = testing::sweep();
    let laws = laws(&trials);
    let exists = |id: &String| trials.iter().any(|trial| trial.id == *id && !trial.diverged);
    for family in &laws.families {
        let fits = [&family.by_parameters, &family.by_examples, &family.joint];
        assert!(fits.iter().flat_map(|fit| &fit.trials).all(exists));
        for fit in fits {
            assert_eq!(fit.trials.len(), fit.law.as_ref().unwrap().points);
        }
        assert!(family.frontier.points.iter().flat_map(|point| &point.trials).all(exists));
    }
    let points =
        laws.comparisons.iter().flat_map(|comparison| &comparison.budgets).flat_map(|budget| &budget.points);
    assert!(points.flat_map(|point| &point.trials).all(exists));
    for outcome in &laws.outcomes {
        let measured = outcome.measured.as_ref().unwrap();
        assert!(outcome.prediction.trials.iter().chain(&measured.trials).all(exists));
    }
}

#[test]
fn each_depth_has_its_own_laws() {
    let trials = testing::sweep();
    let original = laws(&trials);
    let deeper = trials.iter().filter(|trial| trial.family == PLAIN).cloned().map(|mut trial| {
        trial.depth = 3;
        trial.id += "-deeper";
        trial.test_loss *= 3.0;
        trial
    });
    let all: Vec<Trial> = deeper.chain(trials.clone()).collect();
    let both = laws(&all);
    let names: Vec<String> = both.families.iter().map(FamilyLaws::name).collect();
    let on_dataset = |name: &str| format!("{name} on fashion-mnist");
    assert_eq!(
        names,
        ["mlp of 2 hidden layers", "mlp of 3 hidden layers", "resnet of 8 layers"].map(on_dataset)
    );
    assert_eq!((&both.families[0], &both.families[2]), (&original.families[0], &original.families[1]));
    assert_eq!(both.outcomes, original.outcomes);
    let loss = |family: &FamilyLaws| family.joint.law.as_ref().unwrap().at(&[1e4, 1e4]);
    let (two, three) = (loss(&both.families[0]), loss(&both.families[1]));
    assert!((three / two - 3.0).abs() < 0.01, "{three} and {two}");
    // The chart of a family shows only the predictions of this family.
    let html = html(&both, &all);
    assert_eq!(html.matches("held out, with 95% interval").count(), 2);
}

#[test]
fn still_improving_runs_are_counted() {
    let mut trials = testing::sweep();
    let text = laws(&trials).sentences().join(" ");
    assert!(!text.contains("still improving"), "{text}");
    let still_improves = |trial: &Trial| match trial.role {
        Role::Fit => trial.family == BETTER && trial.examples >= 8000,
        Role::HeldOut => trial.seed == 1,
        Role::Comparison => trial.family == BETTER && (trial.examples == 7500 || trial.examples == 30_000),
        Role::Rate => false,
    };
    for trial in trials.iter_mut().filter(|trial| still_improves(trial)) {
        trial.best_step = trial.steps;
    }
    // Of the comparison trials with 7500 examples, those with seed 1 stop improving before the last step.
    let stops =
        |trial: &&mut Trial| trial.role == Role::Comparison && trial.examples == 7500 && trial.seed == 1;
    trials.iter_mut().filter(stops).for_each(|trial| trial.best_step = 320);
    let laws = laws(&trials);
    let [plain, better] = &laws.families[..] else { panic!() };
    assert!(plain.joint.improving.is_empty());
    let counts = [&better.by_parameters, &better.by_examples, &better.joint].map(|fit| fit.improving.len());
    assert_eq!(counts, [15, 6, 30], "diverged runs are not counted");
    let trial = |id: &String| trials.iter().find(|trial| trial.id == *id).unwrap();
    assert!(better.joint.improving.iter().all(|id| trial(id).best_step == trial(id).steps));
    let html = html(&laws, &trials);
    let text = laws.sentences().join("\n");
    for words in [
        "; 30 of 60 training runs were still improving at their last step, so steps limit their loss in addition to \
         size and data.",
        "; 1 of its 2 training runs were still improving at their last step.",
        "resnet was still improving at its last step with 7,500 (2 of 3 seeds) and 30,000 examples: its loss is limited \
         by compute there, not by data.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
        assert!(html.contains(words), "{words}");
    }
    assert!(!text.contains("mlp was still improving"), "{text}");
    assert!(html.contains("Law of D, N = 51,200: 6 of 12 training runs were still improving"));
    let read: Laws = serde_json::from_str(&serde_json::to_string(&laws).unwrap()).unwrap();
    assert_eq!(read, laws);
}

#[test]
fn saturated_laws_are_not_quoted() {
    let mut trials = testing::sweep();
    // The law of N and D has five parameters, and five distinct points remain.
    let keep = |trial: &Trial| match (trial.width, trial.examples) {
        (4, 500 | 2000 | 8000) | (16 | 64, 500) => trial.role == Role::Fit && trial.family == PLAIN,
        _ => false,
    };
    trials.retain(keep);
    let laws = Laws::fit(&trials, &[], 50, 1);
    assert!(laws.families[0].joint.law.as_ref().unwrap().is_saturated());
    assert!(laws.headline().contains("have as many parameters as points"), "{}", laws.headline());
    let sentences = laws.sentences();
    assert_eq!(
        sentences[0],
        "mlp of 2 hidden layers on fashion-mnist: no law of N and D is quoted, because it passes through all of \
         its 5 distinct points, so the fit does not test it."
    );
    let html = html(&laws, &trials);
    assert!(html.contains(
        "Law of N and D: it passes through all of its 5 distinct points, so the fit does not test it"
    ));

    let mut laws = self::laws(&testing::sweep());
    let frontier = &mut laws.families[0].frontier;
    let law = frontier.law.as_mut().unwrap();
    (law.points, law.distinct) = (3, 3);
    let optimum = frontier.optimum.as_mut().unwrap();
    (optimum.points, optimum.exponent.interval) = (3, None);
    assert_eq!(
        laws.sentences()[1],
        "mlp of 2 hidden layers on fashion-mnist: no law of compute is quoted, because it passes through all of \
         its 3 points, so the fit does not test it; the growth of the best size cannot be determined from 3 points."
    );
}

#[test]
fn floor_at_the_lowest_loss_has_a_caveat() {
    let mut laws = laws(&testing::sweep());
    laws.families[0].frontier.law.as_mut().unwrap().floor.status = EstimateStatus::AtLowestLoss;
    let sentence = &laws.sentences()[1];
    assert!(
        sentence.contains("; E equals the lowest measured loss, so neither E nor the exponents"),
        "{sentence}"
    );
    let html = html(&laws, &testing::sweep());
    assert!(html.contains("Law of C, along the frontier: E equals the lowest measured loss"));
}

#[test]
fn predictions_within_the_range_are_not_called_larger() {
    let trials = testing::sweep();
    let planned = PlannedTraining {
        id: "mlp-within",
        dataset: "fashion-mnist",
        family: PLAIN,
        depth: 2,
        network: "within",
        parameters: 800 * 64,
        examples: 32_000,
    };
    let prediction = Prediction::new(planned, &trials, "2026-01-02T03:04:05Z", 50, 1).unwrap();
    let held_out = testing::trial(PLAIN, Role::HeldOut, 64, 32_000, 9, 0.0);
    let all: Vec<Trial> = trials.iter().cloned().chain([held_out]).collect();
    let one = Laws::fit(&all, std::slice::from_ref(&prediction), 50, 1);
    assert!(one.headline().starts_with("The prediction of one training run"), "{}", one.headline());
    let text = one.sentences().join(" ");
    assert!(text.contains("; it is not larger than the training runs that its law was fitted to."), "{text}");
    let mixed = Laws::fit(&all, &[vec![prediction], predictions(&all)].concat(), 50, 1);
    assert!(
        mixed.headline().starts_with("The predictions of 2 larger training runs"),
        "{}",
        mixed.headline()
    );
}

#[test]
fn laws_round_trip_through_json() {
    let mut trials = testing::sweep();
    for trial in trials.iter_mut().filter(|trial| trial.role == Role::Comparison).take(1) {
        *trial = testing::diverged(trial.clone());
    }
    let laws = laws(&trials);
    let text = serde_json::to_string(&laws).unwrap();
    assert!(text.contains("\"inf\""), "the loss of a diverged run is infinite");
    assert_eq!(serde_json::from_str::<Laws>(&text).unwrap(), laws);
}

#[test]
fn unfitted_laws_have_a_reason() {
    let mut trials = testing::sweep();
    trials.retain(|trial| trial.role == Role::Fit && trial.width <= 8);
    let laws = Laws::fit(&trials, &[], 50, 1);
    let error = LawError::TooFewValues { variable: Variable::Parameters, values: 2 };
    for family in &laws.families {
        assert_eq!((&family.by_parameters.law, &family.joint.law), (&Err(error), &Err(error)));
        assert!(family.by_examples.law.is_ok());
    }
    assert!(laws.headline().starts_with("No law"));
    let text = laws.sentences().join(" ");
    assert!(
        text.contains("no law of N and D, because an exponent and an irreducible loss require at least 3"),
        "{text}"
    );
    assert!(laws.outcomes.is_empty() && laws.comparisons.is_empty());

    let empty = Laws::fit(&[], &[], 50, 1);
    assert!(empty.families.is_empty() && empty.sentences().is_empty());
}

#[test]
fn sentences_follow_the_numbers() {
    let mut trials = testing::sweep();
    let predictions = predictions(&trials);
    let within = Laws::fit(&trials, &predictions, 100, 1);
    assert!(
        within.headline().starts_with("The predictions of 2 larger training runs"),
        "{}",
        within.headline()
    );
    let text = within.sentences().join(" ");
    assert!(text.contains("mlp-large (204,800 parameters, 50,000 examples): predicted test loss"), "{text}");
    assert!(text.contains("within the interval") && !text.contains("outside"), "{text}");
    assert!(text.contains("2 training runs diverged") && text.contains("d8000-s4-lost"), "{text}");
    for trial in trials.iter_mut().filter(|trial| trial.role == Role::HeldOut) {
        trial.test_loss *= 2.0;
    }
    let outside = Laws::fit(&trials, &predictions, 100, 1);
    let text = outside.sentences().join(" ");
    assert!(text.contains("outside the interval") && text.contains("% too low, outside"), "{text}");
    trials.retain(|trial| trial.role != Role::HeldOut);
    let untested = Laws::fit(&trials, &predictions, 100, 1);
    assert!(untested.headline().contains("No larger training run has tested the laws yet"));
    assert!(untested.sentences().join(" ").contains("it has not been trained"));
}

#[test]
fn page_has_all_charts_and_training_runs() {
    let trials = testing::sweep();
    let laws = laws(&trials);
    let html = html(&laws, &trials);
    let document = roxmltree::Document::parse(html.split_once('\n').unwrap().1).unwrap();
    let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    // Each family has five charts: loss against compute, loss against N, loss against D, best size, and predictions.
    // Each budget has two charts: loss and accuracy.
    assert_eq!(count("svg"), 2 * 5 + 2 * 2);
    assert_eq!(count("script"), 0);
    for trial in &trials {
        assert!(html.contains(&format!("<th>{}</th>", trial.id)), "{}", trial.id);
    }
    let errors = laws.outcomes.iter().map(|outcome| outcome.measured.as_ref().unwrap().error);
    for error in errors {
        assert!(html.contains(&format!("<td>{:+.1}%, within</td>", 100.0 * error)));
    }
    // The column `error` comes before the wide columns, and dates are shown without the time of day.
    let heads: String = page::OUTCOME_COLUMNS.iter().map(|head| format!("<th>{head}</th>")).collect();
    assert!(heads.contains("<th>error</th><th>measured</th>") && html.contains(&heads));
    assert!(html.contains("<td>2026-01-02</td></tr>") && !html.contains("T03:04:05Z"));
    assert!(!html.contains("NaN"));
    assert!(!html.split_once("</style>").unwrap().1.contains('`'), "notes contain no Markdown");
    for (name, law) in [("0.076", "Kaplan"), ("0.34", "Hoffmann")] {
        assert!(html.contains(name) && html.contains(law));
    }
}

#[test]
fn page_of_unfitted_laws_has_the_reasons() {
    let mut trials = testing::sweep();
    trials.retain(|trial| trial.role == Role::Fit && trial.width <= 8);
    let laws = Laws::fit(&trials, &[], 50, 1);
    let html = html(&laws, &trials);
    roxmltree::Document::parse(html.split_once('\n').unwrap().1).unwrap();
    assert!(html.contains(
        "No law of N, D = 32,000: an exponent and an irreducible loss require at least 3 distinct values of N, found 2."
    ));
    let laws = Laws::fit(&[], &[], 50, 1);
    let html = self::html(&laws, &[]);
    assert!(html.contains("Nothing has been trained yet"));
}

fn html(laws: &Laws, trials: &[Trial]) -> String {
    let mut html = String::new();
    wgrad_report::page::begin(&mut html, "Laws", "").unwrap();
    page::write(&mut html, laws, trials).unwrap();
    wgrad_report::page::end(&mut html);
    html
}
