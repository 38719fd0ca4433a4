//! Tile IR to Lane IR: register tiles become scalars, pipes become barriers and cursors, tiles of shared memory become
//! addresses and descriptors. One operation of Lane IR is one PTX instruction.
//!
//! | file | expands |
//! |---|---|
//! | `mod` | the kernel: parameters, barrier initialisation, role dispatch, the end |
//! | `control` | regions, loops, branches, cells |
//! | `scalar` | scalar operations |
//! | `pipe` | pipes, cursors, TMA |
//! | `address` | shared-memory addresses, fragment coordinates |
//! | `tensor_core` | wgmma, mma, ldmatrix, stmatrix |
//! | `global` | register tiles from and to global memory, cp.async |
//! | `rows` | memory by index: elements, gathered rows, cp.async of them |
//! | `run` | register tiles from elements in a row, without predicates |
//! | `shared` | ordinary loads and stores of shared tiles, bulk copies into stages |
//! | `tiles` | element-wise arithmetic |
//! | `packed` | elements that share registers: arithmetic on pairs, repetition, other views of the same bits |
//!
//! Hardware barrier 0 belongs to the whole CTA, 1 to 7 to the units' own `sync`, 8 to 15 to the template's barriers 0 to 7. An
//! eighth warpgroup's own is 8: with so many the template leaves its barrier 0 alone.

mod address;
mod atomics;
mod control;
mod global;
mod packed;
mod pipe;
mod rows;
mod run;
mod scalar;
mod shared;
mod tensor_core;
mod tiles;

use super::{PassError, estimate_resources, smem};
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::lane::Op as L;
use crate::lane::{self, Func, LaneBuilder, LaunchBounds, ParamKind, Space};
use crate::layout::Swizzle;
use crate::tile::{Kernel, Op, OpKind, Role, Ty, Unit, Value};
use address::SmemAddr;
use control::Cursor;
use rustc_hash::FxHashMap;

/// A tensor map a kernel takes: what the runtime hands to `cuTensorMapEncodeTiled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMapDesc {
    /// The tensor.
    pub tensor: String,
    /// Element type.
    pub dtype: DType,
    /// Extents as expressions, innermost first.
    pub dims: Vec<String>,
    /// Strides in bytes of extents 1 and up, as expressions.
    pub strides: Vec<String>,
    /// Box, innermost first, elements.
    pub box_dims: Vec<u32>,
    /// Swizzle.
    pub swizzle: Swizzle,
    /// True for a map that stores.
    pub written: bool,
}

/// What a kernel does with a tensor it has the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It only loads.
    Read,
    /// It stores; what it loads, it stored before.
    Write,
    /// What is there decides what will be there: atomic operations.
    Update,
}

/// A kernel parameter, in launch order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamDesc {
    /// A tensor map by value.
    TensorMap(TensorMapDesc),
    /// The address of a tensor, and what the kernel does there.
    Ptr(String, Touch),
    /// A scalar.
    Scalar(String, DType),
}

/// Expands a prepared kernel (barriers derived, memory planned, protocol checked).
pub fn expand(k: &Kernel) -> Result<(Func, Vec<ParamDesc>), PassError> {
    let estimate = estimate_resources(k)?;
    let func = Func {
        name: k.name.clone(),
        arch: k.arch,
        launch: LaunchBounds { threads: k.threads(), cluster: k.cluster, min_ctas: k.min_ctas, smem_bytes: k.smem_bytes() },
        params: Vec::new(),
        types: Vec::new(),
        blocks: Vec::new(),
        sources: k.sources.clone(),
    };
    let mut b = LaneBuilder::new(func);
    let tid = b.op(L::TidX, &[]);
    let smem_base = b.op(L::SmemBase, &[]);
    let smem_int = b.op(L::PtrToInt, &[smem_base]);
    let at = Thread { tid, lane: tid, warp: tid, unit_warp: tid, unit_tid: tid, unit_index: tid };
    let mut x = Expander {
        k,
        b,
        role: &k.roles[0],
        params: Vec::new(),
        env: FxHashMap::default(),
        cells: FxHashMap::default(),
        iotas: FxHashMap::default(),
        cursors: Vec::new(),
        smem_base,
        smem_int,
        at,
        first_warp: 0,
        loc: Default::default(),
    };
    x.kernel(estimate.launch_registers)?;
    Ok((x.b.func, x.params))
}

