//! Third stage of planning: the instructions of each kernel, over operands that are still values, not buffers.

use std::collections::HashMap;

use wgrad_graph::{Bound, Combine, Expr, Layout, View};

use crate::cluster::{Cluster, ClusterId, Clusters, Place};
use crate::fuse::Schedule;
use crate::ir::{Cost, Gemm, Instr, Kernel, Loop, Store, ValueId};
use crate::value::{Form, Id, ProductDims, Source, iota_layout, seen_through, squeezed};

/// A kernel whose operands are values: those it loads, then those it stores.
#[derive(Debug)]
pub(crate) struct Draft {
    pub name: String,
    pub kernel: Kernel,
    pub loads: Vec<Id>,
    pub stores: Vec<Id>,
}

pub(crate) fn draft(schedule: &Schedule<'_>, cluster: ClusterId) -> Draft {
    let mut builder = Builder::new(schedule, cluster);
    let gemm = builder.gemm_operands();
    for &(id, place) in &builder.cluster.members.clone() {
        builder.member(id, place);
    }
    builder.finish(gemm)
}

struct Builder<'s, 'v> {
    clusters: &'s Clusters<'v>,
    schedule: &'s Schedule<'v>,
    cluster: Cluster,
    /// Order in which the kernel walks `cluster.dims`: rows first.
    axes: Vec<usize>,
    body: Vec<Instr>,
    known: HashMap<Instr, ValueId>,
    held: HashMap<Id, ValueId>,
    loads: Vec<Id>,
}

struct GemmOperands {
    a: (usize, Layout),
    b: (usize, Layout),
    dims: ProductDims,
}

impl<'s, 'v> Builder<'s, 'v> {
    fn new(schedule: &'s Schedule<'v>, id: ClusterId) -> Self {
        let clusters = &schedule.clusters;
        let cluster = without_needless_inner(clusters, clusters.all[id].clone());
        let inner = cluster.inner.clone().unwrap_or_default();
        let axes =
            (0..cluster.dims.len()).filter(|i| !inner.contains(i)).chain(inner.iter().copied()).collect();
        let (body, known, held, loads) = Default::default();
        Self { clusters, schedule, cluster, axes, body, known, held, loads }
    }

    fn operand(&mut self, id: Id) -> usize {
        self.loads.iter().position(|&load| load == id).unwrap_or_else(|| {
            self.loads.push(id);
            self.loads.len() - 1
        })
    }

    fn emit(&mut self, instr: Instr) -> ValueId {
        if let Some(&known) = self.known.get(&instr) {
            return known;
        }
        self.body.push(instr.clone());
        self.known.insert(instr, self.body.len() - 1);
        self.body.len() - 1
    }

    fn gemm_operands(&mut self) -> Option<GemmOperands> {
        let (first, _) = *self.cluster.members.first()?;
        let Form::Gemm { a, b, dims } = &self.clusters.values.all[first].form else { return None };
        let a = (self.operand(a.value), a.layout.clone());
        Some(GemmOperands { a, b: (self.operand(b.value), b.layout.clone()), dims: dims.clone() })
    }

    fn member(&mut self, id: Id, place: Place) {
        let value = &self.clusters.values.all[id];
        let result = match &value.form {
            Form::Map { expr, args } => self.expr(expr, args, &[], &value.ty.shape, place),
            Form::Reduce { combine, arg, .. } => {
                let arg = self.source(arg, &[], Place::Element);
                self.emit(Instr::Reduce(*combine, arg))
            }
            Form::Gather { table, index, stride, bound } => {
                let index = self.source(index, &[], place);
                let operand = self.operand(table.value);
                let layout =
                    self.domain_layout(&table.layout, place).unwrap_or_else(|| self.constant_layout());
                self.emit(Instr::Gather { operand, layout, index, stride: *stride, bound: *bound })
            }
            Form::Gemm { .. } => self.emit(Instr::Product),
            Form::Leaf(_) | Form::Pack { .. } => return,
        };
        self.held.insert(id, result);
    }

