use super::*;
use crate::scaling::{CurvePoint, Role, Trial};
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
fn builtin_sweeps_are_valid_and_fit_their_data() {
    for quick in [true, false] {
        let sweep = builtin(quick).unwrap();
        let sizes = [("digits", 1437), ("fashion-mnist", 60_000), ("cifar-10", 50_000)];
        let size =
            |name: &str| sweep.training_examples(sizes.iter().find(|(known, _)| *known == name).unwrap().1);
        for law in &sweep.laws {
            let larger = law.held_out.iter().map(|larger| larger.examples);
            let most = law.examples.iter().copied().chain(larger.clone()).max().unwrap();
            assert!(most <= size(&law.dataset), "{law:?}");
            // Held-out networks are larger than all networks that the law is fitted to.
            let larger_than_grid = law.held_out.iter().all(|larger| {
                larger.width > *law.widths.last().unwrap() && larger.examples > *law.examples.last().unwrap()
            });
            assert!(larger_than_grid && !law.held_out.is_empty(), "{law:?}");
            assert!(
                law.widths.len() * law.examples.len() >= 9,
                "too few points for the five parameters of a law of N and D"
            );
        }
        for comparison in &sweep.comparisons {
            assert!(*comparison.examples.last().unwrap() <= size(&comparison.dataset), "{comparison:?}");
        }
    }
    // Without downloaded data, the sweep uses the built-in digits.
    let (available, missing) = builtin(true).unwrap().available(|name| name == "digits");
    assert_eq!((available.datasets(), missing), (vec!["digits"], vec!["fashion-mnist".to_owned()]));
    let (available, missing) = builtin(true).unwrap().available(|_| true);
    assert_eq!((available.datasets(), missing.len()), (vec!["fashion-mnist"], 0));
}

#[test]
fn jobs_cover_all_sizes_amounts_and_seeds_with_unique_names() {
    let sweep = small();
    let rate_jobs = sweep.rate_jobs(false);
    // Three networks with two learning rates each: the two widths of the law, and the residual network of the
    // comparison. The perceptron of the comparison is also a network of the law, so it is not trained twice.
    assert_eq!(rate_jobs.len(), 3 * 2);
    let trials: Vec<Trial> = rate_jobs.iter().map(|job| trial(job, job.lr)).collect();
    let rates = sweep.choose_rates(&rate_jobs, &trials);
    let jobs = [sweep.law_jobs(&rates, false), sweep.comparison_jobs(&rates)].concat();
    assert_eq!(jobs.len(), 2 * 2 * 2 + 2 * 2);
    assert!(jobs.iter().all(|job| job.lr == 1e-3));
    let names: BTreeSet<&str> = jobs.iter().chain(&rate_jobs).map(|job| job.id.as_str()).collect();
    assert_eq!(names.len(), jobs.len() + rate_jobs.len());
    assert!(
        names.contains("digits-mlp1-w4-d100-s1") && names.contains("versus-1e7-digits-resnet8-w2-d50-s3")
    );
    // 4 epochs of 50 examples are 20 steps, below the minimum of 25. 4 epochs of 100 examples are 40 steps, above the
    // maximum of 30.
    let lengths: BTreeSet<String> =
        jobs.iter().map(|job| format!("{} {:?}", job.examples, job.length)).collect();
    assert!(
        lengths.contains("50 Steps(25)")
            && lengths.contains("100 Steps(30)")
            && lengths.contains("50 Flops(1000000.0)")
    );
    // The held-out network has no learning rate yet, so it has no job.
    assert_eq!(sweep.law_jobs(&rates, true), []);
    let larger = sweep.rate_jobs(true);
    assert_eq!(larger.len(), 2);
    let trials: Vec<Trial> = larger.iter().map(|job| trial(job, job.lr)).collect();
    let jobs = sweep.law_jobs(&sweep.choose_rates(&larger, &trials), true);
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.role == Role::HeldOut && job.examples == 200));
}

