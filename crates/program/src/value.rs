//! First stage of planning: converts the live nodes of a graph to values and resolves every view to an access layout.

use std::collections::HashMap;

use wgrad_graph::{Combine, EntryId, Expr, Graph, Layout, Leaf, Lowered, NodeId, TensorType, View};
use wgrad_stdx::{InternalError, never};

/// Position in [`Values::all`]. A value comes after its inputs.
pub(crate) type Id = usize;

/// A value that is read through a sequence of views.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub value: Id,
    pub views: Vec<View>,
    /// Result of applying the views to the contiguous layout of the value.
    pub layout: Layout,
}

/// Computation of a value.
#[derive(Debug, Clone)]
pub(crate) enum ValueKind {
    Leaf(Leaf),
    /// An elementwise expression. The views give every argument the shape of the value.
    Map {
        expr: Expr,
        args: Vec<Source>,
    },
    /// A gather. The views give `table` and `index` the shape of the value; `table` refers to row 0. Rows have a
    /// distance of `stride` elements, and `bound` is the number of rows.
    Gather {
        table: Source,
        index: Source,
        stride: usize,
        bound: usize,
    },
    Reduce {
        combine: Combine,
        axes: Vec<usize>,
        arg: Source,
    },
    /// A matrix product. `a` has shape batch ++ rows ++ depth, `b` has shape batch ++ depth ++ columns.
    Gemm {
        a: Source,
        b: Source,
        dims: GemmDims,
    },
    /// Values that are stored in one flat buffer, each with its offset in elements.
    Pack {
        parts: Vec<(Id, usize)>,
    },
}

/// Numbers of dimensions of a matrix product, and the storage order of its result.
#[derive(Debug, Clone)]
pub(crate) struct GemmDims {
    /// Number of batch dimensions.
    pub batch: usize,
    /// Number of row dimensions.
    pub rows: usize,
    /// Number of column dimensions.
    pub columns: usize,
    /// Dimension i of the result is dimension `order[i]` of batch ++ rows ++ columns.
    pub order: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub kind: ValueKind,
    pub ty: TensorType,
    /// Name of the operation.
    pub name: &'static str,
    /// Path of the layer.
    pub path: String,
    /// Whether the value must have its own kernel, even if it could be fused.
    pub unfusable: bool,
    /// A value that must be computed before this one.
    pub after: Option<Id>,
}

/// Destination of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Output(usize),
    State(Leaf),
}

/// The values of a graph, and the destinations of outputs and updates.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// All values. Values that a rewrite replaced stay in the list but are unused.
    pub all: Vec<Value>,
    pub targets: Vec<(Id, Target)>,
    /// Maps each leaf that contains a reply of the host to the value that is sent to the host.
    pub callback_inputs: HashMap<Id, Id>,
    /// The last value sent to the host.
    last_callback: Option<Id>,
    /// Content of [`Value::after`] for values created while the current node is lowered.
    after: Option<Id>,
}

impl Value {
    /// Returns the inputs of the value, each with the views through which it is read.
    pub fn args(&self) -> Vec<&Source> {
        match &self.kind {
            ValueKind::Leaf(_) | ValueKind::Pack { .. } => Vec::new(),
            ValueKind::Map { args, .. } => args.iter().collect(),
            ValueKind::Gather { table, index, .. } => vec![table, index],
            ValueKind::Reduce { arg, .. } => vec![arg],
            ValueKind::Gemm { a, b, .. } => vec![a, b],
        }
    }

    /// Whether the value needs no kernel of its own: a leaf or a pack.
    pub fn has_no_kernel(&self) -> bool {
        matches!(self.kind, ValueKind::Leaf(_) | ValueKind::Pack { .. })
    }
}

