//! Third stage of planning: generates the instructions of each kernel, with values instead of buffers as operands.

use std::collections::HashMap;

use wgrad_graph::{Bound, Combine, DType, Expr, Layout, View};
use wgrad_stdx::{InternalError, never};

use crate::cluster::{Cluster, ClusterId, Clusters, Granularity};
use crate::fuse::Schedule;
use crate::ir::{Cost, Gemm, Instr, Kernel, Loop, Store, ValueId};
use crate::value::{GemmDims, Id, Source, ValueKind, apply_views, iota_layout, squeeze_layout};

/// A kernel whose operands are values: first the loaded values, then the stored values.
#[derive(Debug)]
pub(crate) struct Draft {
    pub name: String,
    pub kernel: Kernel,
    pub loads: Vec<Id>,
    pub stores: Vec<Id>,
}

pub(crate) fn build_kernel(schedule: &Schedule<'_>, cluster: ClusterId) -> Result<Draft, InternalError> {
    let mut builder = Builder::new(schedule, cluster);
    let gemm = builder.gemm_operands();
    for &(id, granularity) in &builder.cluster.members.clone() {
        builder.emit_member(id, granularity)?;
    }
    builder.finish(gemm)
}

struct Builder<'s, 'v> {
    clusters: &'s Clusters<'v>,
    schedule: &'s Schedule<'v>,
    cluster: Cluster,
    /// Order of `cluster.dims` in the kernel's loops: rows first, then the reduced dimensions.
    axes: Vec<usize>,
    body: Vec<Instr>,
    emitted: HashMap<Instr, ValueId>,
    results: HashMap<Id, ValueId>,
    loads: Vec<Id>,
}

struct GemmOperands {
    a: (usize, Layout),
    b: (usize, Layout),
    dims: GemmDims,
}

impl<'s, 'v> Builder<'s, 'v> {
    fn new(schedule: &'s Schedule<'v>, id: ClusterId) -> Self {
        let clusters = &schedule.clusters;
        let cluster = drop_unused_inner(clusters, clusters.all[id].clone());
        let inner = cluster.inner.clone().unwrap_or_default();
        let axes =
            (0..cluster.dims.len()).filter(|i| !inner.contains(i)).chain(inner.iter().copied()).collect();
        let (body, emitted, results, loads) = Default::default();
        Self { clusters, schedule, cluster, axes, body, emitted, results, loads }
    }

    fn operand_number(&mut self, id: Id) -> usize {
        self.loads.iter().position(|&load| load == id).unwrap_or_else(|| {
            self.loads.push(id);
            self.loads.len() - 1
        })
    }

    fn emit(&mut self, instr: Instr) -> ValueId {
        if let Some(&emitted) = self.emitted.get(&instr) {
            return emitted;
        }
        self.body.push(instr.clone());
        self.emitted.insert(instr, self.body.len() - 1);
        self.body.len() - 1
    }

    fn gemm_operands(&mut self) -> Option<GemmOperands> {
        let (first, _) = *self.cluster.members.first()?;
        let ValueKind::Gemm { a, b, dims } = &self.clusters.values.all[first].kind else { return None };
        let a = (self.operand_number(a.value), a.layout.clone());
        Some(GemmOperands { a, b: (self.operand_number(b.value), b.layout.clone()), dims: dims.clone() })
    }

    fn emit_member(&mut self, id: Id, granularity: Granularity) -> Result<(), InternalError> {
        let value = &self.clusters.values.all[id];
        let result = match &value.kind {
            ValueKind::Map { expr, args } => self.emit_expr(expr, args, &[], &value.ty.shape, granularity)?,
            ValueKind::Reduce { combine, arg, .. } => {
                let arg = self.emit_source(arg, &[], Granularity::Element)?;
                self.emit(Instr::Reduce(*combine, arg))
            }
            ValueKind::Gather { table, index, stride, bound } => {
                let index = self.emit_source(index, &[], granularity)?;
                let operand = self.operand_number(table.value);
                let layout = self
                    .domain_layout(&table.layout, granularity)
                    .ok_or_else(|| never!("the table of `{}` is all padding", value.name))?;
                self.emit(Instr::Gather { operand, layout, index, stride: *stride, bound: *bound })
            }
            ValueKind::Gemm { .. } => self.emit(Instr::Product),
            ValueKind::Leaf(_) | ValueKind::Pack { .. } => {
                return Err(never!("`{}` is a leaf or a pack and needs no kernel", value.name));
            }
        };
        self.results.insert(id, result);
        Ok(())
    }