/// Returns the trial of a job with the given validation loss.
fn trial(job: &Job, validation_loss: f64) -> Trial {
    let point = CurvePoint {
        step: 1,
        flops: 1.0,
        train_loss: 1.0,
        validation_loss,
        test_loss: 1.0,
        test_accuracy: 0.5,
    };
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
fn rate_with_the_lowest_validation_loss_is_chosen() {
    let sweep = small();
    let jobs = sweep.rate_jobs(false);
    let rate_of_first_network =
        |trials: &[Trial]| *sweep.choose_rates(&jobs, trials).get(&jobs[0].key).unwrap();
    let losses = |losses: [f64; 2]| -> Vec<Trial> {
        jobs[..2].iter().zip(losses).map(|(job, loss)| trial(job, loss)).collect()
    };
    assert_eq!(rate_of_first_network(&losses([0.5, 0.4])), 1e-2);
    assert_eq!(rate_of_first_network(&losses([0.5, 0.5])), 1e-3);
    assert_eq!(rate_of_first_network(&losses([0.5, f64::NAN])), 1e-3);
    let mut trials = losses([0.5, 0.4]);
    trials[1].diverged = true;
    assert_eq!(rate_of_first_network(&trials), 1e-3);
    trials[0].diverged = true;
    assert_eq!(rate_of_first_network(&trials), 1e-3);
    // A network without trials has no learning rate.
    assert_eq!(sweep.choose_rates(&jobs, &[]).len(), 0);
}

#[test]
fn digest_depends_on_the_training_settings_only() {
    let sweep = small();
    assert_eq!(sweep.settings_digest(), small().settings_digest());
    let mut other = small();
    other.training.ema = 0.5;
    assert_ne!(other.settings_digest(), sweep.settings_digest());
    // The digest does not depend on the networks.
    other = small();
    other.laws.clear();
    assert_eq!(other.settings_digest(), sweep.settings_digest());
}

#[test]
fn evaluation_steps_grow_by_a_constant_factor_up_to_the_last_step() {
    let sweep = small();
    assert_eq!(sweep.evaluation_steps(Role::Fit, 160), [10, 20, 40, 80, 160]);
    assert_eq!(sweep.evaluation_steps(Role::Fit, 7), [7]);
    assert_eq!(sweep.evaluation_steps(Role::Rate, 160), [160]);
}

#[test]
fn errors_name_the_key_and_the_problem() {
    let cases = [
        ("batch = 10", "batch = 0", "small.toml: `training.batch` must be at least 1, not 0"),
        ("ema = 0.9", "ema = 1.0", "`training.ema` must be at least 0 and less than 1"),
        (
            "rates = [1e-3, 1e-2]",
            "rates = [1e-2, 1e-3]",
            "`training.rates` must be a list of positive numbers in ascending order",
        ),
        ("rates = [1e-3, 1e-2]", "rates = []", "`training.rates` must be a list"),
        ("widths = [2, 4]", "widths = [4, 4]", "`law[0].widths` must be a list"),
        ("examples = [50, 100]", "examples = [5, 100]", "must be at least training.batch, which is 10"),
        ("steps = [25, 30]", "steps = [31, 30]", "`law[0].steps` must be the minimum and the maximum"),
        ("seeds = [3]", "seeds = []", "`versus[0].seeds` must not be empty"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "`law[0].seeds` must not contain a seed more than once"),
        (
            "width = 8, examples = 200",
            "width = 4, examples = 100",
            "`law[0].held_out` must be larger than all",
        ),
        (
            "width = 8, examples = 200",
            "width = 8, examples = 50",
            "`law[0].held_out` must be larger than all",
        ),
        (
            "width = 8, examples = 200",
            "width = 99999, examples = 200",
            "`law[0].widths` must be at most 65536",
        ),
        ("evaluations = 5", "evaluations = 9000000000", "`training.evaluations` must be at most 1000"),
        (
            "rate_examples = 50",
            "rate_examples = 5",
            "`training.rate_examples` must be at least training.batch",
        ),
        ("flops = [1e6, 1e7]", "flops = [1e6, 1e6]", "`versus[0].flops` must be a list"),
        ("depth = 8, width = 2", "depth = 9, width = 2", "`versus[0].networks` must have a depth of 6n + 2"),
        ("depth = 1\nwidths", "depth = 0\nwidths", "`law[0].depth` must be at least 1 hidden layer"),
        ("patience = 2", "patience = 2\npatiense = 3", "unknown field `patiense`"),
        ("family = 'mlp'\n", "family = 'cnn'\n", "unknown variant `cnn`, expected `mlp` or `resnet`"),
        ("warmup = 2\n", "", "missing field `warmup`"),
        ("flops = [1e6, 1e7]", "flops = [inf]", "`versus[0].flops` must be a list"),
    ];
    for (from, to, message) in cases {
        assert!(SMALL.contains(from), "{from}");
        let error = parse(&SMALL.replacen(from, to, 1), "small.toml").unwrap_err().to_string();
        assert!(error.contains(message), "{from} → {to}: {error}");
    }
}

#[test]
fn errors_about_the_whole_sweep_and_its_file() {
    let error = parse(&SMALL.replacen("batch = 10", "batch = ten", 1), "small.toml").unwrap_err().to_string();
    assert!(error.starts_with("small.toml: TOML parse error at line 3"), "{error}");
    let (training, laws) = SMALL.split_once("[[law]]").unwrap();
    let error = parse(training, "small.toml").unwrap_err().to_string();
    assert!(error.contains("`law` and `versus` are both missing"), "{error}");
    let law = laws.split_once("[[versus]]").unwrap().0;
    let twice = format!("{SMALL}\n[[law]]{law}");
    let error = parse(&twice, "small.toml").unwrap_err().to_string();
    assert!(error.contains("`law` defines the training run digits-mlp1-w2-d50-s0 more than once"), "{error}");
    let error = read(std::path::Path::new("nowhere.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the sweep in nowhere.toml"), "{error}");
}

#[test]
fn steps_of_very_many_epochs_do_not_overflow() {
    let many_epochs = SMALL.replacen("epochs = 4", "epochs = 9000000000000000000", 1);
    let sweep = parse(&many_epochs, "small.toml").unwrap();
    let rates = sweep.rate_jobs(false).into_iter().map(|job| (job.key, job.lr)).collect();
    assert!(sweep.law_jobs(&rates, false).iter().all(|job| job.length == TrainingLength::Steps(30)));
}