impl Values {
    /// Creates the values that the outputs and updates of the graph depend on.
    ///
    /// # Errors
    /// Returns an internal error if a node is used before it is planned, i.e. if the graph is not in topological order.
    pub fn from_graph(graph: &Graph) -> Result<Values, InternalError> {
        let mut values = Values::default();
        let live = live_nodes(graph);
        let uses = count_uses(graph, &live);
        let mut sources: Vec<Option<Source>> = vec![None; graph.len()];
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let ins = node.ins.iter().map(|&id| planned(&sources, id)).collect::<Result<Vec<_>, _>>()?;
            let types: Vec<TensorType> = node.ins.iter().map(|id| graph.var(*id).ty()).collect();
            values.after = node.after.and_then(|id| sources[id.0].as_ref()).map(|source| source.value);
            let lowered = node.op.lower(&types, &node.ty);
            if let (Lowered::View(View::Permute(axes)), [id]) = (&lowered, node.ins.as_slice())
                && uses[id.0] == 1
                && let Some(product) = values.permute_product(&ins[0], axes)
            {
                sources[i] = Some(product);
                continue;
            }
            sources[i] = Some(values.lower(
                lowered,
                ins,
                Value {
                    kind: ValueKind::Pack { parts: Vec::new() },
                    ty: node.ty.clone(),
                    name: node.op.name(),
                    path: node.path.clone(),
                    unfusable: false,
                    after: None,
                },
            ));
        }
        values.after = None;
        for (slot, (_, id)) in graph.outputs().into_iter().enumerate() {
            values.add_target(planned(&sources, id)?, Target::Output(slot));
        }
        for (leaf, id) in graph.updates() {
            values.add_target(planned(&sources, id)?, Target::State(leaf));
        }
        Ok(values)
    }

    /// Adds `template` with the computation of `lowered`, and returns the result with its views.
    fn lower(&mut self, lowered: Lowered, mut ins: Vec<Source>, mut template: Value) -> Source {
        template.kind = match lowered {
            Lowered::View(view) => {
                let source = ins.swap_remove(0);
                return self.view(source, view);
            }
            Lowered::Leaf(leaf) => ValueKind::Leaf(leaf),
            Lowered::Map(expr) => return self.map(expr, ins, template),
            Lowered::Reduce { views, combine, axes } => {
                let arg = self.views(ins.swap_remove(0), &views);
                return self.reduce(combine, axes, arg, template);
            }
            Lowered::Contract(contract) => {
                let b = self.views(ins.swap_remove(1), &contract.b);
                let a = self.views(ins.swap_remove(0), &contract.a);
                return self.contract(contract, a, b, template);
            }
            Lowered::Gather => {
                let index = ins.swap_remove(1);
                self.gather(ins.swap_remove(0), index, &template.ty)
            }
            Lowered::Pack { offsets } => self.pack(offsets, ins),
            Lowered::HostCallback { sent, received } => {
                return self.host_callback(ins.swap_remove(0), sent, received, template);
            }
        };
        self.push(template)
    }

    pub(crate) fn push(&mut self, value: Value) -> Source {
        let layout = Layout::contiguous(&value.ty.shape);
        self.all.push(Value { after: self.after, ..value });
        Source { value: self.all.len() - 1, views: Vec::new(), layout }
    }

    /// Returns `source` with one more view. If no layout can express the view, the view is applied to a copy.
    pub(crate) fn view(&mut self, source: Source, view: View) -> Source {
        match source.layout.apply(&view) {
            Some(layout) => {
                let views = [source.views, vec![view]].concat();
                Source { value: source.value, views, layout }
            }
            None => {
                let in_order = self.copy_in_order(&source, &view);
                let copy = in_order.unwrap_or_else(|| self.copy(source));
                self.view(copy, view)
            }
        }
    }

    fn views(&mut self, source: Source, views: &[View]) -> Source {
        views.iter().fold(source, |source, view| self.view(source, view.clone()))
    }

    /// Adds a value that is a copy of the elements of `source`, with the views of `source` applied.
    pub(crate) fn copy(&mut self, source: Source) -> Source {
        let base = &self.all[source.value];
        let ty = TensorType::new(base.ty.dtype, source.layout.shape.as_slice());
        let path = base.path.clone();
        self.push(Value {
            kind: ValueKind::Map { expr: Expr::Input(0), args: vec![source] },
            ty,
            name: "copy",
            path,
            unfusable: false,
            after: None,
        })
    }

    /// Gives both inputs of a gather the shape of its output. The dimensions of the index come first, followed by the
    /// dimensions of a row.
    fn gather(&mut self, table: Source, index: Source, out: &TensorType) -> ValueKind {
        // A kernel adds a multiple of one non-negative stride to select a row.
        let plain = table.layout.is_unpadded() && table.layout.strides[0] >= 0;
        let table = if plain { table } else { self.copy(table) };
        let (rows, picked) = (table.layout.shape.clone(), index.layout.shape.clone());
        let (bound, stride) = (rows[0], table.layout.strides[0].unsigned_abs());
        let mut first = rows.clone();
        first[0] = 1;
        let start = vec![0; rows.len()];
        let table = self.view(table, View::Slice { start, end: first, step: vec![1; rows.len()] });
        let row_shape = [vec![1; picked.len()], rows[1..].to_vec()].concat();
        let table = self.view(table, View::Reshape(row_shape));
        let table = self.view(table, View::Broadcast(out.shape.to_vec()));
        let index_shape = [picked, vec![1; rows.len() - 1]].concat();
        let index = self.view(index, View::Reshape(index_shape));
        let index = self.view(index, View::Broadcast(out.shape.to_vec()));
        ValueKind::Gather { table, index, stride, bound }
    }

    /// Creates a pack of the inputs. If a kernel computes exactly the elements of an input and no other pack contains
    /// the input, the kernel writes directly to its range of the pack. Other inputs are copied first.
    fn pack(&mut self, offsets: Vec<usize>, ins: Vec<Source>) -> ValueKind {
        let mut parts: Vec<(Id, usize)> = Vec::new();
        for (source, offset) in ins.into_iter().zip(offsets) {
            let taken = parts.iter().any(|&(id, _)| id == source.value) || self.is_packed(source.value);
            let id = if taken || !self.shows_kernel_output(&source) {
                self.copy(source).value
            } else {
                source.value
            };
            parts.push((id, offset));
        }
        ValueKind::Pack { parts }
    }

    /// Sends `source` to the host. The sent value has its own kernel, which runs after the kernel of the previous
    /// callback. The host therefore receives the values in the order of recording, regardless of fusion.
    fn host_callback(&mut self, source: Source, sent: EntryId, received: EntryId, template: Value) -> Source {
        let copy = self.copy(source).value;
        let before = self.last_callback.replace(copy);
        let value = &mut self.all[copy];
        (value.name, value.unfusable, value.after) = (template.name, true, before.or(value.after));
        self.targets.push((copy, Target::State(Leaf::Entry(sent))));
        let reply = self.push(Value { kind: ValueKind::Leaf(Leaf::Entry(received)), ..template });
        self.callback_inputs.insert(reply.value, copy);
        reply
    }

    fn is_packed(&self, id: Id) -> bool {
        self.all.iter().any(
            |v| matches!(&v.kind, ValueKind::Pack { parts } if parts.iter().any(|&(part, _)| part == id)),
        )
    }

    /// Whether the source consists of exactly the elements that the value's kernel writes, in the same order.
    fn shows_kernel_output(&self, source: &Source) -> bool {
        let value = &self.all[source.value];
        !value.has_no_kernel()
            && source.layout.is_contiguous()
            && source.layout.numel() == value.ty.shape.numel()
    }

    /// Sets the destination of `source`. A kernel writes a value to one destination, so a second destination needs a
    /// copy.
    fn add_target(&mut self, source: Source, target: Target) {
        let taken = self.targets.iter().any(|&(id, _)| id == source.value) || self.is_packed(source.value);
        let id =
            if taken || !self.shows_kernel_output(&source) { self.copy(source).value } else { source.value };
        self.targets.push((id, target));
    }
}

