use super::*;
use crate::scaling::{Curve, Role, Trial};
use std::collections::BTreeSet;
use wgrad_run::Flops;

const SMALL: &str = "
[training]
batch = 10
warmup = 2
ema = 0.9
rates = [1e-3, 1e-2]
rate_steps = 20
rate_examples = 50
validation = 20
test = 30
evaluations = 5
patience = 2

[[law]]
dataset = 'digits'
family = 'mlp'
depth = 1
widths = [2, 4]
examples = [50, 100]
seeds = [0, 1]
epochs = 4
steps = [25, 30]
held_out = [{ width = 8, examples = 200 }]

[[versus]]
dataset = 'digits'
without = 'mnist'
flops = [1e6, 1e7]
examples = [50]
seeds = [3]
networks = [{ family = 'mlp', depth = 1, width = 4 }, { family = 'resnet', depth = 8, width = 2 }]
";

fn small() -> Sweep {
    parse(SMALL, "small.toml").unwrap()
}

#[test]
fn what_is_built_in_is_right_and_small_enough_for_its_data() {
    for quick in [true, false] {
        let sweep = builtin(quick).unwrap();
        let sizes = [("digits", 1437), ("fashion-mnist", 60_000), ("cifar-10", 50_000)];
        let size = |name: &str| sweep.left_of(sizes.iter().find(|(known, _)| *known == name).unwrap().1);
        for law in &sweep.laws {
            let larger = law.held_out.iter().map(|larger| larger.examples);
            let most = law.examples.iter().copied().chain(larger.clone()).max().unwrap();
            assert!(most <= size(&law.dataset), "{law:?}");
            // A prediction is of something larger than all that the law was fitted to.
            let beyond = law.held_out.iter().all(|larger| {
                larger.width > *law.widths.last().unwrap() && larger.examples > *law.examples.last().unwrap()
            });
            assert!(beyond && !law.held_out.is_empty(), "{law:?}");
            assert!(law.widths.len() * law.examples.len() >= 9, "a law of N and D has five parameters");
        }
        for versus in &sweep.versus {
            assert!(*versus.examples.last().unwrap() <= size(&versus.dataset), "{versus:?}");
        }
    }
    // Without anything fetched there is something to train.
    let (left, missing) = builtin(true).unwrap().on(|name| name == "digits");
    assert_eq!((left.datasets(), missing), (vec!["digits"], vec!["fashion-mnist".to_owned()]));
    let (left, missing) = builtin(true).unwrap().on(|_| true);
    assert_eq!((left.datasets(), missing.len()), (vec!["fashion-mnist"], 0));
}

#[test]
fn jobs_are_every_size_on_every_amount_with_every_seed_under_names_of_their_own() {
    let sweep = small();
    let rate_jobs = sweep.rate_jobs(false);
    // Widths 2 and 4 of the law, and the residual network of the comparison; its perceptron is one of the law's.
    assert_eq!(rate_jobs.len(), 3 * 2);
    let trials: Vec<Trial> = rate_jobs.iter().map(|job| trial(job, job.lr)).collect();
    let rates = sweep.choose_rates(&rate_jobs, &trials);
    let jobs = [sweep.law_jobs(&rates, false), sweep.versus_jobs(&rates)].concat();
    assert_eq!(jobs.len(), 2 * 2 * 2 + 2 * 2);
    assert!(jobs.iter().all(|job| job.lr == 1e-3));
    let names: BTreeSet<&str> = jobs.iter().chain(&rate_jobs).map(|job| job.id.as_str()).collect();
    assert_eq!(names.len(), jobs.len() + rate_jobs.len());
    assert!(
        names.contains("digits-mlp1-w4-d100-s1") && names.contains("versus-1e7-digits-resnet8-w2-d50-s3")
    );
    // 4 epochs of 50 examples are 20 steps, under the fewest; of 100 they are 40, over the most.
    let aims: BTreeSet<String> = jobs.iter().map(|job| format!("{} {:?}", job.examples, job.aim)).collect();
    assert!(
        aims.contains("50 Steps(25)")
            && aims.contains("100 Steps(30)")
            && aims.contains("50 Flops(1000000.0)")
    );
    // The larger one has no rate yet, so it is no job yet.
    assert_eq!(sweep.law_jobs(&rates, true), []);
    let larger = sweep.rate_jobs(true);
    assert_eq!(larger.len(), 2);
    let trials: Vec<Trial> = larger.iter().map(|job| trial(job, job.lr)).collect();
    let jobs = sweep.law_jobs(&sweep.choose_rates(&larger, &trials), true);
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.role == Role::HeldOut && job.examples == 200));
}

/// A training that came to a validation loss.
fn trial(job: &Job, validation_loss: f64) -> Trial {
    let point =
        Curve { step: 1, flops: 1.0, train_loss: 1.0, validation_loss, test_loss: 1.0, test_accuracy: 0.5 };
    Trial {
        id: job.id.clone(),
        role: job.role,
        dataset: job.key.dataset.clone(),
        family: job.key.network.family.name().into(),
        depth: job.key.network.depth,
        network: String::new(),
        width: job.key.network.width,
        parameters: 1,
        examples: job.examples,
        batch: 1,
        steps: 1,
        lr: job.lr,
        seed: job.seed,
        flops: Flops::default(),
        curve: vec![point],
        best_step: 1,
        test_loss: 1.0,
        test_accuracy: 0.5,
        flops_to_best: 1.0,
        diverged: false,
        seconds: 1.0,
        device: "cpu".into(),
    }
}

