//! The graph that model code records, and the handle to one of its values.
//!
//! A shape error does not stop the recording, so model code needs no `?` after each operation: the graph keeps the
//! first error with the location of the call, ignores values that depend on it, and returns it from [`Graph::finish`]
//! or [`crate::grad`].

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::panic::Location;
use std::rc::Rc;

use crate::error::{GraphError, Rule};
use crate::op::{Leaf, Lowered, Op, Vjp};
use crate::shape::{Shape, TensorType};
use crate::state::{EntryId, GroupId, States};

/// Position of a value in its graph. The inputs of a node have smaller positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// Id of the result of an operation with an error.
const POISONED: NodeId = NodeId(usize::MAX);

/// Operations that the graph itself needs, to implement the operators of [`Var`] and to create sums of gradients and
/// zero gradients.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Arithmetic {
    pub add: for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>,
    pub sub: for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>,
    pub mul: for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>,
    pub div: for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>,
    pub neg: for<'g> fn(Var<'g>) -> Var<'g>,
    pub full: for<'g> fn(&'g Graph, &Shape, f64) -> Var<'g>,
}

/// One recorded operation.
#[derive(Clone)]
pub struct Node {
    /// Operation that the node computes.
    pub op: Rc<dyn Op>,
    /// Inputs of the operation.
    pub ins: Vec<NodeId>,
    /// Type of the output.
    pub ty: TensorType,
    /// Path of the layer in which the operation was recorded, e.g. `body.0.linear`.
    pub path: String,
    /// Number of the segment in which the operation was recorded; see [`Graph::segment`].
    pub segment: Option<usize>,
    /// For a recomputed operation, the value that must be computed first; see [`crate::grad_recomputing`].
    pub after: Option<NodeId>,
}

#[derive(Default)]
struct Inner {
    nodes: Vec<Node>,
    scopes: Vec<String>,
    /// The segment that is being recorded.
    segment: Option<usize>,
    /// Number of segments recorded so far.
    segments: usize,
    inputs: Vec<(String, TensorType)>,
    outputs: Vec<(String, NodeId)>,
    updates: Vec<(Leaf, NodeId)>,
    error: Option<GraphError>,
}

/// A recorded graph of tensor operations, with the persistent state that it reads and updates.
pub struct Graph {
    arithmetic: &'static Arithmetic,
    states: States,
    inner: RefCell<Inner>,
    /// Location of the operator that is being recorded. `#[track_caller]` does not work through the function pointers
    /// of [`Arithmetic`].
    operator_location: Cell<Option<&'static Location<'static>>>,
}

/// Handle to a value of a graph.
#[derive(Clone, Copy)]
pub struct Var<'g> {
    graph: &'g Graph,
    id: NodeId,
}

impl Graph {
    /// Creates an empty graph over a persistent state. `wgrad_ops::graph` passes the arithmetic of its operation table.
    pub fn new(arithmetic: &'static Arithmetic, states: States) -> Self {
        Self { arithmetic, states, inner: RefCell::default(), operator_location: Cell::new(None) }
    }

