//! What every collective promises. One suite, run by threads, by nested teams and by processes.

use std::ops::Range;

use wgrad_comm::Collective;

/// Runs the whole suite on one rank; all ranks run it at once. A broken promise is a panic that says which.
pub fn suite(collective: &mut dyn Collective) {
    sums(collective);
    shares(collective);
    gathering(collective);
    broadcasts(collective);
    exchanges(collective);
    refusals(collective);
    collective.barrier().unwrap();
}

/// Numbers of very different size, so that the order of a sum shows in its bits.
fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    (0..len).map(|_| (next() as f32 / 8_388_608.0 - 1.0) * 2f32.powi((next() % 20) as i32 - 10)).collect()
}

fn expected(seed: u32, ranks: usize, len: usize) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    for rank in 0..ranks {
        let own = numbers(seed + rank as u32, len);
        sum.iter_mut().zip(own).for_each(|(sum, x)| *sum += f64::from(x));
    }
    sum
}

/// As far as f32 can be off: by the size of what was added, not of the sum.
fn assert_sum(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - b).abs() <= 5e-4, "{what}: element {i} is {a}, not {b}");
    }
}

fn bits(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect()
}

fn assert_same_everywhere(collective: &mut dyn Collective, values: &[f32], what: &str) {
    let all = collective.exchange(&bits(values)).unwrap();
    assert!(all.iter().all(|other| *other == all[0]), "{what}: ranks have other bits");
}

fn sums(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for len in [0, 1, size, 1000, 70_001] {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let mut values = numbers(7 + rank as u32, len);
            collective.all_reduce(&mut values).unwrap();
            assert_sum(&values, &expected(7, size, len), &format!("all_reduce of {len}"));
            assert_same_everywhere(collective, &values, "all_reduce");
            runs.push(bits(&values));
        }
        assert_eq!(runs[0], runs[1], "all_reduce of {len} again");
    }
}

/// Uneven shares of `len` elements, the first one empty where there are several.
fn uneven(len: usize, size: usize) -> Vec<Range<usize>> {
    let end = |rank: usize| if rank == 0 { 0 } else { len * rank * rank / (size * size) };
    (0..size).map(|rank| end(rank)..if rank + 1 == size { len } else { end(rank + 1) }).collect()
}

fn shares(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for len in [0, 3, 1000] {
        let shares = uneven(len, size);
        let mut values = numbers(50 + rank as u32, len);
        collective.reduce_scatter(&mut values, &shares).unwrap();
        let own = shares[rank].clone();
        assert_sum(&values[own.clone()], &expected(50, size, len)[own.clone()], "reduce_scatter");
        let mut all = vec![f32::NAN; len];
        all[own.clone()].copy_from_slice(&values[own]);
        collective.all_gather(&mut all, &shares).unwrap();
        assert_sum(&all, &expected(50, size, len), "reduce_scatter and all_gather");
        assert_same_everywhere(collective, &all, "reduce_scatter and all_gather");
    }
}

fn gathering(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    let shares: Vec<Range<usize>> = (0..size).map(|i| i * (i + 1) / 2..(i + 1) * (i + 2) / 2).collect();
    let mut values = vec![f32::NAN; size * (size + 1) / 2];
    // Bits, not numbers: a gather must not compute.
    values[shares[rank].clone()].fill(if rank == 0 { -0.0 } else { rank as f32 });
    collective.all_gather(&mut values, &shares).unwrap();
    for (i, share) in shares.iter().enumerate() {
        let wanted = if i == 0 { -0.0f32 } else { i as f32 };
        assert!(
            values[share.clone()].iter().all(|x| x.to_bits() == wanted.to_bits()),
            "all_gather: {values:?}"
        );
    }
}

fn broadcasts(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    for root in 0..size {
        let mut values = numbers(if rank == root { 99 } else { 1 }, 777);
        collective.broadcast(&mut values, root).unwrap();
        assert_eq!(values, numbers(99, 777), "broadcast from {root}");
    }
}

fn exchanges(collective: &mut dyn Collective) {
    let (rank, size) = (collective.rank(), collective.size());
    let message = |rank: usize| vec![rank as u8; rank * 3];
    let all = collective.exchange(&message(rank)).unwrap();
    assert_eq!(all, (0..size).map(message).collect::<Vec<_>>());
    assert_eq!(collective.exchange(&[]).unwrap(), vec![Vec::<u8>::new(); size]);
}

/// What cannot be is refused before anybody is asked for anything.
fn refusals(collective: &mut dyn Collective) {
    let size = collective.size();
    let mut values = [0.0; 4];
    assert!(collective.broadcast(&mut values, size).is_err());
    let mut gap: Vec<Range<usize>> = (0..size).map(|_| 0..0).collect();
    gap[size - 1] = 1..4;
    assert!(collective.all_gather(&mut values, &gap).is_err());
    assert!(collective.reduce_scatter(&mut values, &gap).is_err());
    assert!(collective.all_gather(&mut values, &[]).is_err());
}
