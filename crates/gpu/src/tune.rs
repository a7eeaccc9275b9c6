//! Which variant of the matrix product is fastest on a device, found by running all of them.
//!
//! [`Tuner`] times one product; [`Tuned`] holds winners, for [`Options::tuned`]. Where it is kept between processes is not
//! this crate's affair.

use std::collections::BTreeMap;
use std::time::Instant;

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Layout, States};
use wgrad_program::{
    Access, Buffer, Cost, Data, Device, DeviceError, Dispatch, Gemm, HostData, Instr, Kernel, Loop, Operand,
    Program, Session, Store, TensorRef,
};

use crate::codegen::{GemmVariant, chosen_by_shape, product_key};
use crate::device::{GpuDevice, Options};

/// The winners of products, by [`product_key`](crate::product_key).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuned {
    winners: BTreeMap<u64, GemmVariant>,
}

impl Tuned {
    /// The variant of a product; `None` where it was not timed.
    pub fn get(&self, key: u64) -> Option<GemmVariant> {
        self.winners.get(&key).copied()
    }

    /// Says which variant a product gets.
    pub fn insert(&mut self, key: u64, variant: GemmVariant) {
        self.winners.insert(key, variant);
    }

    /// Key and variant of every product, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, GemmVariant)> {
        self.winners.iter().map(|(&key, &variant)| (key, variant))
    }

    /// Number of products.
    pub fn len(&self) -> usize {
        self.winners.len()
    }

    /// True when no product was timed.
    pub fn is_empty(&self) -> bool {
        self.winners.is_empty()
    }
}

/// How one variant did.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The variant.
    pub variant: GemmVariant,
    /// Seconds of a run, or why it is out of the race: it was refused, or its result is wrong.
    pub seconds: Result<f64, String>,
}

/// What timing a product showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Of the product.
    pub key: u64,
    /// The variant that its shape alone would get.
    pub by_shape: GemmVariant,
    /// All that fit the device.
    pub timings: Vec<Timing>,
    /// The fastest with a right result, `by_shape` unless another is clearly faster; `None` where nothing ran.
    pub winner: Option<GemmVariant>,
}

impl Outcome {
    /// Seconds of a variant, if it ran and was right.
    pub fn seconds(&self, variant: GemmVariant) -> Option<f64> {
        let timing = self.timings.iter().find(|timing| timing.variant == variant)?;
        timing.seconds.as_ref().ok().copied()
    }
}

/// An adapter, opened once for each variant that fits it.
#[derive(Debug)]
pub struct Tuner {
    plain: GpuDevice,
    devices: Vec<(GemmVariant, GpuDevice)>,
}

impl Tuner {
    /// Opens adapter number `index`.
    ///
    /// # Errors
    /// As for [`GpuDevice::open`].
    pub fn open(index: usize) -> Result<Tuner, DeviceError> {
        let plain = GpuDevice::open(index)?;
        let fitting = GemmVariant::ALL.into_iter().filter(|variant| variant.fits(plain.target()));
        let devices: Result<Vec<_>, DeviceError> = fitting
            .map(|variant| {
                let options = Options { gemm: Some(variant), ..Options::default() };
                Ok((variant, GpuDevice::with_options(index, options)?))
            })
            .collect();
        Ok(Tuner { devices: devices?, plain })
    }

    /// What is tuned.
    pub fn device(&self) -> &GpuDevice {
        &self.plain
    }

    /// Runs a product with every variant, compares each result with that of the naive one, and times those that agree.
    /// `None` where the dispatch is no product.
    ///
    /// # Errors
    /// The naive variant itself does not run.
    pub fn tune(&self, dispatch: &Dispatch) -> Result<Option<Outcome>, DeviceError> {
        let (Some(key), Some(by_shape)) =
            (product_key(dispatch), chosen_by_shape(dispatch, self.plain.target()))
        else {
            return Ok(None);
        };
        let (program, inputs) = alone(dispatch);
        let naive = self.devices.iter().find(|(variant, _)| *variant == GemmVariant::Naive);
        let (_, naive) =
            naive.ok_or_else(|| DeviceError::Usage("the naive variant fits any device".into()))?;
        let reference = Trial::new(naive, &program, &inputs)?.result(dispatch)?;
        let mut best = f64::INFINITY;
        let timings: Vec<Timing> = (self.devices.iter())
            .map(|(variant, device)| {
                let seconds = race(device, dispatch, &program, &inputs, &reference, best);
                best = seconds.as_ref().map_or(best, |&seconds| best.min(seconds));
                Timing { variant: *variant, seconds }
            })
            .collect();
        let winner = winner(&timings, by_shape);
        Ok(Some(Outcome { key, by_shape, timings, winner }))
    }
}

