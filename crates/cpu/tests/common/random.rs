//! Random kernels with arbitrary strides, padding, broadcasts, element types, reductions and stores.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, DType, Layout, ScalarFn};
use wgrad_program::*;

use super::build::{Case, loop_kernel};
use super::*;

pub struct Generator {
    pub random: Stream,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { random: Stream::new(seed, 0) }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.random.below(n as u32) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Draws `n` values that are uniformly distributed in [-1, 1).
    pub fn floats(&mut self, n: usize) -> HostData {
        HostData::F32((0..n).map(|_| self.random.uniform() * 2.0 - 1.0).collect())
    }

    pub fn u32s(&mut self, n: usize, below: usize) -> HostData {
        HostData::U32((0..n).map(|_| self.below(below) as u32).collect())
    }

    /// Returns a random layout over `shape`, and the number of elements that its tensor needs. The dimensions have any
    /// order and direction, with gaps between elements. Dimensions are broadcast only if `broadcast` is set, and
    /// padded only if `padded` is set.
    /// gaps, optionally broadcast or padded.
    pub fn layout(&mut self, shape: &[usize], broadcast: bool, padded: bool) -> (Layout, usize) {
        let mut order: Vec<usize> = (0..shape.len()).rev().collect();
        if self.below(3) == 0 {
            self.random.shuffle(&mut order);
        }
        let (mut strides, mut step, mut offset) = (vec![0isize; shape.len()], 1, self.below(3) as isize);
        let mut valid: Vec<(usize, usize)> = shape.iter().map(|&n| (0, n)).collect();
        for i in order {
            if broadcast && self.below(4) == 0 {
                continue;
            }
            if padded && self.below(3) == 0 {
                let lo = self.below(shape[i].min(3));
                let hi = shape[i] - self.below((shape[i] - lo).min(3));
                valid[i] = (lo, hi);
            }
            let stored = valid[i].1 - valid[i].0;
            step *= if self.below(5) == 0 { 2 } else { 1 };
            strides[i] = step;
            offset -= valid[i].0 as isize * step;
            if self.below(8) == 0 {
                // Reversed: index i now addresses the position of lo + hi - 1 - i.
                offset += (valid[i].0 + valid[i].1 - 1) as isize * step;
                strides[i] = -step;
            }
            step *= stored as isize;
        }
        // The stride of a dimension of size 1 is never used. Half of these strides are set to 0.
        if self.below(2) == 0 {
            for i in (0..shape.len()).filter(|&i| shape[i] == 1) {
                offset += valid[i].0 as isize * strides[i];
                strides[i] = 0;
            }
        }
        let layout = Layout::strided(shape, strides, offset).with_valid_ranges(&valid);
        let mut last = 0;
        layout.for_each(|at| last = last.max(at.unwrap_or(0)));
        (layout, last + 1)
    }

    fn shape(&mut self, rank: usize, total: usize) -> Vec<usize> {
        let mut left = total;
        (0..rank)
            .map(|_| {
                let sizes: Vec<usize> =
                    [1, 2, 3, 5, 8, 10, 17, 64, 65, 130, 700, 1025, 3000, 40_000, 150_000]
                        .into_iter()
                        .filter(|&n| n <= left)
                        .collect();
                let n = self.pick(&sizes);
                left /= n;
                n
            })
            .collect()
    }

