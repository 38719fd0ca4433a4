//! The Tile IR kernel: resources, roles, regions of operations.

use super::table::OpKind;
use super::types::{SmemTile, Ty};
use crate::arch::Arch;
use crate::attr::Attrs;
use crate::dtype::DType;
use crate::loc::{Loc, SourceMap};

/// An SSA value of a [`Kernel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// One operation; structured ones carry regions.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// The table row.
    pub kind: OpKind,
    /// Operands.
    pub args: Vec<Value>,
    /// Results.
    pub outs: Vec<Value>,
    /// Compile-time constants.
    pub attrs: Attrs,
    /// Bodies.
    pub regions: Vec<Region>,
    /// The template's line.
    pub loc: Loc,
}

/// A list of operations with arguments (a loop's induction variable).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    /// Arguments.
    pub args: Vec<Value>,
    /// Operations in order.
    pub ops: Vec<Op>,
}

impl Region {
    /// Calls `f` on every operation, outermost first.
    pub fn walk<'a>(&'a self, f: &mut dyn FnMut(&'a Op)) {
        for op in &self.ops {
            f(op);
            op.regions.iter().for_each(|r| r.walk(f));
        }
    }

    /// Calls `f` on every list of operations, innermost first, to change it.
    pub fn rewrite(&mut self, f: &mut dyn FnMut(&mut Vec<Op>)) {
        for op in &mut self.ops {
            op.regions.iter_mut().for_each(|r| r.rewrite(f));
        }
        f(&mut self.ops);
    }
}

/// A scalar kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalarParam {
    /// Name: a shape variable (`m`, `n`, `k`, `batch`) or a number such as `alpha`.
    pub name: String,
    /// I32 or F32.
    pub dtype: DType,
}

/// An extent of a tensor: `factor * param`, or a constant where there is no parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim {
    /// The shape variable; for a leading extent also a product of them (`splits*batch`).
    pub param: Option<String>,
    /// Factor, or the constant itself.
    pub factor: u32,
}

impl Dim {
    /// The extent `param`.
    pub fn param(name: &str) -> Self {
        Dim { param: Some(name.to_string()), factor: 1 }
    }

    /// The extent as the runtime's expression text.
    pub fn expr(&self) -> String {
        match (&self.param, self.factor) {
            (Some(p), 1) => p.clone(),
            (Some(p), f) => format!("{f}*{p}"),
            (None, f) => f.to_string(),
        }
    }
}

/// A tensor in global memory, dense and row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name, as the plan binds it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; the last is contiguous.
    pub dims: Vec<Dim>,
}

/// One tile of a pipe's stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotDecl {
    /// The tile.
    pub tile: SmemTile,
    /// CTAs of the cluster that share this tile; each loads its part of the rows and sends it to all of them.
    pub multicast: u32,
}

/// A ring of stages between roles: full and empty barriers, tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeDecl {
    /// Name.
    pub name: String,
    /// Depth.
    pub stages: u32,
    /// Tiles of a stage.
    pub slots: Vec<SlotDecl>,
}

/// Shared memory that belongs to no pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Name.
    pub name: String,
    /// One copy.
    pub tile: SmemTile,
    /// Number of copies.
    pub copies: u32,
}

/// Who executes a role's code together: tiles are spread over the unit's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One elected thread.
    Thread,
    /// Each warpgroup for itself.
    Warpgroup,
    /// All warps of the role.
    Role,
}

/// Part of a CTA's warps and what they do.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Name.
    pub name: String,
    /// Warps; with several roles each is a multiple of four, since `setmaxnreg` works on warpgroups.
    pub warps: u32,
    /// Registers per thread to set, where the target can.
    pub regs: Option<u32>,
    /// Who executes it together.
    pub unit: Unit,
    /// What it does.
    pub body: Region,
}

impl Role {
    /// Threads that execute the code together.
    pub fn unit_threads(&self) -> u32 {
        match self.unit {
            Unit::Thread => 1,
            Unit::Warpgroup => 128,
            Unit::Role => self.warps * 32,
        }
    }

