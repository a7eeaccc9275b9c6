use super::*;
use crate::scaling::laws::testing::normal;

const SINGLE: [Variable; 1] = [Variable::Parameters];
const BOTH: [Variable; 2] = [Variable::Parameters, Variable::Examples];

/// Returns samples of the law E + A·x^(−α), `seeds` samples per x. The noise is log-normal; `noise` is the standard
/// deviation of its logarithm. If `noise` is positive, every tenth sample is an outlier.
fn single(
    [e, a, alpha]: [f64; 3],
    xs: &[f64],
    seeds: usize,
    noise: f64,
    random: &mut SplitMix64,
) -> Vec<Sample> {
    let value = |x: f64| e + a * x.powf(-alpha);
    noisy(xs.iter().map(|x| ([*x, 0.0], value(*x))), seeds, noise, random)
}

/// Returns samples of the law E + A·N^(−α) + B·D^(−β) on a grid of five values of N and four values of D, with `seeds`
/// samples per grid point. `noise` is as in [`single`].
fn both(theta: [f64; 5], seeds: usize, noise: f64, random: &mut SplitMix64) -> Vec<Sample> {
    let [e, a, alpha, b, beta] = theta;
    let cells = (0..5).flat_map(|i| (0..4).map(move |j| (1e3 * 4f64.powi(i), 500.0 * 4f64.powi(j))));
    let points = cells.map(|(n, d)| ([n, d], e + a * n.powf(-alpha) + b * d.powf(-beta)));
    noisy(points, seeds, noise, random)
}

fn noisy(
    points: impl Iterator<Item = ([f64; 2], f64)>,
    seeds: usize,
    noise: f64,
    random: &mut SplitMix64,
) -> Vec<Sample> {
    let each = points.flat_map(|point| std::iter::repeat_n(point, seeds)).enumerate();
    let outlier = |index: usize| if noise > 0.0 && index % 10 == 3 { 0.3 } else { 0.0 };
    each.map(|(index, (x, loss))| Sample { x, loss: loss * (noise * normal(random) + outlier(index)).exp() })
        .collect()
}

fn sizes(count: i32) -> Vec<f64> {
    (0..count).map(|i| 1e3 * 3f64.powi(i)).collect()
}

fn near(found: f64, planted: f64, relative: f64) {
    assert!((found / planted - 1.0).abs() < relative, "found {found}, expected {planted}");
}

#[test]
fn planted_laws_without_noise_are_found() {
    let mut random = SplitMix64(1);
    for theta in [[0.3, 8.0, 0.35], [1.69, 406.4, 0.34], [0.02, 2.0, 0.08], [0.5, 3e4, 1.4]] {
        let law = fit(&SINGLE, &single(theta, &sizes(6), 1, 0.0, &mut random), 0, 1).unwrap().law;
        near(law.floor.value, theta[0], 1e-4);
        near(law.terms[0].scale.value, theta[1], 1e-4);
        near(law.terms[0].exponent.value, theta[2], 1e-4);
    }
    for theta in [[0.3, 8.0, 0.35, 20.0, 0.5], [0.25, 900.0, 1.0, 2.0, 0.2]] {
        let samples = both(theta, 1, 0.0, &mut random);
        let law = fit(&BOTH, &samples, 0, 1).unwrap().law;
        let [n, d] = &law.terms[..] else { panic!("{law:?}") };
        let found = [law.floor, n.scale, n.exponent, d.scale, d.exponent];
        found.into_iter().zip(theta).for_each(|(found, planted)| near(found.value, planted, 1e-3));
        near(
            law.at(&[2e4, 3e3]),
            theta[0] + theta[1] * 2e4f64.powf(-theta[2]) + theta[3] * 3e3f64.powf(-theta[4]),
            1e-5,
        );
    }
}