    /// Instructions for an expression whose inputs are `args`, all seen through further `views`.
    fn expr(
        &mut self,
        expr: &Expr,
        args: &[Source],
        views: &[View],
        shape: &[usize],
        place: Place,
    ) -> ValueId {
        match expr {
            Expr::Input(i) => self.source(&args[*i], views, place),
            Expr::Float(x) => self.emit(Instr::Float(*x)),
            Expr::U32(x) => self.emit(Instr::U32(*x)),
            Expr::Iota(strides) => {
                let layout = seen_through(iota_layout(shape, strides), views);
                let layout = layout
                    .and_then(|l| self.domain_layout(&l, place))
                    .unwrap_or_else(|| self.constant_layout());
                self.emit(Instr::Iota(layout))
            }
            Expr::Call(f, inner) => {
                let inner = inner.iter().map(|e| self.expr(e, args, views, shape, place)).collect();
                self.emit(Instr::Call(f, inner))
            }
        }
    }

    fn source(&mut self, source: &Source, views: &[View], place: Place) -> ValueId {
        if let Some(&held) = self.held.get(&source.value) {
            return held;
        }
        let value = &self.clusters.values.all[source.value];
        if self.clusters.is_light(source.value)
            && let Form::Map { expr, args } = &value.form
        {
            let all = [source.views.as_slice(), views].concat();
            return self.expr(expr, args, &all, &value.ty.shape, place);
        }
        let layout = seen_through(source.layout.clone(), views).and_then(|l| self.domain_layout(&l, place));
        match layout {
            Some(layout) => {
                let operand = self.operand(source.value);
                self.emit(Instr::Load { operand, layout })
            }
            None if value.ty.dtype == wgrad_graph::DType::U32 => self.emit(Instr::U32(0)),
            None => self.emit(Instr::Float(0.0)),
        }
    }

    /// A layout over the shape of a member as one over the domain in the order of the kernel; `None` where all is padding.
    fn domain_layout(&self, layout: &Layout, place: Place) -> Option<Layout> {
        let layout = squeezed(layout)?;
        let inner = self.cluster.inner.clone().unwrap_or_default();
        let rows = self.axes.len() - inner.len();
        Some(match place {
            Place::Element => layout.permute(&self.axes),
            Place::Row => {
                let position = (0..self.axes.len()).map(|i| (i < rows).then_some(i)).collect::<Vec<_>>();
                spread(&layout, &position, self.constant_layout().shape)
            }
        })
    }

    fn constant_layout(&self) -> Layout {
        let shape: Vec<usize> = self.axes.iter().map(|&a| self.cluster.dims[a]).collect();
        Layout::strided(&shape, vec![0; shape.len()], 0)
    }

    fn finish(self, gemm: Option<GemmOperands>) -> Draft {
        let inner = self.cluster.inner.clone().unwrap_or_default();
        let rows = self.axes.len() - inner.len();
        let domain = self.constant_layout().shape;
        let stored: Vec<(Id, Place)> = self
            .cluster
            .members
            .iter()
            .copied()
            .filter(|(id, _)| self.schedule.stored.contains(id))
            .collect();
        let stores = stored.iter().enumerate().map(|(i, &(id, place))| Store {
            value: self.held[&id],
            operand: self.loads.len() + i,
            layout: match place {
                Place::Element => Layout::contiguous(&self.cluster.dims).permute(&self.axes),
                Place::Row => Layout::contiguous(&self.cluster.row_dims()),
            },
        });
        let body = Loop {
            outer: domain[..rows].to_vec(),
            inner: domain[rows..].to_vec(),
            stores: stores.collect(),
            body: self.body,
        };
        let kernel = match gemm {
            None => Kernel::Loop(body),
            Some(operands) => Kernel::Gemm(gemm_kernel(operands, body)),
        };
        Draft {
            name: name(self.clusters, &self.cluster),
            kernel,
            loads: self.loads,
            stores: stored.into_iter().map(|(id, _)| id).collect(),
        }
    }
}

/// The epilogue's domain has no dimension of size 1 and lies in the order in which the product is stored; the kernel's has
/// batch, m and n, whatever their size.
fn gemm_kernel(operands: GemmOperands, mut epilogue: Loop) -> Gemm {
    let ((a, a_layout), (b, b_layout), dims) = (operands.a, operands.b, operands.dims);
    let [batch, m, k] = split(&a_layout.shape, [dims.batch, dims.rows]);
    let [_, _, n] = split(&b_layout.shape, [dims.batch, k.len()]);
    let domain = [batch.as_slice(), &m, &n].concat();
    let stored: Vec<usize> = dims.order.iter().map(|&dim| domain[dim]).collect();
    let mut kept = 0..;
    let squeezed: Vec<Option<usize>> =
        stored.iter().map(|&size| if size == 1 { None } else { kept.next() }).collect();
    let place = |dim| dims.order.iter().position(|&stored| stored == dim).and_then(|at| squeezed[at]);
    let position: Vec<Option<usize>> = (0..domain.len()).map(place).collect();
    for instr in &mut epilogue.body {
        if let Instr::Load { layout, .. } | Instr::Gather { layout, .. } | Instr::Iota(layout) = instr {
            *layout = spread(layout, &position, domain.clone());
        }
    }
    epilogue
        .stores
        .iter_mut()
        .for_each(|store| store.layout = spread(&store.layout, &position, domain.clone()));
    epilogue.outer = domain;
    Gemm { batch, m, n, k, a, a_layout, b, b_layout, epilogue }
}

