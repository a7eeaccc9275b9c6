//! Autotuning: finds the fastest GEMM variant on a device by running all variants.
//!
//! [`Tuner`] times one GEMM. The winning variants are stored in a [`TuningTable`](crate::TuningTable) for
//! [`Options::tuned`]. This crate does not store the table between processes.

use std::time::Instant;

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Layout, States};
use wgrad_program::{
    Access, Buffer, Cost, Data, Device, DeviceError, Dispatch, Gemm, HostData, Instr, Kernel, Loop, Operand,
    Program, Session, Store, TensorRef,
};
use wgrad_stdx::never;

use crate::codegen::{GemmVariant, gemm_by_shape, gemm_key};
use crate::device::GpuDevice;
use crate::options::Options;

/// Timing of one variant.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantTiming {
    /// Variant that was timed.
    pub variant: GemmVariant,
    /// Seconds per run, or the reason why the variant is excluded: the variant does not run, or its result is wrong.
    pub seconds: Result<f64, String>,
}

/// Result of tuning one GEMM.
#[derive(Debug, Clone, PartialEq)]
pub struct TuningResult {
    /// Key of the GEMM in the tuning table.
    pub key: u64,
    /// Variant that is chosen by shape alone.
    pub by_shape: GemmVariant,
    /// Timings of all variants that fit the device.
    pub timings: Vec<VariantTiming>,
    /// Fastest variant with a correct result. `by_shape` is kept unless another variant is clearly faster. `None` if no
    /// variant ran.
    pub winner: Option<GemmVariant>,
}

impl TuningResult {
    /// Returns the seconds per run of a variant, or `None` if it was excluded.
    pub fn seconds(&self, variant: GemmVariant) -> Option<f64> {
        let timing = self.timings.iter().find(|timing| timing.variant == variant)?;
        timing.seconds.as_ref().ok().copied()
    }
}

/// Tuner of GEMMs on one adapter, which is opened once for each variant that the adapter can run.
#[derive(Debug)]
pub struct Tuner {
    default_device: GpuDevice,
    devices: Vec<(GemmVariant, GpuDevice)>,
}

impl Tuner {
    /// Opens the adapter at `index` of [`adapters`](crate::adapters).
    ///
    /// # Errors
    /// Returns the errors of [`GpuDevice::open`].
    pub fn open(index: usize) -> Result<Tuner, DeviceError> {
        let default_device = GpuDevice::open(index)?;
        let fitting = GemmVariant::ALL.into_iter().filter(|variant| variant.fits(default_device.target()));
        let devices: Result<Vec<_>, DeviceError> = fitting
            .map(|variant| {
                let options = Options { gemm: Some(variant), ..Options::default() };
                Ok((variant, GpuDevice::with_options(index, options)?))
            })
            .collect();
        Ok(Tuner { devices: devices?, default_device })
    }

    /// Returns the device that is tuned, with default options.
    pub fn device(&self) -> &GpuDevice {
        &self.default_device
    }

    /// Runs a GEMM with every variant, compares each result with the naive variant, and times the variants that agree.
    ///
    /// Returns `None` if the dispatch is not a GEMM.
    ///
    /// # Errors
    /// Returns an error if the naive variant does not run.
    pub fn tune(&self, dispatch: &Dispatch) -> Result<Option<TuningResult>, DeviceError> {
        let (Some(key), Some(by_shape)) =
            (gemm_key(dispatch), gemm_by_shape(dispatch, self.default_device.target()))
        else {
            return Ok(None);
        };
        let (program, inputs) = single_dispatch_program(dispatch);
        let naive = self.devices.iter().find(|(variant, _)| *variant == GemmVariant::Naive);
        let (_, naive) = naive.ok_or_else(|| never!("the naive variant does not fit the device"))?;
        let reference = SingleDispatch::new(naive, &program, &inputs)?.result(dispatch)?;
        let mut best = f64::INFINITY;
        let timings: Vec<VariantTiming> = (self.devices.iter())
            .map(|(variant, device)| {
                let seconds = time_variant(device, dispatch, &program, &inputs, &reference, best);
                best = seconds.as_ref().map_or(best, |&seconds| best.min(seconds));
                VariantTiming { variant: *variant, seconds }
            })
            .collect();
        let winner = fastest_correct(&timings, by_shape);
        Ok(Some(TuningResult { key, by_shape, timings, winner }))
    }
}