#[test]
fn planted_exponents_are_found_in_noise_with_outliers() {
    for (seed, noise, within) in [(1, 0.02, 0.06), (2, 0.02, 0.06), (3, 0.05, 0.12)] {
        let mut random = SplitMix64(seed);
        let samples = both([0.2, 60.0, 0.5, 40.0, 0.6], 3, noise, &mut random);
        let law = fit(&BOTH, &samples, 0, 1).unwrap().law;
        for (term, planted) in law.terms.iter().zip([0.5, 0.6]) {
            let error = term.exponent.value - planted;
            assert!(error.abs() < within, "seed {seed}: {law:?}");
        }
        assert!(
            (0.6 * noise..1.8 * noise).contains(&law.scatter),
            "scatter {} for noise {noise}",
            law.scatter
        );
        assert_eq!((law.points, law.distinct), (60, 20));
        let law =
            fit(&SINGLE, &single([0.2, 60.0, 0.5], &sizes(7), 5, noise, &mut random), 0, 1).unwrap().law;
        assert!((law.terms[0].exponent.value - 0.5).abs() < within, "seed {seed}: {law:?}");
    }
}

#[test]
fn intervals_contain_the_planted_parameters() {
    let (mut one, mut two) = ([0; 2], [0; 3]);
    let contains = |estimate: &Estimate, planted: f64| {
        let [low, high] = estimate.interval.unwrap();
        usize::from((low..=high).contains(&planted))
    };
    for draw in 0..40 {
        let mut random = SplitMix64(100 + draw);
        let law =
            fit(&SINGLE, &single([0.3, 30.0, 0.5], &sizes(5), 3, 0.03, &mut random), 200, draw).unwrap().law;
        one[0] += contains(&law.floor, 0.3);
        one[1] += contains(&law.terms[0].exponent, 0.5);
        let law =
            fit(&BOTH, &both([0.2, 60.0, 0.5, 40.0, 0.6], 2, 0.03, &mut random), 100, draw).unwrap().law;
        two[0] += contains(&law.floor, 0.2);
        two[1] += contains(&law.terms[0].exponent, 0.5);
        two[2] += contains(&law.terms[1].exponent, 0.6);
    }
    assert!(
        one.iter().chain(&two).all(|count| *count >= 34),
        "intervals that contain the parameter, of 40: {one:?}, {two:?}"
    );
}

#[test]
fn prediction_interval_contains_a_new_training() {
    let mut inside = 0;
    let value = |n: f64, d: f64| 0.2 + 60.0 * n.powf(-0.5) + 40.0 * d.powf(-0.6);
    for draw in 0..40 {
        let mut random = SplitMix64(300 + draw);
        let fitted = fit(&BOTH, &both([0.2, 60.0, 0.5, 40.0, 0.6], 2, 0.03, &mut random), 100, draw).unwrap();
        let [low, high] = fitted.interval_at([1e6, 1e5], draw).unwrap();
        let measured = value(1e6, 1e5) * (0.03 * normal(&mut random)).exp();
        inside += usize::from((low..=high).contains(&measured));
        // In the middle of the range of the fitted points, the interval is at least as wide as the scatter of a single
        // training run.
        let [low, high] = fitted.interval_at([16e3, 2e3], draw).unwrap();
        assert!(high / low > (2.0f64 * 1.5 * 0.03).exp(), "{low} to {high}");
    }
    assert!(inside >= 34, "{inside} of 40 intervals contain the loss");
}

#[test]
fn fewer_points_than_parameters_are_an_error() {
    let mut random = SplitMix64(1);
    let mut points = |xs: &[f64]| single([0.3, 8.0, 0.35], xs, 4, 0.01, &mut random);
    let error = |samples: &[Sample]| fit(&SINGLE, samples, 10, 1).unwrap_err();
    let few = |values| LawError::TooFewValues { variable: Variable::Parameters, values };
    assert_eq!(error(&[]), few(0));
    // The eight samples have only two distinct values of N.
    assert_eq!(error(&points(&[1e3, 1e4])), few(2));
    assert!(fit(&SINGLE, &points(&[1e3, 1e4, 1e5]), 10, 1).is_ok());

    let samples = both([0.2, 60.0, 0.5, 40.0, 0.6], 1, 0.0, &mut random);
    let one_d: Vec<Sample> = samples.iter().copied().filter(|s| s.x[1] < 3e3).collect();
    let error = fit(&BOTH, &one_d, 10, 1).unwrap_err();
    assert_eq!(error, LawError::TooFewValues { variable: Variable::Examples, values: 2 });
    assert!(error.to_string().contains("at least 3 distinct values of D, found 2"), "{error}");
    let diagonal = [(1e3, 500.0), (4e3, 2e3), (1.6e4, 8e3), (1.6e4, 500.0)];
    let diagonal = diagonal.map(|(n, d)| Sample { x: [n, d], loss: 1.0 + 30.0 / n + 20.0 / d });
    let error = fit(&BOTH, &diagonal, 10, 1).unwrap_err();
    assert_eq!(error, LawError::TooFewPoints { points: 4, parameters: 5 });
    assert_eq!(error.to_string(), "5 parameters require at least 5 distinct points, found 4");
}