/// A plain product of an `m`×`k` and a `k`×`n` matrix, in f32 and as they lie in memory.
pub fn plain_product(m: usize, n: usize, k: usize) -> Dispatch {
    let operand = |elements: usize, access: Access| {
        let tensor = TensorRef { buffer: Buffer::Slab(0), offset: 0, elements, dtype: DType::F32 };
        Operand { tensor, access }
    };
    let store = Store { value: 0, operand: 2, layout: Layout::contiguous(&[m, n]) };
    let epilogue =
        Loop { outer: vec![m, n], inner: Vec::new(), body: vec![Instr::Product], stores: vec![store] };
    let gemm = Gemm {
        batch: Vec::new(),
        m: vec![m],
        n: vec![n],
        k: vec![k],
        a: 0,
        a_layout: Layout::contiguous(&[m, k]),
        b: 1,
        b_layout: Layout::contiguous(&[k, n]),
        epilogue,
    };
    Dispatch {
        name: format!("{m}×{n}×{k}"),
        kernel: Kernel::Gemm(gemm),
        operands: vec![
            operand(m * k, Access::Read),
            operand(k * n, Access::Read),
            operand(m * n, Access::Write),
        ],
        cost: Cost::default(),
    }
}

/// The dispatch as a program of its own, each operand a group of the state, and what the groups hold before a run.
fn alone(dispatch: &Dispatch) -> (Program, Vec<HostData>) {
    let (mut states, mut inputs, mut operands) = (States::new(), Vec::new(), Vec::new());
    for (i, operand) in dispatch.operands.iter().enumerate() {
        let TensorRef { elements, dtype, .. } = operand.tensor;
        let group = states.group(format!("operand{i}"), dtype);
        states.entry(group, "all", [elements]);
        let len = states.get(group).len();
        let mut random = Stream::new(i as u64, 0);
        // Words are indices: small ones exist everywhere.
        inputs.push(match dtype {
            DType::U32 => {
                HostData::U32((0..len).map(|at| random.next_u32() % 2 * u32::from(at < elements)).collect())
            }
            DType::F32 | DType::F16 => {
                let number = |at: usize| if at < elements { random.uniform() * 2.0 - 1.0 } else { 0.0 };
                HostData::F32((0..len).map(number).collect())
            }
        });
        let tensor = TensorRef { buffer: Buffer::State(group), offset: 0, elements, dtype };
        operands.push(Operand { tensor, access: operand.access });
    }
    let dispatches = vec![Dispatch { operands, ..dispatch.clone() }];
    (Program { states, dispatches, ..Program::default() }, inputs)
}

/// A program of one dispatch, ready to run.
struct Trial {
    session: Box<dyn Session>,
    id: wgrad_program::ProgramId,
}

impl Trial {
    fn new(device: &GpuDevice, program: &Program, inputs: &[HostData]) -> Result<Trial, DeviceError> {
        let mut session = device.session(&program.states)?;
        for (i, input) in inputs.iter().enumerate() {
            session.write_group(wgrad_graph::GroupId(i), input.as_data())?;
        }
        let id = session.load(program)?;
        Ok(Trial { session, id })
    }