/// What a Tile IR value has become.
#[derive(Clone, Debug)]
enum Low {
    Scalar(lane::Value),
    /// Registers in layout order: one f32 each, or two 16-bit elements each.
    Regs(Vec<lane::Value>),
    Smem(SmemAddr),
}

/// Where this thread stands.
#[derive(Clone, Copy)]
struct Thread {
    /// In the CTA.
    tid: lane::Value,
    /// In the warp.
    lane: lane::Value,
    /// Warp of the CTA, uniform.
    warp: lane::Value,
    /// Warp in the unit.
    unit_warp: lane::Value,
    /// Thread in the unit.
    unit_tid: lane::Value,
    /// Unit (warpgroup) in the role, uniform.
    unit_index: lane::Value,
}

struct Expander<'k> {
    k: &'k Kernel,
    b: LaneBuilder,
    role: &'k Role,
    params: Vec<ParamDesc>,
    env: FxHashMap<Value, Low>,
    cells: FxHashMap<Value, Vec<lane::Value>>,
    /// Tiles of row or column numbers: the thread's part, and what each register adds.
    iotas: FxHashMap<Value, (lane::Value, Vec<u32>)>,
    cursors: Vec<Cursor>,
    smem_base: lane::Value,
    smem_int: lane::Value,
    at: Thread,
    /// First warp of the role.
    first_warp: u32,
    loc: crate::loc::Loc,
}

impl<'k> Expander<'k> {
    fn kernel(&mut self, launch_registers: u32) -> Result<(), PassError> {
        let tid = self.at.tid;
        self.at.lane = self.b.imm(L::And, tid, 31);
        let warp = self.b.imm(L::LShr, tid, 5);
        self.at.warp = self.uniform(warp);
        self.register_tensor_maps();
        self.init_barriers();
        let tail = self.b.block(&[]);
        self.dispatch(launch_registers, tail)?;
        self.b.switch_to(tail);
        if self.k.cluster_size() > 1 {
            // A CTA's shared memory must outlive its peers' multicasts and remote arrivals.
            self.b.effect(L::ClusterArrive, &[], Attrs::none());
            self.b.effect(L::ClusterWait, &[], Attrs::none());
        }
        self.b.terminate(lane::Term::Ret);
        Ok(())
    }

    /// Sends each warpgroup to its role; the last role takes what is left.
    fn dispatch(&mut self, launch_registers: u32, tail: lane::Block) -> Result<(), PassError> {
        let wg = self.b.imm(L::LShr, self.at.tid, 7);
        let wg = self.uniform(wg);
        let mut first_warp = 0;
        for (i, role) in self.k.roles.iter().enumerate() {
            if i + 1 == self.k.roles.len() {
                return self.role(role, launch_registers, first_warp, tail);
            }
            let (mine, other) = (self.b.block(&[]), self.b.block(&[]));
            let end = self.b.i32(i64::from((first_warp + role.warps) / 4));
            let here = self.b.icmp("slt", wg, end);
            self.b.cond_br(here, (mine, &[]), (other, &[]));
            self.b.switch_to(mine);
            self.role(role, launch_registers, first_warp, tail)?;
            self.b.switch_to(other);
            first_warp += role.warps;
        }
        Ok(())
    }

    /// Broadcasts a warp-uniform value, so that ptxas keeps it in uniform registers.
    pub(super) fn uniform(&mut self, v: lane::Value) -> lane::Value {
        let zero = self.b.i32(0);
        self.b.op(L::ShflIdx, &[v, zero])
    }