/// Creates the dispatch of an f32 GEMM of contiguous matrices: `[m, k]` times `[k, n]`.
pub fn plain_gemm(m: usize, n: usize, k: usize) -> Dispatch {
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

/// Wraps a dispatch in its own program, with a group of the state for each operand.
///
/// Also returns the initial contents of the groups.
fn single_dispatch_program(dispatch: &Dispatch) -> (Program, Vec<HostData>) {
    let (mut states, mut inputs, mut operands) = (States::new(), Vec::new(), Vec::new());
    for (i, operand) in dispatch.operands.iter().enumerate() {
        let TensorRef { elements, dtype, .. } = operand.tensor;
        let group = states.group(format!("operand{i}"), dtype);
        states.entry(group, "all", [elements]);
        let len = states.get(group).len();
        let mut random = Stream::new(i as u64, 0);
        // u32 operands are indices. Small indices are valid for every tensor.
        inputs.push(match dtype {
            DType::U32 => {
                HostData::U32((0..len).map(|at| random.next_u32() % 2 * u32::from(at < elements)).collect())
            }
            DType::F32 | DType::F16 => {
                let value = |at: usize| if at < elements { random.uniform() * 2.0 - 1.0 } else { 0.0 };
                HostData::F32((0..len).map(value).collect())
            }
        });
        let tensor = TensorRef { buffer: Buffer::State(group), offset: 0, elements, dtype };
        operands.push(Operand { tensor, access: operand.access });
    }
    let dispatches = vec![Dispatch { operands, ..dispatch.clone() }];
    (Program { states, dispatches, ..Program::default() }, inputs)
}

/// A session with a program of one dispatch.
struct SingleDispatch {
    session: Box<dyn Session>,
    id: wgrad_program::ProgramId,
}

impl SingleDispatch {
    fn new(
        device: &GpuDevice,
        program: &Program,
        inputs: &[HostData],
    ) -> Result<SingleDispatch, DeviceError> {
        let mut session = device.session(&program.states)?;
        for (i, input) in inputs.iter().enumerate() {
            session.write_group(wgrad_graph::GroupId(i), input.as_data())?;
        }
        let id = session.load(program)?;
        Ok(SingleDispatch { session, id })
    }

    /// Returns the wall-clock seconds of `runs` runs.
    fn run(&mut self, runs: u32) -> Result<f64, DeviceError> {
        let (start, no_inputs): (Instant, &[Data<'_>]) = (Instant::now(), &[]);
        (0..runs).try_for_each(|_| self.session.run(self.id, no_inputs))?;
        self.session.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Runs the program once and returns the operands that it writes.
    fn result(&mut self, dispatch: &Dispatch) -> Result<Vec<HostData>, DeviceError> {
        self.run(1)?;
        let written = (0..).zip(&dispatch.operands).filter(|(_, operand)| operand.access != Access::Read);
        written.map(|(i, _)| self.session.read_group(wgrad_graph::GroupId(i))).collect()
    }

    /// Returns the seconds per run: the best of five measurements of about 20 ms.
    ///
    /// Returns the time of a single run if that is already far above `best`, the time of the fastest variant so far.
    fn seconds(&mut self, best: f64) -> Result<f64, DeviceError> {
        const SECONDS: f64 = 20e-3;
        let first = self.run(1)?;
        if first > 4.0 * best && first > SECONDS {
            return Ok(first);
        }
        let runs = (SECONDS / first).ceil().clamp(1.0, 100.0) as u32;
        let mut least = first;
        for _ in 0..5 {
            least = least.min(self.run(runs)? / f64::from(runs));
        }
        Ok(least)
    }
}

/// Returns the seconds per run of a variant, or the reason why the variant is excluded.
fn time_variant(
    device: &GpuDevice,
    dispatch: &Dispatch,
    program: &Program,
    inputs: &[HostData],
    reference: &[HostData],
    best: f64,
) -> Result<f64, String> {
    let reason = |error: DeviceError| error.to_string();
    let mut trial = SingleDispatch::new(device, program, inputs).map_err(reason)?;
    check_agreement(&trial.result(dispatch).map_err(reason)?, reference)?;
    trial.seconds(best).map_err(reason)
}

/// Checks that results agree with the reference. The results may differ by the rounding error of a different order of
/// summation.
///
/// The tolerance is relative to the largest magnitude of the reference.
fn check_agreement(found: &[HostData], reference: &[HostData]) -> Result<(), String> {
    const TOLERANCE: f32 = 1e-4;
    for (found, expected) in found.iter().zip(reference) {
        let (found, expected) = (found.to_f32(), expected.to_f32());
        let scale = expected.iter().filter(|x| x.is_finite()).fold(1f32, |most, x| most.max(x.abs()));
        let differs = |(x, y): (&f32, &f32)| {
            let same = x == y || (x.is_nan() && y.is_nan());
            let near = (x - y).abs() <= TOLERANCE * scale;
            // Not `> tolerance`: a difference that is NaN or infinite must not pass.
            !(same || near)
        };
        if let Some(at) = found.iter().zip(&expected).position(differs) {
            return Err(format!("element {at} is {}, expected {}", found[at], expected[at]));
        }
    }
    Ok(())
}

/// Returns the fastest correct variant. Keeps `by_shape` unless another variant is faster by more than noise.
fn fastest_correct(timings: &[VariantTiming], by_shape: GemmVariant) -> Option<GemmVariant> {
    const NOISE: f64 = 0.95;
    let correct = || timings.iter().filter_map(|t| Some((t.variant, *t.seconds.as_ref().ok()?)));
    let (fastest, least) = correct().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let default = correct().find(|(variant, _)| *variant == by_shape);
    match default {
        Some((variant, seconds)) if least > NOISE * seconds => Some(variant),
        _ => Some(fastest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: GemmVariant = GemmVariant::Direct { rows: 8, columns: 8 };
    const SMALL: GemmVariant = GemmVariant::Direct { rows: 4, columns: 4 };

    /// Tests a fast variant with a wrong result, as from a kernel that skips part of the sum.
    #[test]
    fn a_variant_with_a_wrong_result_never_wins() {
        let right = [HostData::F32(vec![1.0, -2.0, f32::NAN])];
        let timing = |variant, result: &[f32], seconds: f64| {
            let seconds = check_agreement(&[HostData::F32(result.to_vec())], &right).map(|()| seconds);
            VariantTiming { variant, seconds }
        };
        let naive = timing(GemmVariant::Naive, &[1.0, -2.0, f32::NAN], 3.0);
        for wrong in [[1.0, -2.0, 0.0], [1.0, -1.9, f32::NAN], [f32::NAN, -2.0, f32::NAN]] {
            let timings =
                [naive.clone(), timing(DIRECT, &wrong, 0.1), timing(SMALL, &[1.00001, -2.0, f32::NAN], 2.0)];
            assert!(timings[1].seconds.is_err(), "{wrong:?}");
            assert_eq!(fastest_correct(&timings, DIRECT), Some(SMALL), "{wrong:?}");
        }
    }

    #[test]
    fn differences_within_noise_keep_the_choice_by_shape() {
        let timing = |variant, seconds| VariantTiming { variant, seconds: Ok(seconds) };
        let close = [timing(DIRECT, 1.0), timing(SMALL, 0.97)];
        assert_eq!(fastest_correct(&close, DIRECT), Some(DIRECT));
        let clear = [timing(DIRECT, 1.0), timing(SMALL, 0.9)];
        assert_eq!(fastest_correct(&clear, DIRECT), Some(SMALL));
        assert_eq!(fastest_correct(&[], DIRECT), None);
    }
}