#[test]
fn the_rate_of_the_lowest_validation_loss_is_chosen() {
    let sweep = small();
    let jobs = sweep.rate_jobs(false);
    let of_first = |trials: &[Trial]| *sweep.choose_rates(&jobs, trials).get(&jobs[0].key).unwrap();
    let losses = |losses: [f64; 2]| -> Vec<Trial> {
        jobs[..2].iter().zip(losses).map(|(job, loss)| trial(job, loss)).collect()
    };
    assert_eq!(of_first(&losses([0.5, 0.4])), 1e-2);
    assert_eq!(of_first(&losses([0.5, 0.5])), 1e-3);
    assert_eq!(of_first(&losses([0.5, f64::NAN])), 1e-3);
    let mut trials = losses([0.5, 0.4]);
    trials[1].diverged = true;
    assert_eq!(of_first(&trials), 1e-3);
    trials[0].diverged = true;
    assert_eq!(of_first(&trials), 1e-3);
    // A network that nothing is known of has no rate.
    assert_eq!(sweep.choose_rates(&jobs, &[]).len(), 0);
}

#[test]
fn another_way_to_train_has_another_name() {
    let sweep = small();
    assert_eq!(sweep.way(), small().way());
    let mut other = small();
    other.training.ema = 0.5;
    assert_ne!(other.way(), sweep.way());
    // What is trained makes no difference to how.
    other = small();
    other.laws.clear();
    assert_eq!(other.way(), sweep.way());
}

#[test]
fn evaluations_grow_by_a_factor_and_end_at_the_end() {
    let sweep = small();
    assert_eq!(sweep.evaluations(Role::Fit, 160), [10, 20, 40, 80, 160]);
    assert_eq!(sweep.evaluations(Role::Fit, 7), [7]);
    assert_eq!(sweep.evaluations(Role::Rate, 160), [160]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("batch = 10", "batch = 0", "small.toml: `training.batch` is 0, and takes 1 at least"),
        ("ema = 0.9", "ema = 1.0", "`training.ema` is from 0 to below 1"),
        (
            "rates = [1e-3, 1e-2]",
            "rates = [1e-2, 1e-3]",
            "`training.rates` is a list of positive numbers that rise",
        ),
        ("rates = [1e-3, 1e-2]", "rates = []", "`training.rates` is a list"),
        ("widths = [2, 4]", "widths = [4, 4]", "`law[0].widths` is a list"),
        ("examples = [50, 100]", "examples = [5, 100]", "fewer examples than training.batch, which is 10"),
        ("steps = [25, 30]", "steps = [31, 30]", "`law[0].steps` is the fewest steps and the most"),
        ("seeds = [3]", "seeds = []", "`versus[0].seeds` is empty"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "`law[0].seeds` has one of them twice"),
        (
            "width = 8, examples = 200",
            "width = 4, examples = 100",
            "`law[0].held_out` is not larger than all",
        ),
        ("width = 8, examples = 200", "width = 8, examples = 50", "`law[0].held_out` is not larger than all"),
        ("width = 8, examples = 200", "width = 99999, examples = 200", "`law[0].widths` are at most 65536"),
        ("evaluations = 5", "evaluations = 9000000000", "`training.evaluations` is at most 1000"),
        ("rate_examples = 50", "rate_examples = 5", "`training.rate_examples` has fewer examples than"),
        ("flops = [1e6, 1e7]", "flops = [1e6, 1e6]", "`versus[0].flops` is a list"),
        (
            "depth = 8, width = 2",
            "depth = 9, width = 2",
            "`versus[0].networks` of a residual network is 6n + 2",
        ),
        ("depth = 1\nwidths", "depth = 0\nwidths", "`law[0].depth` is 0 hidden layers"),
        ("patience = 2", "patience = 2\npatiense = 3", "unknown field `patiense`"),
        ("family = 'mlp'\n", "family = 'cnn'\n", "unknown variant `cnn`, expected `mlp` or `resnet`"),
        ("warmup = 2\n", "", "missing field `warmup`"),
        ("flops = [1e6, 1e7]", "flops = [inf]", "`versus[0].flops` is a list"),
    ];
    for (from, to, message) in cases {
        assert!(SMALL.contains(from), "{from}");
        let error = parse(&SMALL.replacen(from, to, 1), "small.toml").unwrap_err().to_string();
        assert!(error.contains(message), "{from} → {to}: {error}");
    }
    let error = parse(&SMALL.replacen("batch = 10", "batch = ten", 1), "small.toml").unwrap_err().to_string();
    assert!(error.starts_with("small.toml: TOML parse error at line 3"), "{error}");
    let (training, laws) = SMALL.split_once("[[law]]").unwrap();
    let error = parse(training, "small.toml").unwrap_err().to_string();
    assert!(error.contains("there is nothing to train"), "{error}");
    let law = laws.split_once("[[versus]]").unwrap().0;
    let twice = format!("{SMALL}\n[[law]]{law}");
    let error = parse(&twice, "small.toml").unwrap_err().to_string();
    assert!(error.contains("`law` makes the training digits-mlp1-w2-d50-s0 twice"), "{error}");
    let endless = SMALL.replacen("epochs = 4", "epochs = 9000000000000000000", 1);
    let sweep = parse(&endless, "small.toml").unwrap();
    let rates = sweep.rate_jobs(false).into_iter().map(|job| (job.key, job.lr)).collect();
    assert!(sweep.law_jobs(&rates, false).iter().all(|job| job.aim == Aim::Steps(30)));
    let error = read(std::path::Path::new("nowhere.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the sweep in nowhere.toml"), "{error}");
}
