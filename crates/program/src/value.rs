//! First stage of planning: the live nodes of a graph as values, with every view resolved into how a value is accessed.

use std::collections::HashMap;

use wgrad_graph::{Combine, EntryId, Expr, Graph, Layout, Leaf, Lowered, NodeId, TensorType, View};

/// Position in [`Values::all`]; a value comes after those it is computed from.
pub(crate) type Id = usize;

/// A value seen through views.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub value: Id,
    pub views: Vec<View>,
    /// The views applied to the value's contiguous layout.
    pub layout: Layout,
}

/// How a value comes about.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Leaf(Leaf),
    /// Every argument is seen in the shape of the value.
    Map {
        expr: Expr,
        args: Vec<Source>,
    },
    /// `table` at the row 0 of every element, in the shape of the value, and so is `index`.
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
    /// `a` over batch ++ rows ++ depth, `b` over batch ++ depth ++ columns.
    Gemm {
        a: Source,
        b: Source,
        dims: ProductDims,
    },
    /// Values that lie whole in slots of one flat buffer.
    Pack {
        parts: Vec<(Id, usize)>,
    },
}

/// What the dimensions of a product are.
#[derive(Debug, Clone)]
pub(crate) struct ProductDims {
    /// Number of dimensions of the batch.
    pub batch: usize,
    /// Number of dimensions of the rows.
    pub rows: usize,
    /// Number of dimensions of the columns.
    pub columns: usize,
    /// Dimension i of the value is dimension `order[i]` of batch ++ rows ++ columns.
    pub order: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub form: Form,
    pub ty: TensorType,
    /// Name of the operation.
    pub name: &'static str,
    /// Path of the layer.
    pub path: String,
    /// Has a kernel of its own, whatever could be fused with it.
    pub apart: bool,
    /// Is not computed before this value is.
    pub after: Option<Id>,
}

/// Where a value has to end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Output(usize),
    State(Leaf),
}

/// The values of a graph, and where some of them have to end up.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// A value that a rewriting replaced stays in the list, unused.
    pub all: Vec<Value>,
    pub targets: Vec<(Id, Target)>,
    /// For each leaf that the host answers while the program runs: the value that it answers.
    pub answers: HashMap<Id, Id>,
    /// The last value sent to the host.
    last_sent: Option<Id>,
    /// What values wait for that come from the node being lowered.
    after: Option<Id>,
}

impl Value {
    /// The values it is computed from, as it sees them.
    pub fn args(&self) -> Vec<&Source> {
        match &self.form {
            Form::Leaf(_) | Form::Pack { .. } => Vec::new(),
            Form::Map { args, .. } => args.iter().collect(),
            Form::Gather { table, index, .. } => vec![table, index],
            Form::Reduce { arg, .. } => vec![arg],
            Form::Gemm { a, b, .. } => vec![a, b],
        }
    }

    /// True for a value that needs no kernel of its own to exist: a leaf or a pack.
    pub fn is_given(&self) -> bool {
        matches!(self.form, Form::Leaf(_) | Form::Pack { .. })
    }
}

