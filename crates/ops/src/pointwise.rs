//! Elementwise operations: a row of the scalar tables applied to every element, with broadcasting made explicit.

use wgrad_graph::{DType, Expr, Lowered, Op, Rule, ScalarFn, Shape, TensorType, Var, Vjp};

use crate::sample::{self, Sample, Values};
use crate::table::Refused;
use crate::view::broadcast_to;
use wgrad_graph::philox::Stream;

/// One elementwise operation.
pub(crate) struct Row {
    /// The function of one element.
    pub function: ScalarFn,
    /// Its derivative.
    pub gradient: Gradient,
    /// What to draw samples of each tensor argument from.
    pub args: &'static [Values],
    /// Values for the constant arguments, which follow the tensors, in samples.
    pub params: &'static [f64],
}

/// The gradient rule of a row.
pub(crate) enum Gradient {
    /// One gradient a tensor argument.
    Grads(for<'g> fn(&Site<'_, 'g>) -> Vec<Option<Var<'g>>>),
    /// Zero almost everywhere; why.
    Zero(&'static str),
}

/// Where a gradient is asked for: one use of a row.
pub(crate) struct Site<'a, 'g> {
    /// The tensor arguments.
    pub ins: &'a [Var<'g>],
    /// The result.
    pub out: Var<'g>,
    /// The gradient of the result.
    pub cotangent: Var<'g>,
    /// The constant arguments.
    pub params: &'a [f64],
}

/// A use of a row. Its inputs have the shape of its output.
#[derive(Debug, Clone)]
struct Pointwise {
    row: &'static Row,
    params: Vec<f64>,
}

/// Records a row over inputs that broadcast with each other.
#[track_caller]
pub(crate) fn pointwise<'g>(row: &'static Row, ins: &[Var<'g>], params: &[f64]) -> Var<'g> {
    let graph = ins[0].graph();
    let types: Vec<TensorType> = ins.iter().map(|v| v.ty()).collect();
    match row.check(&types) {
        Ok(ty) => {
            let ins: Vec<Var<'g>> = ins.iter().map(|&v| broadcast_to(v, ty.shape.clone())).collect();
            graph.push(Pointwise { row, params: params.to_vec() }, &ins)
        }
        Err(rule) => graph.refuse(row.function.name, ins, rule),
    }
}

impl Row {
    /// Type of the result for inputs that may still have to broadcast.
    fn check(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let call = &self.function.f32;
        let taken = if call.takes_u32() { DType::U32 } else { DType::F32 };
        all_of(taken, ins)?;
        let mut shape = Shape::default();
        for input in ins {
            shape = shape.broadcast(&input.shape)?;
        }
        Ok(TensorType::new(if call.returns_u32() { DType::U32 } else { DType::F32 }, shape))
    }

    /// A random use of the row, with broadcast and strided arguments.
    pub fn sample(&'static self, random: &mut Stream) -> Sample {
        let shape = sample::shape(random);
        let mut inputs = Vec::new();
        let mut dressings = Vec::new();
        for (i, &values) in self.args.iter().enumerate() {
            // One argument keeps the whole shape, so that the result has it.
            let own = if i == 0 { shape.clone() } else { sample::broadcastable(random, &shape) };
            let dtype = if self.function.f32.takes_u32() { DType::U32 } else { DType::F32 };
            let (ty, dressing) = sample::dressed(random, TensorType::new(dtype, own));
            inputs.push(sample::Input::new(ty, values));
            dressings.push(dressing);
        }
        if sample::chance(random, 2) {
            inputs.reverse();
            dressings.reverse();
            // The arguments are taken in their own order again: only who broadcasts to whom has changed.
            for (input, &values) in inputs.iter_mut().zip(self.args) {
                input.values = values;
            }
        }
        Sample::new(inputs, move |_, ins| {
            let ins: Vec<Var<'_>> =
                ins.iter().zip(&dressings).map(|(&v, dressing)| dressing.apply(v)).collect();
            pointwise(self, &ins, self.params)
        })
    }

    /// Uses of the row that must be refused.
    pub fn refusals(&'static self) -> Vec<Refused> {
        let takes_u32 = self.function.f32.takes_u32();
        let right =
            |shape: &[usize]| TensorType::new(if takes_u32 { DType::U32 } else { DType::F32 }, shape);
        let wrong =
            |shape: &[usize]| TensorType::new(if takes_u32 { DType::F32 } else { DType::U32 }, shape);
        let n = self.args.len();
        let refused = |types: Vec<TensorType>, why| {
            Refused::new(types, why, move |_, ins| pointwise(self, ins, self.params))
        };
        let mut last_is_wrong = vec![right(&[2, 3]); n];
        last_is_wrong[n - 1] = wrong(&[2, 3]);
        let mut all = vec![refused(last_is_wrong, "elements must be")];
        if n > 1 {
            let mut shapes = vec![right(&[2, 3]); n];
            shapes[n - 1] = right(&[4, 3]);
            all.push(refused(shapes, "sizes, aligned at the last dimension, must agree or be 1"));
        }
        all
    }
}

/// Checks that every input has this element type.
pub(crate) fn all_of(dtype: DType, ins: &[TensorType]) -> Result<(), Rule> {
    for input in ins {
        if input.dtype != dtype {
            let hint = match (input.dtype, dtype) {
                (DType::F16, DType::F32) => "; f16 is for storage, cast it to compute",
                (DType::U32, DType::F32) => "; cast words to compute with them",
                _ => "",
            };
            return Err(Rule::new(format!("the elements must be {dtype}, not {}{hint}", input.dtype)));
        }
    }
    Ok(())
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        self.row.function.name
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let ty = self.row.check(ins)?;
        if ins.iter().any(|input| input.shape != ty.shape) {
            return Err(Rule::new("every input has the shape of the output once broadcasts are made"));
        }
        Ok(ty)
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        match self.row.gradient {
            Gradient::Grads(grads) => Vjp::Grads(grads(&Site { ins, out, cotangent, params: &self.params })),
            Gradient::Zero(why) => Vjp::Zero(why),
        }
    }

    fn lower(&self, ins: &[TensorType], _: &TensorType) -> Lowered {
        let tensors = (0..ins.len()).map(Expr::Input);
        let params = self.params.iter().copied().map(Expr::Float);
        Lowered::Map(Expr::Call(&self.row.function, tensors.chain(params).collect()))
    }
}