    fn role(&mut self, role: &'k Role, launch_registers: u32, first_warp: u32, tail: lane::Block) -> Result<(), PassError> {
        self.role = role;
        self.first_warp = first_warp;
        self.env.clear();
        self.cells.clear();
        self.iotas.clear();
        self.place(first_warp);
        let producers: Vec<bool> = self.k.pipes.iter().map(|p| acquires(role, &p.name)).collect();
        self.cursors = producers.into_iter().map(|producer| Cursor::start(&mut self.b, producer)).collect();
        if let Some(regs) = role.regs {
            let op = if regs < launch_registers { L::RegsDec } else { L::RegsInc };
            self.b.effect(op, &[], Attrs::none().int("n", i64::from(regs)));
        }
        if role.unit == Unit::Thread {
            let (mine, elected) = (self.b.block(&[]), self.b.block(&[]));
            let first = self.b.i32(i64::from(first_warp));
            let is_first = self.b.icmp("eq", self.at.warp, first);
            self.b.cond_br(is_first, (mine, &[]), (tail, &[]));
            self.b.switch_to(mine);
            let leader = self.b.op(L::Elect, &[]);
            self.b.cond_br(leader, (elected, &[]), (tail, &[]));
            self.b.switch_to(elected);
        }
        self.region(&role.body)?;
        self.b.br(tail, &[]);
        Ok(())
    }

    /// Threads that share a tile.
    fn unit_threads(&self) -> u32 {
        self.role.unit_threads()
    }

    /// Where the thread stands in its unit.
    fn place(&mut self, first_warp: u32) {
        let t = self.at;
        match self.role.unit {
            Unit::Warpgroup => {
                self.at.unit_warp = self.b.imm(L::And, t.warp, 3);
                self.at.unit_tid = self.b.imm(L::And, t.tid, 127);
                let wg = self.b.imm(L::LShr, t.warp, 2);
                self.at.unit_index = self.b.imm(L::ISub, wg, i64::from(first_warp / 4));
            }
            Unit::Thread | Unit::Role => {
                self.at.unit_warp = self.b.imm(L::ISub, t.warp, i64::from(first_warp));
                self.at.unit_tid = self.b.imm(L::ISub, t.tid, i64::from(first_warp * 32));
                self.at.unit_index = self.b.i32(0);
            }
        }
    }

    fn init_barriers(&mut self) {
        if self.k.barriers.is_empty() {
            return;
        }
        let (init, ready) = (self.b.block(&[]), self.b.block(&[]));
        let zero = self.b.i32(0);
        let first = self.b.icmp("eq", self.at.tid, zero);
        self.b.cond_br(first, (init, &[]), (ready, &[]));
        self.b.switch_to(init);
        for i in 0..self.params.len() {
            if matches!(self.params[i], ParamDesc::TensorMap(_)) {
                let map = self.param_value(i);
                self.b.effect(L::PrefetchMap, &[map], Attrs::none());
            }
        }
        for (plan, pipe) in self.k.barriers.iter().zip(&self.k.pipes) {
            for (side, count) in [("full", plan.full_arrivals), ("empty", plan.empty_arrivals)] {
                let offset = smem::offset(self.k, &format!("{}.{side}", pipe.name));
                for stage in 0..pipe.stages {
                    let at = self.b.ptr_offset(self.smem_base, i64::from(offset + 8 * stage));
                    let count = self.b.i32(i64::from(count));
                    self.b.effect(L::MbarInit, &[at, count], Attrs::none());
                }
            }
        }
        self.b.effect(L::MbarFence, &[], Attrs::none());
        self.b.br(ready, &[]);
        self.b.switch_to(ready);
        if self.k.cluster_size() > 1 {
            self.b.effect(L::ClusterArrive, &[], Attrs::none());
            self.b.effect(L::ClusterWait, &[], Attrs::none());
        } else {
            self.b.effect(L::BarAll, &[], Attrs::none());
        }
    }

    /// Tensor maps come first among the parameters: they want 64-byte alignment.
    fn register_tensor_maps(&mut self) {
        let mut maps = Vec::new();
        for role in &self.k.roles {
            role.body.walk(&mut |op| {
                if matches!(op.kind, OpKind::TmaLoad | OpKind::TmaStore) {
                    let map = self.map_of(op);
                    if !maps.contains(&map) {
                        maps.push(map);
                    }
                }
            });
        }
        for map in maps {
            self.param(ParamDesc::TensorMap(map));
        }
    }