impl Values {
    /// The values that the outputs and updates of the graph need.
    pub fn of(graph: &Graph) -> Values {
        let mut values = Values::default();
        let live = live_nodes(graph);
        let uses = uses(graph, &live);
        let mut sources: Vec<Option<Source>> = vec![None; graph.len()];
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let ins: Vec<Source> = node.ins.iter().filter_map(|id| sources[id.0].clone()).collect();
            let types: Vec<TensorType> = node.ins.iter().map(|id| graph.var(*id).ty()).collect();
            values.after = node.after.and_then(|id| sources[id.0].as_ref()).map(|source| source.value);
            let lowered = node.op.lower(&types, &node.ty);
            if let (Lowered::View(View::Permute(axes)), [id]) = (&lowered, node.ins.as_slice())
                && uses[id.0] == 1
                && let Some(product) = values.permuted_product(&ins[0], axes)
            {
                sources[i] = Some(product);
                continue;
            }
            sources[i] = Some(values.lower(
                lowered,
                ins,
                Value {
                    form: Form::Pack { parts: Vec::new() },
                    ty: node.ty.clone(),
                    name: node.op.name(),
                    path: node.path.clone(),
                    apart: false,
                    after: None,
                },
            ));
        }
        values.after = None;
        let source = |id: NodeId| sources[id.0].clone();
        for (slot, (_, id)) in graph.outputs().into_iter().enumerate() {
            source(id).into_iter().for_each(|s| values.aim(s, Target::Output(slot)));
        }
        for (leaf, id) in graph.updates() {
            source(id).into_iter().for_each(|s| values.aim(s, Target::State(leaf)));
        }
        values
    }

    /// Adds `blank` with the form that `lowered` says and gives the way to access it.
    fn lower(&mut self, lowered: Lowered, mut ins: Vec<Source>, mut blank: Value) -> Source {
        blank.form = match lowered {
            Lowered::View(view) => {
                let source = ins.swap_remove(0);
                return self.view(source, view);
            }
            Lowered::Leaf(leaf) => Form::Leaf(leaf),
            Lowered::Map(expr) => return self.map(expr, ins, blank),
            Lowered::Reduce { views, combine, axes } => {
                let arg = self.views(ins.swap_remove(0), &views);
                return self.reduce(combine, axes, arg, blank);
            }
            Lowered::Contract(contract) => {
                let b = self.views(ins.swap_remove(1), &contract.b);
                let a = self.views(ins.swap_remove(0), &contract.a);
                return self.contract(contract, a, b, blank);
            }
            Lowered::Gather => {
                let index = ins.swap_remove(1);
                self.gather(ins.swap_remove(0), index, &blank.ty)
            }
            Lowered::Pack { offsets } => self.pack(offsets, ins),
            Lowered::HostCallback { sent, received } => {
                return self.exchange(ins.swap_remove(0), sent, received, blank);
            }
        };
        self.push(blank)
    }

    pub(crate) fn push(&mut self, value: Value) -> Source {
        let layout = Layout::contiguous(&value.ty.shape);
        self.all.push(Value { after: self.after, ..value });
        Source { value: self.all.len() - 1, views: Vec::new(), layout }
    }

    /// `source` seen through one more view; where no layout can express that, through the view of a copy.
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

    /// A value of its own with the elements of `source`.
    pub(crate) fn copy(&mut self, source: Source) -> Source {
        let base = &self.all[source.value];
        let ty = TensorType::new(base.ty.dtype, source.layout.shape.as_slice());
        let path = base.path.clone();
        self.push(Value {
            form: Form::Map { expr: Expr::Input(0), args: vec![source] },
            ty,
            name: "copy",
            path,
            apart: false,
            after: None,
        })
    }

    /// Brings both inputs of a gather into the shape of its output: index dimensions first, then those of a row.
    fn gather(&mut self, table: Source, index: Source, out: &TensorType) -> Form {
        // Rows are picked by a multiple of one stride, forwards.
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
        Form::Gather { table, index, stride, bound }
    }

    /// Each part of a pack is a value that a kernel can write straight into its slot: computed, whole, and in no other
    /// pack. Anything else is copied first.
    fn pack(&mut self, offsets: Vec<usize>, ins: Vec<Source>) -> Form {
        let mut parts: Vec<(Id, usize)> = Vec::new();
        for (source, offset) in ins.into_iter().zip(offsets) {
            let taken = parts.iter().any(|&(id, _)| id == source.value) || self.is_packed(source.value);
            let id = if taken || !self.is_whole(&source) { self.copy(source).value } else { source.value };
            parts.push((id, offset));
        }
        Form::Pack { parts }
    }

    /// What is sent has a kernel of its own, after that of what was sent before: so the host can answer one after the other,
    /// in an order that does not depend on what is fused.
    fn exchange(&mut self, source: Source, sent: EntryId, received: EntryId, blank: Value) -> Source {
        let copy = self.copy(source).value;
        let before = self.last_sent.replace(copy);
        let value = &mut self.all[copy];
        (value.name, value.apart, value.after) = (blank.name, true, before.or(value.after));
        self.targets.push((copy, Target::State(Leaf::Entry(sent))));
        let answer = self.push(Value { form: Form::Leaf(Leaf::Entry(received)), ..blank });
        self.answers.insert(answer.value, copy);
        answer
    }

    fn is_packed(&self, id: Id) -> bool {
        self.all
            .iter()
            .any(|v| matches!(&v.form, Form::Pack { parts } if parts.iter().any(|&(part, _)| part == id)))
    }

    /// True when a kernel that computes the value computes just what the source shows.
    fn is_whole(&self, source: &Source) -> bool {
        let value = &self.all[source.value];
        !value.is_given() && source.layout.is_contiguous() && source.layout.numel() == value.ty.shape.numel()
    }

    /// Says where `source` has to end up. A kernel writes a value to one place, so a second place needs a copy.
    fn aim(&mut self, source: Source, target: Target) {
        let taken = self.targets.iter().any(|&(id, _)| id == source.value) || self.is_packed(source.value);
        let id = if taken || !self.is_whole(&source) { self.copy(source).value } else { source.value };
        self.targets.push((id, target));
    }
}