#[test]
fn values_without_logarithm_are_an_error() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut samples = single([0.3, 8.0, 0.35], &sizes(5), 1, 0.0, &mut SplitMix64(1));
        samples[2].loss = bad;
        assert!(matches!(fit(&SINGLE, &samples, 10, 1), Err(LawError::Loss(_))), "{bad}");
        samples[2] = Sample { x: [bad, 0.0], loss: 1.0 };
        let error = fit(&SINGLE, &samples, 10, 1).unwrap_err();
        assert!(matches!(error, LawError::Value { variable: Variable::Parameters, .. }), "{error}");
    }
}

#[test]
fn estimates_at_bounds_are_marked() {
    let mut random = SplitMix64(4);
    // The irreducible loss E of the planted law is 0.
    let law = fit(&SINGLE, &single([0.0, 8.0, 0.35], &sizes(6), 3, 0.0, &mut random), 50, 1).unwrap().law;
    assert!(law.floor.value < 1e-4, "{law:?}");
    near(law.terms[0].exponent.value, 0.35, 1e-3);
    // The loss falls faster than any power law with a positive E, so E is at its lower bound of 0.
    let falls = |x: &f64| Sample { x: [*x, 0.0], loss: 8.0 * x.powf(-0.3) - 0.05 };
    let law = fit(&SINGLE, &sizes(6).iter().map(falls).collect::<Vec<_>>(), 50, 1).unwrap().law;
    assert_eq!((law.floor.value, law.floor.status), (0.0, EstimateStatus::AtLowerBound), "{law:?}");
    assert!(law.floor.to_string().starts_with("0, its bound"));
    // The planted exponent 4 exceeds the upper bound.
    let steep = single([0.3, 1e12, 4.0], &sizes(5), 2, 0.0, &mut random);
    let law = fit(&SINGLE, &steep, 50, 1).unwrap().law;
    assert_eq!(law.terms[0].exponent.status, EstimateStatus::AtUpperBound, "{law:?}");
    // The loss rises with x.
    let rises = |x: &f64| Sample { x: [*x, 0.0], loss: 0.5 + 1e-6 * x };
    let law = fit(&SINGLE, &sizes(5).iter().map(rises).collect::<Vec<_>>(), 50, 1).unwrap().law;
    assert_eq!(law.terms[0].exponent.status, EstimateStatus::Undetermined, "{law:?}");
    assert!(law.terms[0].exponent.to_string().starts_with("not determined"));
    // The loss is noise without a trend.
    let flat: Vec<Sample> =
        sizes(4).iter().map(|x| Sample { x: [*x, 0.0], loss: (0.05 * normal(&mut random)).exp() }).collect();
    let law = fit(&SINGLE, &flat, 200, 1).unwrap().law;
    assert!(!law.terms[0].exponent.is_determined(), "{law:?}");
}

#[test]
fn floor_is_at_most_the_lowest_loss() {
    // The losses approach 0.47, except the last one, which is far lower.
    let losses = [1.0, 0.62, 0.52, 0.485, 0.475, 0.47, 0.35];
    let sample = |(x, loss): (f64, f64)| Sample { x: [x, 0.0], loss };
    let samples: Vec<Sample> = sizes(7).into_iter().zip(losses).map(sample).collect();
    let law = fit(&SINGLE, &samples, 100, 1).unwrap().law;
    assert_eq!((law.floor.value, law.floor.status), (0.35, EstimateStatus::AtLowestLoss), "{law:?}");
    assert!(law.floor.interval.unwrap()[1] <= 0.35, "{law:?}");
    assert!(law.floor.to_string().starts_with("≤ 0.350, not determined ("), "{}", law.floor);
    assert!(!law.floor.is_determined());
}

