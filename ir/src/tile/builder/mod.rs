//! The DSL: plain Rust that runs on the host and records Tile IR.
//!
//! ```
//! use tilewright_ir::tile::{Dim, KernelBuilder, Unit};
//! use tilewright_ir::{Arch, DType};
//!
//! let mut k = KernelBuilder::new("double", Arch::Sm80);
//! let n = k.shape("n");
//! let (x, y) = (k.tensor("x", DType::F32, [Dim::param("n")]), k.tensor("y", DType::F32, [Dim::param("n")]));
//! k.grid(["ceil_div(n,512)".into(), "1".into(), "1".into()]);
//! k.role("main", 4, None, Unit::Role, |r| {
//!     let cta = r.cta_id(0);
//!     let at = r.mul(cta, 512);
//!     let tile = r.load_blocked(&x, [1, 512], &[at], &[1], 4);
//!     let twice = r.binary("add", tile, tile);
//!     r.store_tile(&y, twice, &[at], 4);
//! });
//! let kernel = k.finish();
//! tilewright_ir::tile::verify(&kernel)?;
//! # let _ = n;
//! # Ok::<(), tilewright_ir::tile::TileError>(())
//! ```

mod gather;
mod movement;
mod role;
mod tiles;

use super::kernel::*;
use super::types::{SmemTile, Ty};
use crate::arch::Arch;
use crate::dtype::DType;
use crate::loc::Loc;
use std::panic::Location;

pub use role::{CmpPred, RoleBuilder};

/// A number known to all threads: an SSA value of scalar type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar(pub Value);

/// A number or a constant: what scalar operations take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A value.
    Value(Scalar),
    /// A literal.
    Literal(i64),
}

impl From<Scalar> for Operand {
    fn from(s: Scalar) -> Self {
        Operand::Value(s)
    }
}

impl From<i64> for Operand {
    fn from(v: i64) -> Self {
        Operand::Literal(v)
    }
}

impl From<u32> for Operand {
    fn from(v: u32) -> Self {
        Operand::Literal(i64::from(v))
    }
}

impl From<i32> for Operand {
    fn from(v: i32) -> Self {
        Operand::Literal(i64::from(v))
    }
}

/// A tile in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileRef(pub Value);

/// A tile in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmemRef(pub Value);

/// A place for a scalar or a register tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(pub Value);

/// A tensor parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// Name.
    pub name: String,
    /// Depth.
    pub stages: u32,
}

/// A shared-memory buffer with one or more copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Name.
    pub name: String,
    /// Copies.
    pub copies: u32,
}

/// Records a kernel: its resources first, then its roles.
pub struct KernelBuilder {
    kernel: Kernel,
}

impl KernelBuilder {
    /// An empty kernel.
    pub fn new(name: &str, arch: Arch) -> Self {
        KernelBuilder { kernel: Kernel::new(name, arch) }
    }

    /// The target.
    pub fn arch(&self) -> Arch {
        self.kernel.arch
    }

    /// A shape variable as an `i32` parameter.
    pub fn shape(&mut self, name: &str) -> String {
        self.scalar(name, DType::I32)
    }

    /// A scalar parameter.
    pub fn scalar(&mut self, name: &str, dtype: DType) -> String {
        if !self.kernel.scalars.iter().any(|s| s.name == name) {
            self.kernel.scalars.push(ScalarParam { name: name.to_string(), dtype });
        }
        name.to_string()
    }

    /// A dense row-major tensor; extents outermost first.
    pub fn tensor(&mut self, name: &str, dtype: DType, dims: impl IntoIterator<Item = Dim>) -> TensorRef {
        self.kernel.tensors.push(Tensor { name: name.to_string(), dtype, dims: dims.into_iter().collect() });
        TensorRef { name: name.to_string(), dtype }
    }

    /// A ring of stages, each with these tiles; the second number of a slot is how many CTAs of the cluster share it.
    pub fn pipe(&mut self, name: &str, stages: u32, slots: &[(DType, [u32; 2], u32)]) -> Pipe {
        let slots = slots
            .iter()
            .map(|(dtype, shape, multicast)| SlotDecl { tile: SmemTile::new(*dtype, *shape), multicast: *multicast })
            .collect();
        self.kernel.pipes.push(PipeDecl { name: name.to_string(), stages, slots });
        Pipe { name: name.to_string(), stages }
    }

    /// As [`Self::pipe`] with slots of any kind.
    pub fn pipe_of(&mut self, name: &str, stages: u32, slots: Vec<SlotDecl>) -> Pipe {
        self.kernel.pipes.push(PipeDecl { name: name.to_string(), stages, slots });
        Pipe { name: name.to_string(), stages }
    }

    /// Shared memory outside pipes, without a swizzle: for ordinary loads and stores.
    pub fn scratch(&mut self, name: &str, dtype: DType, shape: [u32; 2], copies: u32) -> Staging {
        self.kernel.buffers.push(Buffer { name: name.to_string(), tile: SmemTile::packed(dtype, shape), copies });
        Staging { name: name.to_string(), copies }
    }

    /// Shared memory outside pipes.
    pub fn buffer(&mut self, name: &str, dtype: DType, shape: [u32; 2], copies: u32) -> Staging {
        let tile = SmemTile::new(dtype, shape);
        self.kernel.buffers.push(Buffer { name: name.to_string(), tile, copies });
        Staging { name: name.to_string(), copies }
    }

    /// CTAs of a cluster, along x.
    pub fn cluster(&mut self, ctas: u32) {
        self.kernel.cluster = [ctas, 1, 1];
    }

    /// CTAs that must fit one SM.
    pub fn min_ctas(&mut self, ctas: u32) {
        self.kernel.min_ctas = ctas;
    }

    /// The grid, as the runtime's expressions over shape variables and `sms`.
    pub fn grid(&mut self, grid: [String; 3]) {
        self.kernel.grid = grid;
    }

    /// A condition on the shape, as the runtime's expression.
    pub fn require(&mut self, condition: impl Into<String>) {
        let condition = condition.into();
        if !self.kernel.requires.contains(&condition) {
            self.kernel.requires.push(condition);
        }
    }

    /// Tells the protocol check that `unit` of the shape variable `param` is one main-loop iteration, or one tile.
    pub fn probe(&mut self, param: &str, unit: u32, axis: ProbeAxis) {
        self.kernel.probes.push(Probe { param: param.to_string(), unit, axis });
    }

    /// Adds a role: `warps` warps execute `body`, which is recorded once.
    pub fn role(&mut self, name: &str, warps: u32, regs: Option<u32>, unit: Unit, body: impl FnOnce(&mut RoleBuilder)) {
        let mut r = RoleBuilder::new(&mut self.kernel, warps, unit);
        body(&mut r);
        let body = Region { args: Vec::new(), ops: r.finish() };
        self.kernel.roles.push(Role { name: name.to_string(), warps, regs, unit, body });
    }

    /// The kernel as recorded; verify it next.
    pub fn finish(self) -> Kernel {
        self.kernel
    }
}

/// The caller's source line as a location of the kernel.
fn here(kernel: &mut Kernel, at: &Location<'_>) -> Loc {
    kernel.sources.intern(at)
}

fn scalar_ty(dtype: DType) -> Ty {
    Ty::Scalar(dtype)
}
