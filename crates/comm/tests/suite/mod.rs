//! Test suite of the [`Collective`] interface. Runs on threads, on nodes of threads and on processes.

use std::ops::Range;

use wgrad_comm::Collective;

/// Runs the suite on one rank; all ranks must run the suite concurrently. Panics at the first failed check.
pub fn run(collective: &mut dyn Collective) {
    check_all_reduce(collective);
    check_reduce_scatter_and_all_gather(collective);
    check_all_gather_copies_bits(collective);
    check_broadcast(collective);
    check_all_gather_bytes(collective);
    check_invalid_arguments(collective);
    collective.barrier().unwrap();
}

/// Returns pseudorandom values of very different magnitudes, so that the order of summation changes the bits of a sum.
fn random_values(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    (0..len).map(|_| (next() as f32 / 8_388_608.0 - 1.0) * 2f32.powi((next() % 20) as i32 - 10)).collect()
}

/// Returns the elementwise sum of the [`random_values`] of all ranks, computed in f64.
fn expected_sum(seed: u32, ranks: usize, len: usize) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    for rank in 0..ranks {
        let values = random_values(seed + rank as u32, len);
        sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += f64::from(x));
    }
    sum
}

/// Compares with an absolute tolerance: the rounding error of a sum is proportional to its terms, not to the sum.
fn assert_sum(found: &[f32], expected: &[f64], operation: &str) {
    assert_eq!(found.len(), expected.len(), "{operation}");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - b).abs() <= 5e-4, "{operation}: element {i} is {a}, expected {b}");
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect()
}

fn assert_equal_on_all_ranks(collective: &mut dyn Collective, values: &[f32], operation: &str) {
    let all = collective.all_gather_bytes(&to_bytes(values)).unwrap();
    assert!(all.iter().all(|other| *other == all[0]), "{operation}: the bits differ between ranks");
}

fn check_all_reduce(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for len in [0, 1, size, 1000, 70_001] {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let mut values = random_values(7 + rank as u32, len);
            collective.all_reduce(&mut values).unwrap();
            assert_sum(&values, &expected_sum(7, size, len), &format!("all_reduce of {len} elements"));
            assert_equal_on_all_ranks(collective, &values, "all_reduce");
            runs.push(to_bytes(&values));
        }
        assert_eq!(runs[0], runs[1], "all_reduce of {len} elements differs between two runs");
    }
}

/// Splits `len` elements into `size` uneven shards, one per rank. If there are several shards, the first one is empty.
fn uneven_shards(len: usize, size: usize) -> Vec<Range<usize>> {
    let end = |rank: usize| if rank == 0 { 0 } else { len * rank * rank / (size * size) };
    (0..size).map(|rank| end(rank)..if rank + 1 == size { len } else { end(rank + 1) }).collect()
}

fn check_reduce_scatter_and_all_gather(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for len in [0, 3, 1000] {
        let shards = uneven_shards(len, size);
        let mut values = random_values(50 + rank as u32, len);
        collective.reduce_scatter(&mut values, &shards).unwrap();
        let shard = shards[rank].clone();
        assert_sum(&values[shard.clone()], &expected_sum(50, size, len)[shard.clone()], "reduce_scatter");
        let mut all = vec![f32::NAN; len];
        all[shard.clone()].copy_from_slice(&values[shard]);
        collective.all_gather(&mut all, &shards).unwrap();
        assert_sum(&all, &expected_sum(50, size, len), "reduce_scatter and all_gather");
        assert_equal_on_all_ranks(collective, &all, "reduce_scatter and all_gather");
    }
}

fn check_all_gather_copies_bits(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    let shards: Vec<Range<usize>> = (0..size).map(|i| i * (i + 1) / 2..(i + 1) * (i + 2) / 2).collect();
    let mut values = vec![f32::NAN; size * (size + 1) / 2];
    // A gather that is implemented as a sum with zeros would lose the sign of -0.0.
    values[shards[rank].clone()].fill(if rank == 0 { -0.0 } else { rank as f32 });
    collective.all_gather(&mut values, &shards).unwrap();
    for (i, shard) in shards.iter().enumerate() {
        let expected = if i == 0 { -0.0f32 } else { i as f32 };
        assert!(
            values[shard.clone()].iter().all(|x| x.to_bits() == expected.to_bits()),
            "all_gather: {values:?}"
        );
    }
}

fn check_broadcast(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for root in 0..size {
        let mut values = random_values(if rank == root { 99 } else { 1 }, 777);
        collective.broadcast(&mut values, root).unwrap();
        assert_eq!(values, random_values(99, 777), "broadcast from {root}");
    }
}

fn check_all_gather_bytes(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    let message = |rank: usize| vec![rank as u8; rank * 3];
    let all = collective.all_gather_bytes(&message(rank)).unwrap();
    assert_eq!(all, (0..size).map(message).collect::<Vec<_>>());
    assert_eq!(collective.all_gather_bytes(&[]).unwrap(), vec![Vec::<u8>::new(); size]);
}

/// Checks that invalid arguments return an error before any communication, so that the ranks stay synchronized.
fn check_invalid_arguments(collective: &mut dyn Collective) {
    let size = collective.size();
    let mut values = [0.0; 4];
    assert!(collective.broadcast(&mut values, size).is_err());
    let mut gap: Vec<Range<usize>> = (0..size).map(|_| 0..0).collect();
    gap[size - 1] = 1..4;
    assert!(collective.all_gather(&mut values, &gap).is_err());
    assert!(collective.reduce_scatter(&mut values, &gap).is_err());
    assert!(collective.all_gather(&mut values, &[]).is_err());
}
