//! Random splits with a seed: stratified by class for classification, uniform for regression.

use wgrad_graph::philox::Stream;

use crate::dataset::{Dataset, Targets};
use crate::error::DataError;

/// Purpose of a draw. Draws with the same seed for different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Split off a test set.
    Test = 0x7465_7374,
    /// Split off a validation set.
    Validation = 0x7661_6c69,
    /// Limit the size of the training set.
    Limit = 0x6c69_6d74,
}

/// Splits off `fraction` of the examples, rounded up. Returns the remaining and the split-off examples, each in the
/// original order.
///
/// For classes the split is stratified: each class has the same proportion in both parts, to within one example.
///
/// # Errors
/// Returns [`DataError::Split`] if the fraction is not between 0 and 1 or one part would be empty.
pub fn split_off(
    dataset: &Dataset,
    fraction: f64,
    seed: u64,
    purpose: Purpose,
) -> Result<(Dataset, Dataset), DataError> {
    let len = dataset.len();
    // Without the term 1e-9, the product 0.07 × 100 = 7.000000000000001 would be rounded up to 8.
    let count = (fraction * len as f64 - 1e-9).ceil();
    if !(fraction > 0.0 && fraction < 1.0 && count >= 1.0 && count < len as f64) {
        return Err(DataError::Split { dataset: dataset.name().to_owned(), fraction, len });
    }
    let (rest, drawn) = draw(dataset, count as usize, seed, purpose);
    Ok((dataset.subset(&rest)?, dataset.subset(&drawn)?))
}

/// Draws `count` examples, or all if there are fewer. Returns the indices of the remaining and of the drawn examples,
/// both in ascending order.
pub fn draw(dataset: &Dataset, count: usize, seed: u64, purpose: Purpose) -> (Vec<u32>, Vec<u32>) {
    let all = 0..dataset.len() as u32;
    let groups = match dataset.targets() {
        Targets::Values { .. } => vec![all.collect()],
        Targets::Classes { labels, names } => {
            let mut groups = vec![Vec::new(); names.len()];
            for index in all {
                groups[labels[index as usize] as usize].push(index);
            }
            groups
        }
    };
    let quotas = quotas(&groups, count.min(dataset.len()), dataset.len());
    let (mut rest, mut drawn) = (Vec::new(), Vec::new());
    for (class, (mut group, quota)) in groups.into_iter().zip(quotas).enumerate() {
        Stream::new(seed, ((purpose as u64) << 32) | class as u64).shuffle(&mut group);
        rest.extend_from_slice(&group[quota..]);
        drawn.extend_from_slice(&group[..quota]);
    }
    rest.sort_unstable();
    drawn.sort_unstable();
    (rest, drawn)
}

/// Divides `count` among the groups in proportion to their sizes, using the largest remainder method.
fn quotas(groups: &[Vec<u32>], count: usize, len: usize) -> Vec<usize> {
    let product = |group: &Vec<u32>| group.len() as u64 * count as u64;
    let mut quotas: Vec<usize> = groups.iter().map(|group| (product(group) / len as u64) as usize).collect();
    let missing = count - quotas.iter().sum::<usize>();
    let mut by_remainder: Vec<usize> = (0..groups.len()).collect();
    by_remainder.sort_by_key(|&class| (std::cmp::Reverse(product(&groups[class]) % len as u64), class));
    for &class in &by_remainder[..missing] {
        quotas[class] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(sizes: &[usize]) -> Dataset {
        let labels: Vec<u32> =
            sizes.iter().enumerate().flat_map(|(class, &n)| vec![class as u32; n]).collect();
        let features = (0..labels.len()).map(|i| i as f32).collect();
        let names = (0..sizes.len()).map(|i| i.to_string()).collect();
        Dataset::new("set", features, vec![1], Targets::Classes { labels, names }).unwrap()
    }

    fn per_class(dataset: &Dataset) -> Vec<usize> {
        let Targets::Classes { labels, names } = dataset.targets() else { panic!("no classes") };
        (0..names.len())
            .map(|class| labels.iter().filter(|&&label| label as usize == class).count())
            .collect()
    }

    #[test]
    fn split_is_stratified_and_keeps_every_example() {
        let whole = dataset(&[50, 30, 21, 1]);
        let (train, test) = split_off(&whole, 0.2, 0, Purpose::Test).unwrap();
        // 21 of 102 examples: quotas of 10.29, 6.18, 4.32 and 0.21. The last example goes to the largest remainder.
        assert_eq!(per_class(&test), [10, 6, 5, 0]);
        let mut all: Vec<f32> = [train.to_f32(), test.to_f32()].concat();
        assert!(train.to_f32().is_sorted() && test.to_f32().is_sorted());
        all.sort_by(f32::total_cmp);
        assert_eq!(all, whole.to_f32());
    }

    #[test]
    fn draws_depend_on_seed_and_purpose() {
        let whole = dataset(&[50, 30]);
        let test = |seed, purpose| split_off(&whole, 0.2, seed, purpose).unwrap().1;
        assert_eq!(test(3, Purpose::Test), test(3, Purpose::Test));
        assert_ne!(test(3, Purpose::Test), test(4, Purpose::Test));
        assert_ne!(test(3, Purpose::Test), test(3, Purpose::Validation));
    }

    #[test]
    fn count_is_rounded_up_without_rounding_errors() {
        let count = |n, fraction| split_off(&dataset(&[n]), fraction, 0, Purpose::Test).unwrap().1.len();
        assert_eq!(count(1797, 0.2), 360);
        assert_eq!(count(100, 0.07), 7);
        assert_eq!(count(1000, 0.2), 200);
    }

    #[test]
    fn empty_parts_are_refused() {
        for fraction in [0.0, 1.0, -0.1, 1.5, f64::NAN, 0.95] {
            let error = split_off(&dataset(&[10]), fraction, 0, Purpose::Test).unwrap_err();
            assert!(matches!(error, DataError::Split { len: 10, .. }), "{fraction}: {error}");
        }
    }

    #[test]
    fn regression_examples_are_drawn_from_all() {
        let targets = Targets::Values { values: vec![0.5; 40], width: 1 };
        let whole = Dataset::new("set", (0..40).map(|i| i as f32).collect(), vec![1], targets).unwrap();
        let (rest, drawn) = draw(&whole, 10, 7, Purpose::Limit);
        assert_eq!((rest.len(), drawn.len()), (30, 10));
        assert_ne!(drawn, (0..10).collect::<Vec<_>>());
        assert_eq!(draw(&whole, 100, 7, Purpose::Limit).1.len(), 40);
    }
}