    /// The tensor map a TMA operation uses: one box a panel, or this CTA's part of it.
    fn map_of(&self, op: &Op) -> TensorMapDesc {
        let name = op.attrs.get_sym("tensor");
        let tensor = self.k.tensor(name).expect("the verifier checked tensor names");
        let Ty::Smem(tile) = self.k.ty(op.args[0]) else { unreachable!("the verifier checked operand types") };
        let parts = self.multicast(op);
        let es = tensor.dtype.bytes();
        let dims: Vec<String> = tensor.dims.iter().rev().map(|d| d.expr()).collect();
        let mut strides = Vec::new();
        let mut product = format!("{es}");
        for d in &dims[..dims.len() - 1] {
            product = format!("{product}*{d}");
            strides.push(product.clone());
        }
        let mut box_dims = vec![1; dims.len()];
        box_dims[0] = tile.panel_cols();
        box_dims[self.row_coord(op, dims.len())] = tile.shape[0] / parts;
        TensorMapDesc {
            tensor: name.to_string(),
            dtype: tensor.dtype,
            dims,
            strides,
            box_dims,
            swizzle: tile.swizzle,
            written: op.kind == OpKind::TmaStore,
        }
    }

    /// Which coordinate, innermost first, a tile's rows run along.
    fn row_coord(&self, op: &Op, rank: usize) -> usize {
        op.attrs.get("row_dim").map_or(1, |_| rank - 1 - op.attrs.get_int("row_dim") as usize)
    }

    /// CTAs that share the loaded tile.
    fn multicast(&self, op: &Op) -> u32 {
        let pipe = self.k.pipe(op.attrs.get_sym("pipe"));
        pipe.and_then(|p| p.slots.get(op.attrs.get_int("slot") as usize)).map_or(1, |s| s.multicast)
    }

    /// The index of a parameter, added at its first use.
    fn param(&mut self, desc: ParamDesc) -> usize {
        if let Some(i) = self.params.iter().position(|p| *p == desc) {
            return i;
        }
        let (name, kind) = match &desc {
            ParamDesc::TensorMap(m) => (format!("map{}_{}", self.params.len(), m.tensor), ParamKind::TensorMap),
            ParamDesc::Ptr(t, touch) => (t.clone(), ParamKind::Global { align: 16, readonly: *touch == Touch::Read }),
            ParamDesc::Scalar(n, d) => {
                // An extent may be an expression, which is no name.
                let plain = n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                let name = if plain { n.clone() } else { format!("size{}", self.params.len()) };
                (name, ParamKind::Scalar(if *d == DType::F32 { lane::Ty::F32 } else { lane::Ty::I32 }))
            }
        };
        self.b.func.params.push(lane::Param { name, kind });
        self.params.push(desc);
        self.params.len() - 1
    }

    fn param_value(&mut self, index: usize) -> lane::Value {
        let ty = match self.b.func.params[index].kind {
            ParamKind::Global { .. } => lane::Ty::Ptr(Space::Global),
            ParamKind::Scalar(t) => t,
            ParamKind::TensorMap => lane::Ty::Ptr(Space::Generic),
        };
        self.b.inst(L::Param, &[], &[ty], Attrs::none().int("index", index as i64))[0]
    }

    fn touch(&self, tensor: &str) -> Touch {
        let (mut stores, mut updates) = (false, false);
        for r in &self.k.roles {
            r.body.walk(&mut |op| {
                use OpKind::*;
                if op.attrs.get_sym("tensor") == tensor {
                    stores |= matches!(op.kind, StTile | StoreElems | StoreRows);
                    updates |= matches!(op.kind, Atomic | AtomicCas | AddRows);
                }
            });
        }
        match (stores, updates) {
            (_, true) => Touch::Update,
            (true, false) => Touch::Write,
            (false, false) => Touch::Read,
        }
    }

    fn unsupported<T>(&self, what: String) -> Result<T, PassError> {
        Err(PassError::Unsupported { at: self.k.sources.display(self.loc), what })
    }
}

fn acquires(role: &Role, pipe: &str) -> bool {
    let mut hit = false;
    role.body.walk(&mut |op| hit |= op.kind == OpKind::PipeAcquire && op.attrs.get_sym("pipe") == pipe);
    hit
}
