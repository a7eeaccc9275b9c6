use super::*;
use crate::scaling::laws::testing::{self, MLP, RESNET};

fn predictions(trials: &[Trial]) -> Vec<Prediction> {
    let planned = |family| Planned {
        id: if family == PLAIN { "mlp-large" } else { "resnet-large" },
        dataset: "fashion-mnist",
        family,
        depth: if family == PLAIN { 2 } else { 8 },
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
fn depths_have_laws_of_their_own() {
    let trials = testing::sweep();
    let alone = laws(&trials);
    let deeper = trials.iter().filter(|trial| trial.family == PLAIN).cloned().map(|mut trial| {
        trial.depth = 3;
        trial.id += "-deeper";
        trial.test_loss *= 3.0;
        trial
    });
    let all: Vec<Trial> = deeper.chain(trials.clone()).collect();
    let both = laws(&all);
    let names: Vec<String> = both.families.iter().map(FamilyLaws::name).collect();
    let of = |what: &str| format!("{what} on fashion-mnist");
    assert_eq!(names, ["mlp of 2 hidden layers", "mlp of 3 hidden layers", "resnet of 8 layers"].map(of));
    assert_eq!((&both.families[0], &both.families[2]), (&alone.families[0], &alone.families[1]));
    assert_eq!(both.outcomes, alone.outcomes);
    let loss = |family: &FamilyLaws| family.joint.law.as_ref().unwrap().at(&[1e4, 1e4]);
    let (two, three) = (loss(&both.families[0]), loss(&both.families[1]));
    assert!((three / two - 3.0).abs() < 0.01, "{three} and {two}");
    // The check beside a family is of its own predictions.
    let html = html(&both, &all);
    assert_eq!(html.matches("held out, with its interval").count(), 2);
}

#[test]
fn trainings_that_were_still_improving_are_counted() {
    let mut trials = testing::sweep();
    let text = laws(&trials).sentences().join(" ");
    assert!(!text.contains("still improving"), "{text}");
    let goes_on = |trial: &Trial| match trial.role {
        Role::Fit => trial.family == BETTER && trial.examples >= 8000,
        Role::HeldOut => trial.seed == 1,
        Role::Versus => trial.family == BETTER && (trial.examples == 7500 || trial.examples == 30_000),
        Role::Rate => false,
    };
    for trial in trials.iter_mut().filter(|trial| goes_on(trial)) {
        trial.best_step = trial.steps;
    }
    // One seed comes to an end before.
    let stops = |trial: &&mut Trial| trial.role == Role::Versus && trial.examples == 7500 && trial.seed == 1;
    trials.iter_mut().filter(stops).for_each(|trial| trial.best_step = 320);
    let laws = laws(&trials);
    let [plain, better] = &laws.families[..] else { panic!() };
    assert!(plain.joint.improving.is_empty());
    let counts = [&better.by_parameters, &better.by_examples, &better.joint].map(|fit| fit.improving.len());
    assert_eq!(counts, [15, 6, 30], "and not what diverged");
    let of = |id: &String| trials.iter().find(|trial| trial.id == *id).unwrap();
    assert!(better.joint.improving.iter().all(|id| of(id).best_step == of(id).steps));
    let html = html(&laws, &trials);
    let text = laws.sentences().join("\n");
    for words in [
        "; 30 of 60 trainings were still improving when they ended, so steps limit them as well as size and data.",
        "; 1 of its 2 trainings were still improving when they ended.",
        "resnet was still improving when its compute was spent with 7,500 (2 of 3 seeds) and 30,000 examples: there it is \
         limited by compute, not by data.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
        assert!(html.contains(words), "{words}");
    }
    assert!(!text.contains("mlp was still improving"), "{text}");
    assert!(html.contains("Law of D, N = 51,200: 6 of 12 trainings were still improving"));
    let read: Laws = serde_json::from_str(&serde_json::to_string(&laws).unwrap()).unwrap();
    assert_eq!(read, laws);
}

#[test]
fn what_tests_nothing_is_not_quoted() {
    let mut trials = testing::sweep();
    // Five different points for the five parameters of the law of N and D.
    let kept = |trial: &Trial| match (trial.width, trial.examples) {
        (4, 500 | 2000 | 8000) | (16 | 64, 500) => trial.role == Role::Fit && trial.family == PLAIN,
        _ => false,
    };
    trials.retain(kept);
    let laws = Laws::of(&trials, &[], 50, 1);
    assert!(laws.families[0].joint.law.as_ref().unwrap().is_saturated());
    assert!(
        laws.headline().contains("pass through their points, which tests nothing"),
        "{}",
        laws.headline()
    );
    let sentences = laws.sentences();
    assert_eq!(
        sentences[0],
        "mlp of 2 hidden layers on fashion-mnist: no law of N and D to quote: it passes through its 5 different points, which \
         tests nothing."
    );
    let html = html(&laws, &trials);
    assert!(html.contains("Law of N and D: it passes through its 5 different points, which tests nothing"));

    let mut laws = self::laws(&testing::sweep());
    let frontier = &mut laws.families[0].frontier;
    let law = frontier.law.as_mut().unwrap();
    (law.points, law.distinct) = (3, 3);
    let optimum = frontier.optimum.as_mut().unwrap();
    (optimum.points, optimum.exponent.interval) = (3, None);
    assert_eq!(
        laws.sentences()[1],
        "mlp of 2 hidden layers on fashion-mnist: no law of compute to quote: it passes through its 3 points, which tests \
         nothing; how the best size grows cannot be said from 3 points."
    );
}

#[test]
fn a_floor_at_what_was_measured_is_doubted_on_the_frontier_too() {
    let mut laws = laws(&testing::sweep());
    laws.families[0].frontier.law.as_mut().unwrap().floor.standing = Standing::AtMeasured;
    let sentence = &laws.sentences()[1];
    assert!(
        sentence.contains("; E comes out at the lowest loss that was measured, so neither it nor"),
        "{sentence}"
    );
    let html = html(&laws, &testing::sweep());
    assert!(html.contains("Law of C, along the frontier: E comes out at the lowest loss"));
}

#[test]
fn what_is_no_larger_is_not_called_larger() {
    let trials = testing::sweep();
    let planned = Planned {
        id: "mlp-within",
        dataset: "fashion-mnist",
        family: PLAIN,
        depth: 2,
        network: "within",
        parameters: 800 * 64,
        examples: 32_000,
    };
    let prediction = Prediction::of(planned, &trials, "2026-01-02T03:04:05Z", 50, 1).unwrap();
    let held_out = testing::trial(PLAIN, Role::HeldOut, 64, 32_000, 9, 0.0);
    let all: Vec<Trial> = trials.iter().cloned().chain([held_out]).collect();
    let one = Laws::of(&all, std::slice::from_ref(&prediction), 50, 1);
    assert!(one.headline().starts_with("A training, predicted before it was made"), "{}", one.headline());
    let text = one.sentences().join(" ");
    assert!(text.contains("; it is no larger than what its law was fitted to."), "{text}");
    let mixed = Laws::of(&all, &[vec![prediction], predictions(&all)].concat(), 50, 1);
    assert!(mixed.headline().starts_with("2 larger trainings"), "{}", mixed.headline());
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
    // The error before what is wide, and the day alone.
    let heads: String = page::OUTCOMES.iter().map(|head| format!("<th>{head}</th>")).collect();
    assert!(heads.contains("<th>error</th><th>measured</th>") && html.contains(&heads));
    assert!(html.contains("<td>2026-01-02</td></tr>") && !html.contains("T03:04:05Z"));
    assert!(!html.contains("NaN"));
    assert!(!html.split_once("</style>").unwrap().1.contains('`'), "there is no markup in notes");
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
    wgrad_report::page::begin(&mut html, "Laws", "").unwrap();
    page::write(&mut html, laws, trials).unwrap();
    wgrad_report::page::end(&mut html);
    html
}