    /// Layout of the persistent state that the graph reads and updates.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Declares an input, which is uploaded for every run. Inputs get slot numbers in order of declaration.
    #[track_caller]
    pub fn input<'g>(&'g self, name: &str, ty: TensorType) -> Var<'g> {
        let slot = self.inner.borrow().inputs.len();
        self.inner.borrow_mut().inputs.push((name.to_owned(), ty.clone()));
        self.push(LeafOp { leaf: Leaf::Input(slot), ty }, &[])
    }

    /// Returns a tensor of the persistent state, with its value before the step.
    #[track_caller]
    pub fn entry(&self, id: EntryId) -> Var<'_> {
        self.push(LeafOp { leaf: Leaf::Entry(id), ty: self.states.entry_type(id) }, &[])
    }

    /// Returns a whole group of the persistent state as one flat tensor, padding included.
    #[track_caller]
    pub fn group(&self, id: GroupId) -> Var<'_> {
        let group = self.states.get(id);
        self.push(LeafOp { leaf: Leaf::Group(id), ty: TensorType::new(group.dtype, [group.len()]) }, &[])
    }

    /// Sets the value that a tensor of the state has after the step.
    pub fn update_entry(&self, id: EntryId, value: Var<'_>) {
        self.update(Leaf::Entry(id), self.states.entry_type(id), value);
    }

    /// Sets the value that a whole group of the state has after the step.
    pub fn update_group(&self, id: GroupId, value: Var<'_>) {
        let group = self.states.get(id);
        self.update(Leaf::Group(id), TensorType::new(group.dtype, [group.len()]), value);
    }

    #[track_caller]
    fn update(&self, leaf: Leaf, expected: TensorType, value: Var<'_>) {
        if value.id == POISONED {
            return;
        }
        if value.ty() != expected {
            let rule = Rule::new(format!("the new value must have the type of the state tensor, {expected}"));
            return self.record_error("update", &[value.ty()], rule);
        }
        self.inner.borrow_mut().updates.push((leaf, value.id));
    }

    /// Declares a named output, which can be read after every run.
    pub fn output(&self, name: &str, value: Var<'_>) {
        if value.id != POISONED {
            self.inner.borrow_mut().outputs.push((name.to_owned(), value.id));
        }
    }

    /// Records an operation and returns its result. If the inputs break the rule of the operation, the error is
    /// recorded, and [`Graph::finish`] returns it.
    #[track_caller]
    pub fn push<'g>(&'g self, op: impl Op + 'static, ins: &[Var<'g>]) -> Var<'g> {
        if ins.iter().any(|v| v.id == POISONED) {
            return self.poisoned();
        }
        let types: Vec<TensorType> = ins.iter().map(|v| v.ty()).collect();
        match op.infer(&types).and_then(check_size) {
            Ok(ty) => {
                let mut inner = self.inner.borrow_mut();
                let (path, segment) = (join_scopes(&inner.scopes), inner.segment);
                let ins = ins.iter().map(|v| v.id).collect();
                inner.nodes.push(Node { op: Rc::new(op), ins, ty, path, segment, after: None });
                Var { graph: self, id: NodeId(inner.nodes.len() - 1) }
            }
            Err(rule) => {
                self.record_error(op.name(), &types, rule);
                self.poisoned()
            }
        }
    }

    /// Records an error found before the operation itself is recorded, and returns a poisoned value.
    #[track_caller]
    pub fn refuse<'g>(&'g self, op: &str, ins: &[Var<'g>], rule: Rule) -> Var<'g> {
        if ins.iter().all(|v| v.id != POISONED) {
            self.record_error(op, &ins.iter().map(|v| v.ty()).collect::<Vec<_>>(), rule);
        }
        self.poisoned()
    }

    fn poisoned(&self) -> Var<'_> {
        Var { graph: self, id: POISONED }
    }

    #[track_caller]
    fn record_error(&self, op: &str, ins: &[TensorType], rule: Rule) {
        let inputs = ins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut inner = self.inner.borrow_mut();
        let (location, path) = (
            self.operator_location.get().unwrap_or(Location::caller()).to_string(),
            join_scopes(&inner.scopes),
        );
        inner.error.get_or_insert(GraphError::Shape { op: op.to_owned(), inputs, rule, location, path });
    }

    /// Records the operations of an operator of [`Var`]. Errors report the location of the caller.
    #[track_caller]
    fn operator<T>(&self, build: impl FnOnce(&'static Arithmetic) -> T) -> T {
        self.operator_location.set(Some(Location::caller()));
        let result = build(self.arithmetic);
        self.operator_location.set(None);
        result
    }

    /// Records the operations of `build` under a layer name, which appears in messages, profiles and reports.
    pub fn scope<T>(&self, name: &str, build: impl FnOnce() -> T) -> T {
        self.inner.borrow_mut().scopes.push(name.to_owned());
        let result = build();
        self.inner.borrow_mut().scopes.pop();
        result
    }

    /// Records the operations of `build` under a layer name, like [`Graph::scope`], and as one segment:
    /// [`crate::grad_recomputing`] computes its operations again in the backward pass instead of keeping their results.
    /// A segment inside another segment belongs to the outer one.
    pub fn segment<T>(&self, name: &str, build: impl FnOnce() -> T) -> T {
        let outer = self.inner.borrow().segment;
        if outer.is_none() {
            let mut inner = self.inner.borrow_mut();
            inner.segment = Some(inner.segments);
            inner.segments += 1;
        }
        let result = self.scope(name, build);
        self.inner.borrow_mut().segment = outer;
        result
    }

    /// Records a copy of an operation on other inputs of the same types, to be computed after `after`.
    pub(crate) fn record_recomputation(&self, id: NodeId, ins: Vec<NodeId>, after: NodeId) -> NodeId {
        let mut inner = self.inner.borrow_mut();
        let node = Node { ins, segment: None, after: Some(after), ..inner.nodes[id.0].clone() };
        inner.nodes.push(node);
        NodeId(inner.nodes.len() - 1)
    }

    /// Checks that no error was recorded.
    ///
    /// # Errors
    /// Returns the first recorded error.
    pub fn finish(&self) -> Result<(), GraphError> {
        self.inner.borrow().error.clone().map_or(Ok(()), Err)
    }

    /// Number of recorded operations.
    pub fn len(&self) -> usize {
        self.inner.borrow().nodes.len()
    }

    /// Whether the graph has no operations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The recorded operations in topological order: inputs come before their users.
    pub fn nodes(&self) -> Ref<'_, [Node]> {
        Ref::map(self.inner.borrow(), |inner| inner.nodes.as_slice())
    }

    /// Names and types of the inputs, by slot.
    pub fn inputs(&self) -> Vec<(String, TensorType)> {
        self.inner.borrow().inputs.clone()
    }

    /// Names and values of the outputs, in order of declaration.
    pub fn outputs(&self) -> Vec<(String, NodeId)> {
        self.inner.borrow().outputs.clone()
    }

    /// State tensors and groups that the graph updates, with their new values. Each leaf is a [`Leaf::Entry`] or a
    /// [`Leaf::Group`].
    pub fn updates(&self) -> Vec<(Leaf, NodeId)> {
        self.inner.borrow().updates.clone()
    }

    /// Returns the handle to a node.
    pub fn var(&self, id: NodeId) -> Var<'_> {
        Var { graph: self, id }
    }

    pub(crate) fn arithmetic(&self) -> &'static Arithmetic {
        self.arithmetic
    }
}