impl Values {
    /// Returns for each value whether a target depends on the value.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.all.len()];
        self.targets.iter().for_each(|(id, _)| live[*id] = true);
        for id in (0..self.all.len()).rev() {
            if !live[id] {
                continue;
            }
            self.all[id].args().into_iter().for_each(|arg| live[arg.value] = true);
            if let ValueKind::Pack { parts } = &self.all[id].kind {
                parts.iter().for_each(|(part, _)| live[*part] = true);
            }
        }
        live
    }

    /// Whether the value is a map that can be computed at the positions that `views` address. For this, layouts must be
    /// able to express the views of all inputs without padding.
    pub fn can_be_viewed(&self, id: Id, views: &[View]) -> bool {
        let ValueKind::Map { expr, args } = &self.all[id].kind else { return false };
        let seen = |layout: Layout| apply_views(layout, views);
        let whole = |layout: Option<Layout>| layout.is_some_and(|l| l.is_unpadded());
        let shape = &self.all[id].ty.shape;
        iotas(expr).into_iter().all(|strides| whole(seen(iota_layout(shape, strides))))
            && args.iter().all(|arg| whole(seen(arg.layout.clone())))
    }

    /// Writes target number `i` from a copy of its value. The copy has its own kernel, which runs after the value is
    /// computed.
    pub fn defer_target(&mut self, i: usize) {
        let (id, target) = self.targets[i];
        let copy = self.copy(Source {
            value: id,
            views: Vec::new(),
            layout: Layout::contiguous(&self.all[id].ty.shape),
        });
        self.all[copy.value].unfusable = true;
        self.targets[i] = (copy.value, target);
    }
}