    /// Units there are of the role.
    pub fn units(&self) -> u32 {
        match self.unit {
            Unit::Warpgroup => self.warps / 4,
            Unit::Thread | Unit::Role => 1,
        }
    }
}

/// What `derive_barriers` worked out for one pipe: counts for the two barriers of each stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarrierPlan {
    /// The pipe.
    pub pipe: String,
    /// Arrivals that complete a full barrier's phase.
    pub full_arrivals: u32,
    /// Bytes that complete a full barrier's phase.
    pub tx_bytes: u32,
    /// Arrivals that complete an empty barrier's phase.
    pub empty_arrivals: u32,
}

/// Where `plan_smem` put a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmemPlan {
    /// `pipe.slot index`, buffer or barrier name.
    pub name: String,
    /// Offset from the start of dynamic shared memory, bytes.
    pub offset: u32,
    /// Bytes.
    pub bytes: u32,
}

/// What a probe's parameter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAxis {
    /// Iterations of the main loop.
    Trips,
    /// Output tiles.
    Tiles,
}

/// How the protocol check sets a shape variable to get the trip counts it wants: `param = unit * count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The shape variable.
    pub param: String,
    /// What one count is worth.
    pub unit: u32,
    /// What is counted.
    pub axis: ProbeAxis,
}

/// A kernel in Tile IR.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Entry name.
    pub name: String,
    /// GPU target.
    pub arch: Arch,
    /// CTAs of a cluster.
    pub cluster: [u32; 3],
    /// CTAs that must fit one SM.
    pub min_ctas: u32,
    /// Grid as the runtime's expressions.
    pub grid: [String; 3],
    /// Conditions on the shape, as the runtime's expressions (`k % 8 == 0`).
    pub requires: Vec<String>,
    /// How the protocol check reaches its trip counts.
    pub probes: Vec<Probe>,
    /// Scalar parameters.
    pub scalars: Vec<ScalarParam>,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// Pipes.
    pub pipes: Vec<PipeDecl>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// Filled by `derive_barriers`.
    pub barriers: Vec<BarrierPlan>,
    /// Filled by `plan_smem`.
    pub smem: Vec<SmemPlan>,
    /// Roles, in the order of their warps.
    pub roles: Vec<Role>,
    /// Types of all values.
    pub types: Vec<Ty>,
    /// Template source files.
    pub sources: SourceMap,
}

impl Kernel {
    /// A kernel without resources or roles.
    pub fn new(name: &str, arch: Arch) -> Self {
        let one = || "1".to_string();
        Kernel {
            name: name.to_string(),
            arch,
            cluster: [1, 1, 1],
            min_ctas: 1,
            grid: [one(), one(), one()],
            requires: Vec::new(),
            probes: Vec::new(),
            scalars: Vec::new(),
            tensors: Vec::new(),
            pipes: Vec::new(),
            buffers: Vec::new(),
            barriers: Vec::new(),
            smem: Vec::new(),
            roles: Vec::new(),
            types: Vec::new(),
            sources: SourceMap::default(),
        }
    }

    /// A value's type.
    pub fn ty(&self, v: Value) -> &Ty {
        &self.types[v.0 as usize]
    }

    /// A fresh value.
    pub fn new_value(&mut self, ty: Ty) -> Value {
        self.types.push(ty);
        Value(self.types.len() as u32 - 1)
    }

    /// Threads of a CTA.
    pub fn threads(&self) -> u32 {
        self.roles.iter().map(|r| r.warps * 32).sum()
    }

    /// CTAs of a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// A pipe by name.
    pub fn pipe(&self, name: &str) -> Option<&PipeDecl> {
        self.pipes.iter().find(|p| p.name == name)
    }

    /// Shared memory in all, bytes; 0 before `plan_smem`.
    pub fn smem_bytes(&self) -> u32 {
        self.smem.iter().map(|s| s.offset + s.bytes).max().unwrap_or(0)
    }
}
