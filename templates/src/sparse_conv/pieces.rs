//! Plans put together from pieces: each piece adds launches and hands on the names of the tensors it filled.

use crate::manifest::expr;
use crate::plan::{OpPlan, TemplateKernel};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_ir::Arch;
use tilewright_runtime::dtype::Dtype;
use tilewright_runtime::expr::ParseError;
use tilewright_runtime::plan::{Plan, PlanLaunch, PlanTensor, Role};

/// Variables of one launch over those of the problem: name and expression.
pub type Sets = Vec<(String, String)>;

/// A plan in the making.
#[derive(Debug)]
pub struct PlanBuilder {
    arch: Arch,
    id: String,
    op: String,
    class: String,
    tensors: Vec<PlanTensor>,
    launches: Vec<PlanLaunch>,
    kernels: Vec<TemplateKernel>,
    known: BTreeSet<String>,
    requires: Vec<String>,
}

/// Voxels: tensors by name, sizes as expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordSet {
    /// I32 `[rows, 4]`: batch, x, y, z.
    pub coords: String,
    /// I32 `[1]`: how many rows exist.
    pub count: String,
    /// I32 `[slots]`: the hash table of the rows, where one was made.
    pub table: String,
    /// Capacity in rows.
    pub rows: String,
    /// Slots of the table.
    pub slots: String,
}

/// A kernel map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSet {
    /// I32 `[rows, taps]`: row of the input or -1, -1 in rows that do not exist.
    pub map: String,
    /// I32 `[1]`: rows that exist.
    pub count: String,
    /// Capacity in rows.
    pub rows: String,
    /// Taps of the kernel.
    pub taps: String,
}

/// The lists that implicit GEMM walks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// I32 `[splits*tiles, ceil(taps/splits) + 1]`: how many taps, then which.
    pub tile_taps: String,
    /// I32 `[splits*tiles, ceil(taps/splits), bm]`: input rows of each of these taps.
    pub tile_rows: String,
    /// I32 `[splits*tiles, bm]`: output rows.
    pub tile_out: String,
    /// Rows of a tile.
    pub bm: u32,
    /// Ranges of taps.
    pub splits: u32,
    /// `tiles` of a split, as an expression.
    pub tiles: String,
    /// The map they were made of.
    pub map: MapSet,
}

/// A map as pairs, tap by tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// I32 `[pairs]`: input rows.
    pub pair_in: String,
    /// I32 `[pairs]`: output rows.
    pub pair_out: String,
    /// I32 `[taps + 1]`: where each tap's pairs begin.
    pub tap_start: String,
    /// I32 `[rows, taps]`: the pair of a map's entry or -1.
    pub pair_at: String,
    /// Capacity in pairs.
    pub pairs: String,
    /// The map they were made of.
    pub map: MapSet,
}

/// Pairs cut into tiles of one tap each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairTiles {
    /// I32 `[most, 3]`: tap, first pair, pairs.
    pub tiles: String,
    /// I32 `[1]`: how many there are.
    pub count: String,
    /// Most there can be.
    pub most: String,
    /// Pairs of a full tile.
    pub bm: u32,
}

impl PlanBuilder {
    /// An empty plan for a target.
    pub fn new(arch: Arch, op: &str, id: &str, class: &str) -> Self {
        PlanBuilder {
            arch,
            id: id.into(),
            op: op.into(),
            class: class.into(),
            tensors: Vec::new(),
            launches: Vec::new(),
            kernels: Vec::new(),
            known: BTreeSet::new(),
            requires: Vec::new(),
        }
    }

    /// The target.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Adds a tensor; `shape` holds expressions, outermost first.
    pub fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[&str], role: Role) -> Result<String, ParseError> {
        let shape = shape.iter().map(|e| expr(e)).collect::<Result<_, _>>()?;
        self.tensors.push(PlanTensor { name: name.into(), dtype, shape, role });
        Ok(name.into())
    }

    /// Adds a tensor that the runtime provides.
    pub fn workspace(&mut self, name: &str, dtype: Dtype, shape: &[&str]) -> Result<String, ParseError> {
        self.tensor(name, dtype, shape, Role::Workspace)
    }

    /// Whether a tensor of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|t| t.name == name)
    }

    /// Adds a condition of the plan.
    pub fn require(&mut self, condition: impl Into<String>) {
        self.requires.push(condition.into());
    }

    /// Adds a launch. The kernel comes from `make` the first time its id is met. Its tensors are the plan's of the same names,
    /// but for those that `binds` names: the kernel's name, the plan's name.
    pub fn launch<E>(
        &mut self,
        id: &str,
        make: impl FnOnce(Arch) -> Result<TemplateKernel, E>,
        binds: &[(&str, &str)],
        sets: &[(String, String)],
    ) -> Result<(), E>
    where
        E: From<ParseError>,
    {
        if !self.known.contains(id) {
            let kernel = make(self.arch)?;
            debug_assert_eq!(kernel.id, id);
            self.known.insert(id.into());
            self.kernels.push(kernel);
        }
        let kernel = self.kernels.iter().find(|k| k.id == id).expect("the kernel was just added");
        let bound = |name: &str| binds.iter().find(|b| b.0 == name).map_or(name, |b| b.1).to_string();
        let binds = kernel.kernel.tensors.iter().map(|t| (t.name.clone(), bound(&t.name))).collect();
        let sets = sets.iter().map(|(n, e)| Ok((n.clone(), expr(e)?))).collect::<Result<BTreeMap<_, _>, ParseError>>()?;
        self.launches.push(PlanLaunch { kernel: id.into(), binds, sets });
        Ok(())
    }

    /// The plan and its kernels.
    pub fn finish(self) -> Result<OpPlan, ParseError> {
        let requires = self.requires.iter().map(|r| expr(r)).collect::<Result<_, _>>()?;
        let (id, op, class, tensors, launches) = (self.id, self.op, self.class, self.tensors, self.launches);
        Ok(OpPlan { plan: Plan { id, op, class, tensors, launches, requires }, kernels: self.kernels })
    }
}