fn planned(sources: &[Option<Source>], id: NodeId) -> Result<Source, InternalError> {
    sources[id.0].clone().ok_or_else(|| never!("node {} is used before it is planned", id.0))
}

/// Returns the layout whose offsets are the values of an [`Expr::Iota`].
pub(crate) fn iota_layout(shape: &[usize], strides: &[usize]) -> Layout {
    let strides = shape.iter().zip(strides).map(|(&n, &s)| if n == 1 { 0 } else { s as isize }).collect();
    Layout::strided(shape, strides, 0)
}

/// Returns the strides of every [`Expr::Iota`] in an expression.
pub(crate) fn iotas(expr: &Expr) -> Vec<&[usize]> {
    match expr {
        Expr::Iota(strides) => vec![strides],
        Expr::Call(_, args) => args.iter().flat_map(iotas).collect(),
        Expr::Input(_) | Expr::Float(_) | Expr::U32(_) => Vec::new(),
    }
}

/// Counts the uses of each live node by other nodes, outputs and updates.
fn count_uses(graph: &Graph, live: &[bool]) -> Vec<usize> {
    let mut uses = vec![0; graph.len()];
    let nodes = graph.nodes();
    let by_nodes =
        nodes.iter().enumerate().filter(|(i, _)| live[*i]).flat_map(|(_, node)| node.ins.iter().copied());
    let outside =
        graph.outputs().into_iter().map(|(_, id)| id).chain(graph.updates().into_iter().map(|(_, id)| id));
    by_nodes.chain(outside).for_each(|id| uses[id.0] += 1);
    uses
}

fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.len()];
    let roots =
        graph.outputs().into_iter().map(|(_, id)| id).chain(graph.updates().into_iter().map(|(_, id)| id));
    let mut stack: Vec<NodeId> = roots.collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut live[id.0], true) {
            stack.extend(&graph.nodes()[id.0].ins);
        }
    }
    live
}

/// Applies views to a layout in order. Returns `None` if a layout cannot express one of the views.
pub(crate) fn apply_views(layout: Layout, views: &[View]) -> Option<Layout> {
    views.iter().try_fold(layout, |layout, view| layout.apply(view))
}

/// Returns the layout without its dimensions of size 1, or `None` if it is all padding.
pub(crate) fn squeeze_layout(layout: &Layout) -> Option<Layout> {
    (!layout.is_all_padding()).then(|| layout.squeeze())
}

/// Returns a shape without its dimensions of size 1.
pub(crate) fn squeeze_shape(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&n| n != 1).collect()
}