    /// Emits the instructions of an expression with inputs `args`, viewed through further `views`.
    fn emit_expr(
        &mut self,
        expr: &Expr,
        args: &[Source],
        views: &[View],
        shape: &[usize],
        granularity: Granularity,
    ) -> Result<ValueId, InternalError> {
        Ok(match expr {
            Expr::Input(i) => self.emit_source(&args[*i], views, granularity)?,
            Expr::Float(x) => self.emit(Instr::Float(*x)),
            Expr::U32(x) => self.emit(Instr::U32(*x)),
            Expr::Iota(strides) => {
                let layout = apply_views(iota_layout(shape, strides), views)
                    .and_then(|layout| self.domain_layout(&layout, granularity))
                    .ok_or_else(|| {
                        never!("no layout for an iota of shape {shape:?} inlined through {views:?}")
                    })?;
                self.emit(Instr::Iota(layout))
            }
            Expr::Call(f, inner) => {
                let inner = inner.iter().map(|e| self.emit_expr(e, args, views, shape, granularity));
                let inner = inner.collect::<Result<Vec<_>, _>>()?;
                self.emit(Instr::Call(f, inner))
            }
        })
    }

    fn emit_source(
        &mut self,
        source: &Source,
        views: &[View],
        granularity: Granularity,
    ) -> Result<ValueId, InternalError> {
        if let Some(&result) = self.results.get(&source.value) {
            return Ok(result);
        }
        let value = &self.clusters.values.all[source.value];
        if self.clusters.is_inlined(source.value)
            && let ValueKind::Map { expr, args } = &value.kind
        {
            let all = [source.views.as_slice(), views].concat();
            return self.emit_expr(expr, args, &all, &value.ty.shape, granularity);
        }
        let layout = apply_views(source.layout.clone(), views)
            .ok_or_else(|| never!("`{}` is inlined through {views:?}, which needs a copy", value.name))?;
        Ok(match self.domain_layout(&layout, granularity) {
            Some(layout) => {
                let operand = self.operand_number(source.value);
                self.emit(Instr::Load { operand, layout })
            }
            None if value.ty.dtype == DType::U32 => self.emit(Instr::U32(0)),
            None => self.emit(Instr::Float(0.0)),
        })
    }

    /// Converts a layout over the shape of a member to a layout over the domain, in the order of the kernel's loops.
    /// Returns `None` if the layout is all padding.
    fn domain_layout(&self, layout: &Layout, granularity: Granularity) -> Option<Layout> {
        let layout = squeeze_layout(layout)?;
        let inner = self.cluster.inner.clone().unwrap_or_default();
        let rows = self.axes.len() - inner.len();
        Some(match granularity {
            Granularity::Element => layout.permute(&self.axes),
            Granularity::Row => {
                let position = (0..self.axes.len()).map(|i| (i < rows).then_some(i)).collect::<Vec<_>>();
                expand_layout(&layout, &position, self.constant_layout().shape)
            }
        })
    }

    fn constant_layout(&self) -> Layout {
        let shape: Vec<usize> = self.axes.iter().map(|&a| self.cluster.dims[a]).collect();
        Layout::strided(&shape, vec![0; shape.len()], 0)
    }

    fn finish(self, gemm: Option<GemmOperands>) -> Result<Draft, InternalError> {
        let inner = self.cluster.inner.clone().unwrap_or_default();
        let rows = self.axes.len() - inner.len();
        let domain = self.constant_layout().shape;
        let stored: Vec<(Id, Granularity)> = self
            .cluster
            .members
            .iter()
            .copied()
            .filter(|(id, _)| self.schedule.stored.contains(id))
            .collect();
        let stores = stored.iter().enumerate().map(|(i, &(id, granularity))| {
            let result = self.results.get(&id);
            Ok(Store {
                value: *result.ok_or_else(|| never!("value {id} is stored but not computed"))?,
                operand: self.loads.len() + i,
                layout: match granularity {
                    Granularity::Element => Layout::contiguous(&self.cluster.dims).permute(&self.axes),
                    Granularity::Row => Layout::contiguous(&self.cluster.row_dims()),
                },
            })
        });
        let body = Loop {
            outer: domain[..rows].to_vec(),
            inner: domain[rows..].to_vec(),
            stores: stores.collect::<Result<_, InternalError>>()?,
            body: self.body,
        };
        let kernel = match gemm {
            None => Kernel::Loop(body),
            Some(operands) => Kernel::Gemm(gemm_kernel(operands, body)),
        };
        Ok(Draft {
            name: kernel_name(self.clusters, &self.cluster),
            kernel,
            loads: self.loads,
            stores: stored.into_iter().map(|(id, _)| id).collect(),
        })
    }
}