    /// Creates a program with a random loop over at most `total` indices.
    pub fn case(&mut self, total: usize) -> Case {
        let (outer_rank, inner_rank) = (self.below(4), self.pick(&[0, 1, 1, 2, 3]));
        let domain = self.shape(outer_rank + inner_rank, total);
        let (outer, inner) = domain.split_at(outer_rank);
        let columns: usize = inner.iter().product();
        let mut case = Case::default();
        let mut operands = Vec::new();
        let mut body = Vec::new();
        let (mut floats, mut u32s) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.below(3) {
            let (layout, n) = self.layout(&domain, true, true);
            let dtype = self.pick(&[DType::F32, DType::F32, DType::F16, DType::U32]);
            let values = if dtype == DType::U32 { self.u32s(n, 40) } else { self.floats(n) };
            operands.push((case.input(dtype, values), Access::Read));
            if dtype == DType::U32 {
                u32s.push(body.len())
            } else {
                floats.push(body.len())
            }
            body.push(Instr::Load { operand: operands.len() - 1, layout });
        }
        let (iota, _) = self.layout(&domain, true, false);
        u32s.push(body.len());
        body.push(Instr::Iota(iota));
        floats.push(body.len());
        body.push(Instr::Float(0.75));
        u32s.push(body.len());
        body.push(Instr::U32(5));
        if self.below(2) == 0 {
            let (layout, n) = self.layout(&domain, true, false);
            let (stride, bound) = (self.below(3), 30);
            let values = self.floats(n + stride * (bound - 1));
            operands.push((case.input(DType::F32, values), Access::Read));
            floats.push(body.len());
            let index = self.pick(&u32s);
            body.push(Instr::Gather { operand: operands.len() - 1, layout, index, stride, bound });
        }
        // A tensor that is updated in place: either every element, or one element per row.
        let mut update = None;
        if self.below(3) == 0 {
            let once = self.below(2) == 0;
            let (layout, n) = self.layout(if once { outer } else { &domain }, false, false);
            let values = self.floats(n);
            operands.push((case.group(values), Access::ReadWrite));
            let mut whole = layout.clone();
            whole.shape = domain.clone();
            whole.strides.resize(domain.len(), 0);
            floats.push(body.len());
            update = Some((body.len(), operands.len() - 1, layout, once));
            body.push(Instr::Load { operand: operands.len() - 1, layout: whole });
        }
        let loaded = floats.clone();
        for _ in 0..self.below(3) {
            self.calls(&mut body, &mut floats, &u32s);
            if inner_rank > 0 {
                let combine = self.pick(&[Combine::Sum, Combine::Max, Combine::Min, Combine::ArgMax]);
                let arg = if combine == Combine::ArgMax { self.pick(&loaded) } else { self.pick(&floats) };
                body.push(Instr::Reduce(combine, arg));
                match combine {
                    Combine::ArgMax => u32s.push(body.len() - 1),
                    Combine::Sum => {
                        body.push(Instr::Float(1.0 / columns as f64));
                        body.push(Instr::Call(&MUL, vec![body.len() - 2, body.len() - 1]));
                        floats.push(body.len() - 1);
                    }
                    _ => floats.push(body.len() - 1),
                }
            }
        }
        self.calls(&mut body, &mut floats, &u32s);
        let kernel = Loop { outer: outer.to_vec(), inner: inner.to_vec(), body, stores: Vec::new() };
        let varies = kernel.varies();
        let mut stores = Vec::new();
        if let Some((loaded, operand, layout, once)) = update {
            let candidates: Vec<usize> = floats.iter().copied().filter(|&v| !once || !varies[v]).collect();
            let value = if self.below(4) == 0 { loaded } else { self.pick(&candidates) };
            stores.push(Store { value, operand, layout });
        }
        for _ in 0..1 + self.below(3) {
            let word = self.below(5) == 0;
            let value = if word {
                self.pick(&u32s)
            } else {
                floats[floats.len() - 1 - self.below(floats.len().min(5))]
            };
            let once = !varies[value] && self.below(2) == 0;
            let (layout, n) = self.layout(if once { outer } else { &domain }, false, false);
            let dtype = if word { DType::U32 } else { self.pick(&[DType::F32, DType::F32, DType::F16]) };
            // The tensor is in a slab and not an output, because the gaps between its stored elements hold NaN. A
            // second kernel copies the stored elements to an output.
            let slab = case.slab(dtype, n);
            operands.push((slab, Access::Write));
            stores.push(Store { value, operand: operands.len() - 1, layout });
        }
        case.dispatch(loop_kernel(outer, inner, kernel.body, stores.clone()), operands.clone());
        for store in stores.into_iter().filter(|store| operands[store.operand].1 == Access::Write) {
            let (from, layout) = (operands[store.operand].0.clone(), store.layout);
            let to = case.output(from.dtype, layout.numel());
            let copy = loop_kernel(
                &layout.shape.clone(),
                &[],
                vec![Instr::Load { operand: 0, layout: layout.clone() }],
                vec![Store { value: 0, operand: 1, layout: Layout::contiguous(&layout.shape) }],
            );
            case.dispatch(copy, vec![(from, Access::Read), (to, Access::Write)]);
        }
        case
    }

    fn calls(&mut self, body: &mut Vec<Instr>, floats: &mut Vec<usize>, u32s: &[usize]) {
        for _ in 0..self.below(5) {
            let functions: [&'static ScalarFn; 8] = [&RELU, &EXP, &MUL, &MID, &MIX, &TO_FLOAT, &LESS, &HASH];
            let f = self.pick(&functions);
            let from = if f.f32.takes_u32() { u32s.to_vec() } else { floats.clone() };
            let args = (0..f.f32.arity()).map(|_| self.pick(&from)).collect();
            floats.push(body.len());
            body.push(Instr::Call(f, args));
        }
    }
}
