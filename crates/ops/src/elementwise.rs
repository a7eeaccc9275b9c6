//! Elementwise operations: a scalar function applied to every element, with explicit broadcasts of the inputs.

use wgrad_graph::philox::Stream;
use wgrad_graph::{DType, Expr, Lowered, Op, Rule, ScalarFn, Shape, TensorType, Var, Vjp};

use crate::op_info::ErrorInput;
use crate::rules::check_dtype;
use crate::sample::{self, Distribution, Sample};
use crate::strided_view::StridedView;
use crate::view::broadcast_to;

/// Elementwise operation: its scalar function, its gradient, and distributions for samples.
pub(crate) struct ElementwiseOp {
    /// Function of one element.
    pub function: ScalarFn,
    /// Gradient rule of the operation.
    pub gradient: Gradient,
    /// Distribution of each tensor argument in samples.
    pub args: &'static [Distribution],
    /// Values of the constant arguments in samples. Constant arguments follow the tensors.
    pub params: &'static [f64],
}

/// Gradient rule of an elementwise operation.
pub(crate) enum Gradient {
    /// Returns one gradient for each tensor argument.
    Grads(for<'g> fn(&VjpContext<'_, 'g>) -> Vec<Option<Var<'g>>>),
    /// Zero almost everywhere, for the given reason.
    Zero(&'static str),
}

/// Inputs of a gradient rule.
pub(crate) struct VjpContext<'a, 'g> {
    /// Tensor arguments of the operation.
    pub ins: &'a [Var<'g>],
    /// Result of the operation.
    pub out: Var<'g>,
    /// Gradient of the loss with respect to the result.
    pub cotangent: Var<'g>,
    /// Constant arguments of the operation.
    pub params: &'a [f64],
}

/// Node of an elementwise operation. Its inputs have the shape of its output.
#[derive(Debug, Clone)]
struct Elementwise {
    op: &'static ElementwiseOp,
    params: Vec<f64>,
}

/// Records an elementwise operation on inputs that broadcast with each other.
#[track_caller]
pub(crate) fn elementwise<'g>(op: &'static ElementwiseOp, ins: &[Var<'g>], params: &[f64]) -> Var<'g> {
    let graph = ins[0].graph();
    let types: Vec<TensorType> = ins.iter().map(|v| v.ty()).collect();
    match op.result_type(&types) {
        Ok(ty) => {
            let ins: Vec<Var<'g>> = ins.iter().map(|&v| broadcast_to(v, ty.shape.clone())).collect();
            graph.push(Elementwise { op, params: params.to_vec() }, &ins)
        }
        Err(rule) => graph.refuse(op.function.name, ins, rule),
    }
}

impl ElementwiseOp {
    /// Returns the type of the result for inputs that are not broadcast yet.
    fn result_type(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        check_dtype(self.input_dtype(), ins)?;
        let mut shape = Shape::default();
        for input in ins {
            shape = shape.broadcast(&input.shape)?;
        }
        let dtype = if self.function.f32.returns_u32() { DType::U32 } else { DType::F32 };
        Ok(TensorType::new(dtype, shape))
    }

    fn input_dtype(&self) -> DType {
        if self.function.f32.takes_u32() { DType::U32 } else { DType::F32 }
    }

    /// Draws a sample of the operation, with broadcast and strided arguments.
    pub fn sample(&'static self, random: &mut Stream) -> Sample {
        let shape = sample::shape(random);
        let mut inputs = Vec::new();
        let mut views = Vec::new();
        for (i, &distribution) in self.args.iter().enumerate() {
            // The first argument has the whole shape, so that the result has this shape.
            let arg_shape = if i == 0 { shape.clone() } else { sample::broadcastable(random, &shape) };
            let (ty, view) = StridedView::draw(random, TensorType::new(self.input_dtype(), arg_shape));
            inputs.push(sample::Input::new(ty, distribution));
            views.push(view);
        }
        if sample::chance(random, 2) {
            inputs.reverse();
            views.reverse();
            // Only the shapes are reversed, so that the first argument may broadcast too; each argument keeps its
            // distribution.
            for (input, &distribution) in inputs.iter_mut().zip(self.args) {
                input.distribution = distribution;
            }
        }
        Sample::new(inputs, move |_, ins| {
            let ins: Vec<Var<'_>> = ins.iter().zip(&views).map(|(&v, view)| view.apply(v)).collect();
            elementwise(self, &ins, self.params)
        })
    }

    /// Returns invalid uses: a wrong element type, and shapes that do not broadcast.
    pub fn error_inputs(&'static self) -> Vec<ErrorInput> {
        let valid = self.input_dtype();
        let invalid = if valid == DType::U32 { DType::F32 } else { DType::U32 };
        let n = self.args.len();
        let error = |types: Vec<TensorType>, message| {
            ErrorInput::new(types, message, move |_, ins| elementwise(self, ins, self.params))
        };
        let mut types = vec![TensorType::new(valid, [2, 3]); n];
        types[n - 1] = TensorType::new(invalid, [2, 3]);
        let mut all = vec![error(types, "elements must be")];
        if n > 1 {
            let mut types = vec![TensorType::new(valid, [2, 3]); n];
            types[n - 1] = TensorType::new(valid, [4, 3]);
            all.push(error(types, "sizes, aligned at the last dimension, must agree or be 1"));
        }
        all
    }
}

impl std::fmt::Debug for ElementwiseOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl Op for Elementwise {
    fn name(&self) -> &'static str {
        self.op.function.name
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let ty = self.op.result_type(ins)?;
        if ins.iter().any(|input| input.shape != ty.shape) {
            return Err(Rule::new("every input must be broadcast to the shape of the output"));
        }
        Ok(ty)
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], out: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        match self.op.gradient {
            Gradient::Grads(grads) => {
                Vjp::Grads(grads(&VjpContext { ins, out, cotangent, params: &self.params }))
            }
            Gradient::Zero(reason) => Vjp::Zero(reason),
        }
    }

    fn lower(&self, ins: &[TensorType], _: &TensorType) -> Lowered {
        let tensors = (0..ins.len()).map(Expr::Input);
        let params = self.params.iter().copied().map(Expr::Float);
        Lowered::Map(Expr::Call(&self.op.function, tensors.chain(params).collect()))
    }
}