impl Values {
    /// Which values a target needs.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.all.len()];
        self.targets.iter().for_each(|(id, _)| live[*id] = true);
        for id in (0..self.all.len()).rev() {
            if !live[id] {
                continue;
            }
            self.all[id].args().into_iter().for_each(|arg| live[arg.value] = true);
            if let Form::Pack { parts } = &self.all[id].form {
                parts.iter().for_each(|(part, _)| live[*part] = true);
            }
        }
        live
    }

    /// True when the value, a map, can be computed where these views show it: what it is made of can be seen through them.
    pub fn expressible(&self, id: Id, views: &[View]) -> bool {
        let Form::Map { expr, args } = &self.all[id].form else { return false };
        let seen = |layout: Layout| seen_through(layout, views);
        let whole = |layout: Option<Layout>| layout.is_some_and(|l| l.is_unpadded());
        let shape = &self.all[id].ty.shape;
        iotas(expr).into_iter().all(|strides| whole(seen(iota_layout(shape, strides))))
            && args.iter().all(|arg| whole(seen(arg.layout.clone())))
    }

    /// Gives target number `i` to a copy with a kernel of its own, made after the value itself.
    pub fn delay(&mut self, i: usize) {
        let (id, target) = self.targets[i];
        let copy = self.copy(Source {
            value: id,
            views: Vec::new(),
            layout: Layout::contiguous(&self.all[id].ty.shape),
        });
        self.all[copy.value].apart = true;
        self.targets[i] = (copy.value, target);
    }
}

/// The layout whose offsets an [`Expr::Iota`] gives.
pub(crate) fn iota_layout(shape: &[usize], strides: &[usize]) -> Layout {
    let strides = shape.iter().zip(strides).map(|(&n, &s)| if n == 1 { 0 } else { s as isize }).collect();
    Layout::strided(shape, strides, 0)
}

/// The strides of every [`Expr::Iota`] in an expression.
pub(crate) fn iotas(expr: &Expr) -> Vec<&[usize]> {
    match expr {
        Expr::Iota(strides) => vec![strides],
        Expr::Call(_, args) => args.iter().flat_map(iotas).collect(),
        Expr::Input(_) | Expr::Float(_) | Expr::U32(_) => Vec::new(),
    }
}

/// How often each live node is used by others, by outputs and by updates.
fn uses(graph: &Graph, live: &[bool]) -> Vec<usize> {
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

/// A layout seen through views one after the other, if a layout can express that.
pub(crate) fn seen_through(layout: Layout, views: &[View]) -> Option<Layout> {
    views.iter().try_fold(layout, |layout, view| layout.apply(view))
}

/// The layout without its dimensions of size 1, or `None` when all of it is padding.
pub(crate) fn squeezed(layout: &Layout) -> Option<Layout> {
    (!layout.is_all_padding()).then(|| layout.squeeze())
}

/// A shape without its dimensions of size 1.
pub(crate) fn squeezed_shape(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&n| n != 1).collect()
}