fn join_scopes(scopes: &[String]) -> String {
    scopes.iter().filter(|scope| !scope.is_empty()).cloned().collect::<Vec<_>>().join(".")
}

impl<'g> Var<'g> {
    /// The graph that contains the value.
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Position of the value in the graph.
    pub fn id(self) -> NodeId {
        self.id
    }

    /// Element type and shape. A poisoned value has the type of an f32 scalar.
    pub fn ty(self) -> TensorType {
        self.graph.inner.borrow().nodes.get(self.id.0).map_or(TensorType::f32([]), |node| node.ty.clone())
    }

    /// Shape of the value.
    pub fn shape(self) -> Shape {
        self.ty().shape
    }

    /// Number of dimensions.
    pub fn rank(self) -> usize {
        self.shape().len()
    }

    /// Whether the value depends on an operation with a recorded error.
    pub fn is_poisoned(self) -> bool {
        self.id == POISONED
    }
}

impl fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}: {}", self.id.0, self.ty())
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes().iter().enumerate() {
            let ins: Vec<usize> = node.ins.iter().map(|id| id.0).collect();
            writeln!(f, "%{i} = {:?} {ins:?}: {}  {}", node.op, node.ty, node.path)?;
        }
        Ok(())
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident)*) => {$(
        impl<'g> $trait for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                self.graph.operator(|arithmetic| (arithmetic.$method)(self, other))
            }
        }
        impl<'g> $trait<f64> for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: f64) -> Var<'g> {
                self.graph.operator(|arithmetic| {
                    let other = (arithmetic.full)(self.graph, &Shape::default(), other);
                    (arithmetic.$method)(self, other)
                })
            }
        }
        impl<'g> $trait<Var<'g>> for f64 {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                other.graph.operator(|arithmetic| {
                    let this = (arithmetic.full)(other.graph, &Shape::default(), self);
                    (arithmetic.$method)(this, other)
                })
            }
        }
    )*};
}
operators!(Add add Sub sub Mul mul Div div);

impl<'g> Neg for Var<'g> {
    type Output = Var<'g>;
    #[track_caller]
    fn neg(self) -> Var<'g> {
        self.graph.operator(|arithmetic| (arithmetic.neg)(self))
    }
}

/// Checks that a tensor has at least one element, and that a u32 can index its elements.
fn check_size(ty: TensorType) -> Result<TensorType, Rule> {
    let numel = ty.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    match numel.map(u32::try_from) {
        Some(Ok(0)) => {
            Err(Rule::new(format!("a tensor must have at least one element; the result would be {ty}")))
        }
        Some(Ok(_)) => Ok(ty),
        _ => Err(Rule::new(format!("a tensor must have fewer than 2³² elements; the result would be {ty}"))),
    }
}

/// Operation that reads a value from outside the graph.
#[derive(Debug)]
struct LeafOp {
    leaf: Leaf,
    ty: TensorType,
}

impl Op for LeafOp {
    fn name(&self) -> &'static str {
        match self.leaf {
            Leaf::Input(_) => "input",
            Leaf::Entry(_) | Leaf::Group(_) => "state",
        }
    }

    fn infer(&self, _: &[TensorType]) -> Result<TensorType, Rule> {
        Ok(self.ty.clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(Vec::new())
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Leaf(self.leaf)
    }
}