    /// Seconds of `runs` runs, by the clock.
    fn run(&mut self, runs: u32) -> Result<f64, DeviceError> {
        let (start, no_inputs): (Instant, &[Data<'_>]) = (Instant::now(), &[]);
        (0..runs).try_for_each(|_| self.session.run(self.id, no_inputs))?;
        self.session.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// What the first run writes.
    fn result(&mut self, dispatch: &Dispatch) -> Result<Vec<HostData>, DeviceError> {
        self.run(1)?;
        let written = (0..).zip(&dispatch.operands).filter(|(_, operand)| operand.access != Access::Read);
        written.map(|(i, _)| self.session.read_group(wgrad_graph::GroupId(i))).collect()
    }

    /// Seconds of a run: the best of five goes of some milliseconds; a single run where that is far behind `best`.
    fn seconds(&mut self, best: f64) -> Result<f64, DeviceError> {
        const GO: f64 = 20e-3;
        let first = self.run(1)?;
        if first > 4.0 * best && first > GO {
            return Ok(first);
        }
        let runs = (GO / first).ceil().clamp(1.0, 100.0) as u32;
        let mut least = first;
        for _ in 0..5 {
            least = least.min(self.run(runs)? / f64::from(runs));
        }
        Ok(least)
    }
}

/// Seconds of a run, or why there are none.
fn race(
    device: &GpuDevice,
    dispatch: &Dispatch,
    program: &Program,
    inputs: &[HostData],
    reference: &[HostData],
    best: f64,
) -> Result<f64, String> {
    let said = |error: DeviceError| error.to_string();
    let mut trial = Trial::new(device, program, inputs).map_err(said)?;
    agree(&trial.result(dispatch).map_err(said)?, reference)?;
    trial.seconds(best).map_err(said)
}

/// Whether results are those of the reference within the rounding of another order of sums, of the largest magnitude.
fn agree(found: &[HostData], reference: &[HostData]) -> Result<(), String> {
    const TOLERANCE: f32 = 1e-4;
    for (found, wanted) in found.iter().zip(reference) {
        let (found, wanted) = (found.to_f32(), wanted.to_f32());
        let scale = wanted.iter().filter(|x| x.is_finite()).fold(1f32, |most, x| most.max(x.abs()));
        let differs = |(x, y): (&f32, &f32)| {
            let same = x == y || (x.is_nan() && y.is_nan());
            let near = (x - y).abs() <= TOLERANCE * scale;
            // What is no number, or not finite, is near nothing.
            !(same || near)
        };
        if let Some(at) = found.iter().zip(&wanted).position(differs) {
            return Err(format!("element {at} is {} and should be {}", found[at], wanted[at]));
        }
    }
    Ok(())
}

/// The fastest that is right. `by_shape` stays unless another is faster by more than noise.
fn winner(timings: &[Timing], by_shape: GemmVariant) -> Option<GemmVariant> {
    const NOISE: f64 = 0.95;
    let right = || timings.iter().filter_map(|t| Some((t.variant, *t.seconds.as_ref().ok()?)));
    let (fastest, least) = right().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let usual = right().find(|(variant, _)| *variant == by_shape);
    match usual {
        Some((variant, seconds)) if least > NOISE * seconds => Some(variant),
        _ => Some(fastest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: GemmVariant = GemmVariant::Direct { rows: 8, columns: 8 };
    const SMALL: GemmVariant = GemmVariant::Direct { rows: 4, columns: 4 };

    /// The planted fault: a variant that is fastest because it leaves work out.
    #[test]
    fn a_wrong_variant_never_wins() {
        let right = [HostData::F32(vec![1.0, -2.0, f32::NAN])];
        let timing = |variant, result: &[f32], seconds: f64| {
            let seconds = agree(&[HostData::F32(result.to_vec())], &right).map(|()| seconds);
            Timing { variant, seconds }
        };
        let naive = timing(GemmVariant::Naive, &[1.0, -2.0, f32::NAN], 3.0);
        for wrong in [[1.0, -2.0, 0.0], [1.0, -1.9, f32::NAN], [f32::NAN, -2.0, f32::NAN]] {
            let timings =
                [naive.clone(), timing(DIRECT, &wrong, 0.1), timing(SMALL, &[1.00001, -2.0, f32::NAN], 2.0)];
            assert!(timings[1].seconds.is_err(), "{wrong:?}");
            assert_eq!(winner(&timings, DIRECT), Some(SMALL), "{wrong:?}");
        }
    }

    #[test]
    fn noise_does_not_change_the_choice() {
        let timing = |variant, seconds| Timing { variant, seconds: Ok(seconds) };
        let close = [timing(DIRECT, 1.0), timing(SMALL, 0.97)];
        assert_eq!(winner(&close, DIRECT), Some(DIRECT));
        let clear = [timing(DIRECT, 1.0), timing(SMALL, 0.9)];
        assert_eq!(winner(&clear, DIRECT), Some(SMALL));
        assert_eq!(winner(&[], DIRECT), None);
    }
}