/// Builds a matrix product kernel. The domain of the given `epilogue` is in storage order without dimensions of size 1.
/// The domain of the kernel's epilogue consists of all batch, m and n dimensions, in this order.
fn gemm_kernel(operands: GemmOperands, mut epilogue: Loop) -> Gemm {
    let ((a, a_layout), (b, b_layout), dims) = (operands.a, operands.b, operands.dims);
    let [batch, m, k] = split_dims(&a_layout.shape, [dims.batch, dims.rows]);
    let [_, _, n] = split_dims(&b_layout.shape, [dims.batch, k.len()]);
    let domain = [batch.as_slice(), &m, &n].concat();
    let stored: Vec<usize> = dims.order.iter().map(|&dim| domain[dim]).collect();
    let mut kept = 0..;
    let squeezed_position: Vec<Option<usize>> =
        stored.iter().map(|&size| if size == 1 { None } else { kept.next() }).collect();
    let position_of =
        |dim| dims.order.iter().position(|&stored| stored == dim).and_then(|at| squeezed_position[at]);
    let position: Vec<Option<usize>> = (0..domain.len()).map(position_of).collect();
    for instr in &mut epilogue.body {
        if let Instr::Load { layout, .. } | Instr::Gather { layout, .. } | Instr::Iota(layout) = instr {
            *layout = expand_layout(layout, &position, domain.clone());
        }
    }
    epilogue
        .stores
        .iter_mut()
        .for_each(|store| store.layout = expand_layout(&store.layout, &position, domain.clone()));
    epilogue.outer = domain;
    Gemm { batch, m, n, k, a, a_layout, b, b_layout, epilogue }
}

/// Splits the sizes into three groups: the first `first` sizes, the next `second` sizes, and all remaining sizes.
fn split_dims(shape: &[usize], [first, second]: [usize; 2]) -> [Vec<usize>; 3] {
    let (a, rest) = shape.split_at(first);
    let (b, c) = rest.split_at(second);
    [a.to_vec(), b.to_vec(), c.to_vec()]
}

/// Expands a layout to a larger shape. Dimension i of the result is dimension `position[i]` of the layout, or broadcast
/// if `position[i]` is `None`.
fn expand_layout(layout: &Layout, position: &[Option<usize>], shape: Vec<usize>) -> Layout {
    let expand = |strides: &[isize]| position.iter().map(|p| p.map_or(0, |i| strides[i])).collect();
    let bounds = layout.bounds.iter();
    let bounds = bounds.map(|bound| Bound { strides: expand(&bound.strides), ..bound.clone() }).collect();
    Layout { strides: expand(&layout.strides), shape, offset: layout.offset, bounds }
}

/// Removes the reduced dimensions of a cluster that contains no reduction, if all members have the same granularity.
fn drop_unused_inner(clusters: &Clusters<'_>, mut cluster: Cluster) -> Cluster {
    let reduces = |id: Id| matches!(clusters.values.all[id].kind, ValueKind::Reduce { .. });
    if cluster.inner.is_none() || cluster.members.iter().any(|(id, _)| reduces(*id)) {
        return cluster;
    }
    if cluster.members.iter().all(|(_, granularity)| *granularity == Granularity::Element) {
        cluster.inner = None;
    } else if cluster.members.iter().all(|(_, granularity)| *granularity == Granularity::Row) {
        cluster.dims = cluster.row_dims();
        cluster.inner = None;
        cluster.members.iter_mut().for_each(|(_, granularity)| *granularity = Granularity::Element);
    }
    cluster
}

/// Returns the first layer path of the members, followed by the distinct names of their operations in order.
fn kernel_name(clusters: &Clusters<'_>, cluster: &Cluster) -> String {
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

/// Number of floating-point operations of a kernel. An instruction that is computed once per row counts once per row.
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
    /// Returns the cost of a kernel, given the bytes that it reads and writes.
    pub(crate) fn of(kernel: &Kernel, read: usize, written: usize) -> Cost {
        Cost { flops: flops(kernel), read: read as u64, written: written as u64 }
    }
}