/// The sizes of three groups of dimensions, of which the first two have these numbers of them.
fn split(shape: &[usize], [first, second]: [usize; 2]) -> [Vec<usize>; 3] {
    let (a, rest) = shape.split_at(first);
    let (b, c) = rest.split_at(second);
    [a.to_vec(), b.to_vec(), c.to_vec()]
}

/// A layout over a larger shape: each dimension of it is one of the layout's, or makes no difference.
fn spread(layout: &Layout, position: &[Option<usize>], shape: Vec<usize>) -> Layout {
    let spread = |strides: &[isize]| position.iter().map(|p| p.map_or(0, |i| strides[i])).collect();
    let bounds = layout.bounds.iter();
    let bounds = bounds.map(|bound| Bound { strides: spread(&bound.strides), ..bound.clone() }).collect();
    Layout { strides: spread(&layout.strides), shape, offset: layout.offset, bounds }
}

/// Reduced dimensions mean nothing in a cluster whose members all live in one place.
fn without_needless_inner(clusters: &Clusters<'_>, mut cluster: Cluster) -> Cluster {
    let reduces = |id: Id| matches!(clusters.values.all[id].form, Form::Reduce { .. });
    if cluster.inner.is_none() || cluster.members.iter().any(|(id, _)| reduces(*id)) {
        return cluster;
    }
    if cluster.members.iter().all(|(_, place)| *place == Place::Element) {
        cluster.inner = None;
    } else if cluster.members.iter().all(|(_, place)| *place == Place::Row) {
        cluster.dims = cluster.row_dims();
        cluster.inner = None;
        cluster.members.iter_mut().for_each(|(_, place)| *place = Place::Element);
    }
    cluster
}

/// The layer that most members belong to, and the operations in order, each once.
fn name(clusters: &Clusters<'_>, cluster: &Cluster) -> String {
    let values = cluster.members.iter().map(|(id, _)| &clusters.values.all[*id]);
    let mut operations: Vec<&str> = Vec::new();
    let mut path = "";
    for value in values {
        if !operations.contains(&value.name) {
            operations.push(value.name);
        }
        path = if path.is_empty() { &value.path } else { path };
    }
    let operations = match operations.as_slice() {
        [first, .., last] if operations.len() > 4 => format!("{first} … {last} ({})", operations.len()),
        all => all.join(" + "),
    };
    if path.is_empty() { operations } else { format!("{path}: {operations}") }
}

/// Work of a kernel; what is computed once a row counts once a row.
pub(crate) fn flops(kernel: &Kernel) -> u64 {
    match kernel {
        Kernel::Loop(body) => loop_flops(body),
        Kernel::Gemm(gemm) => {
            let elements = gemm.products() * gemm.rows() * gemm.columns();
            2 * elements as u64 * gemm.depth() as u64 + loop_flops(&gemm.epilogue)
        }
    }
}

fn loop_flops(body: &Loop) -> u64 {
    let varies = body.varies();
    let (rows, elements) = (body.rows() as u64, (body.rows() * body.columns()) as u64);
    let count = |(i, instr): (usize, &Instr)| match instr {
        Instr::Call(f, _) => u64::from(f.flops) * if varies[i] { elements } else { rows },
        Instr::Reduce(Combine::Sum | Combine::Max | Combine::Min | Combine::ArgMax, _) => elements,
        _ => 0,
    };
    body.body.iter().enumerate().map(count).sum()
}

impl Cost {
    /// The cost of a kernel from the bytes it reads and writes.
    pub(crate) fn of(kernel: &Kernel, read: usize, written: usize) -> Cost {
        Cost { flops: flops(kernel), read: read as u64, written: written as u64 }
    }
}