#[test]
fn rounding_errors_of_zero_are_shown_as_zero() {
    let estimate =
        |low: f64| Estimate { value: 0.2, interval: Some([low, 0.483]), status: EstimateStatus::Within };
    assert_eq!(estimate(-3.46e-30).to_string(), "0.200 (0 to 0.483)");
    assert_eq!(estimate(1e-9).to_string(), "0.200 (1.00e-9 to 0.483)");
}

#[test]
fn law_with_as_many_parameters_as_distinct_points_is_saturated() {
    let law = |count, seeds| {
        let samples = single([0.3, 8.0, 0.35], &sizes(count), seeds, 0.01, &mut SplitMix64(1));
        fit(&SINGLE, &samples, 0, 1).unwrap().law
    };
    // Samples with the same x and different seeds count as one point.
    assert!(law(3, 1).is_saturated() && law(3, 4).is_saturated() && !law(4, 1).is_saturated());
}

#[test]
fn interval_over_all_allowed_values_is_undetermined() {
    let estimate = |value: f64, draws: &[f64]| Estimate::new(value, draws, EXPONENTS);
    let wide: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { EXPONENTS[0] } else { EXPONENTS[1] }).collect();
    assert_eq!(estimate(0.3, &wide).status, EstimateStatus::Undetermined);
    assert_eq!(estimate(0.3, &wide).to_string(), "not determined (0.0200 to 2.50)");
    let narrow: Vec<f64> = (0..=100).map(|i| 0.2 + f64::from(i) / 500.0).collect();
    assert!(estimate(0.3, &narrow).is_determined());
    assert_eq!(estimate(0.3, &narrow).to_string(), "0.300 (0.205 to 0.395)");
    let low: Vec<f64> = (0..100).map(|i| EXPONENTS[0] + f64::from(i) / 1e3).collect();
    assert_eq!(estimate(EXPONENTS[0], &low).status, EstimateStatus::AtLowerBound);
}

#[test]
fn law_with_as_many_points_as_parameters_has_no_interval() {
    let samples = single([0.3, 8.0, 0.35], &sizes(3), 1, 0.0, &mut SplitMix64(1));
    let fitted = fit(&SINGLE, &samples, 50, 1).unwrap();
    assert_eq!((fitted.law.floor.interval, fitted.law.resamples), (None, 0));
    assert_eq!(fitted.interval_at([1e6, 0.0], 1), None);
}

#[test]
fn law_is_reproducible_and_independent_of_units() {
    let samples = both([0.2, 60.0, 0.5, 40.0, 0.6], 2, 0.03, &mut SplitMix64(9));
    let fit = |samples: &[Sample], seed| fit(&BOTH, samples, 60, seed).unwrap().law;
    let law = fit(&samples, 5);
    assert_eq!(law, fit(&samples, 5));
    assert_ne!(law.floor.interval, fit(&samples, 6).floor.interval, "another seed gives another interval");
    let millions = samples.iter().map(|s| Sample { x: [1e6 * s.x[0], s.x[1]], loss: s.loss });
    let scaled = fit(&millions.collect::<Vec<_>>(), 5);
    near(scaled.terms[0].exponent.value, law.terms[0].exponent.value, 1e-5);
    near(scaled.floor.value, law.floor.value, 1e-5);
    near(
        scaled.terms[0].scale.value,
        law.terms[0].scale.value * 1e6f64.powf(law.terms[0].exponent.value),
        1e-3,
    );
}

#[test]
fn law_round_trips_through_json() {
    let samples = both([0.2, 60.0, 0.5, 40.0, 0.6], 2, 0.03, &mut SplitMix64(9));
    let law = fit(&BOTH, &samples, 20, 1).unwrap().law;
    let fitted: Result<Law, LawError> = Ok(law);
    let read: Result<Law, LawError> = serde_json::from_str(&serde_json::to_string(&fitted).unwrap()).unwrap();
    assert_eq!(read, fitted);
    let error: Result<Law, LawError> = Err(LawError::Loss(f64::INFINITY));
    let read: Result<Law, LawError> = serde_json::from_str(&serde_json::to_string(&error).unwrap()).unwrap();
    assert_eq!(read, error);
}
