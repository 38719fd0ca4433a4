//! Resources of the Hopper kernel, and which CTA computes which tile.

use crate::gemm::config::{Cluster, WgmmaConfig};
use crate::gemm::grouped::TileList;
use crate::gemm::problem::{BLayout, GemmProblem, Groups};
use crate::gemm::quant;
use crate::gemm::scale::BlockScales;
use crate::gemm::tiles::{Raster, TileAt};
use tilewright_ir::tile::{Dim, KernelBuilder, Pipe, ProbeAxis, RoleBuilder, Scalar, Staging, TensorRef};

/// The kernel's resources.
pub(super) struct Ctx<'a> {
    pub p: &'a GemmProblem,
    pub c: &'a WgmmaConfig,
    pub a: TensorRef,
    pub b: TensorRef,
    pub d: TensorRef,
    pub ring: Pipe,
    pub staging: Option<Staging>,
    /// Factors of a quantised output.
    pub d_scale: Option<TensorRef>,
    /// Factors inside the main loop.
    pub blocks: BlockScales,
    /// The tiles of a grouped GEMM.
    pub list: Option<TileList>,
}

/// A CTA's tile: matrices, first row and column, and its range of k tiles.
pub(super) struct Work {
    /// Matrix of d.
    pub matrix: Scalar,
    /// Matrix of a.
    pub a: Scalar,
    /// Matrix of b.
    pub b: Scalar,
    pub row: Scalar,
    pub col: Scalar,
    /// Rows from the first on that are the tile's; `None` where only the end of the matrix limits them.
    pub rows: Option<Scalar>,
    pub k: [Scalar; 2],
}

impl<'a> Ctx<'a> {
    /// Declares tensors, ring, grid and conditions.
    pub fn declare(k: &mut KernelBuilder, p: &'a GemmProblem, c: &'a WgmmaConfig) -> Self {
        p.groups.declare(k);
        let (bm, bn, bk, gates) = (c.bm, c.bn, c.bk, p.gates());
        let n = Dim { param: Some("n".into()), factor: gates };
        let ([lead, rows], matrices) = (p.groups.rows(), p.groups.matrices());
        let a = k.tensor("a", p.input, [lead.clone(), rows.clone(), Dim::param("k")]);
        let (dims, tile) = match p.b {
            BLayout::Nk => ([matrices, n, Dim::param("k")], [bn / gates, bk]),
            BLayout::Kn => ([matrices, Dim::param("k"), n], [bk, bn / gates]),
        };
        let b = k.tensor("b", p.b_dtype(), dims);
        let output = if c.split { p.sums() } else { p.output };
        let lead = if c.split { Dim::param("splits*batch") } else { lead };
        let d = k.tensor("d", output, [lead, rows, Dim::param("n")]);
        let list = (p.groups != Groups::Batch).then(|| TileList::walked(k, p.groups, bm));
        let (share_a, share_b) = (c.cluster.sharing_a(), c.cluster.sharing_b());
        let mut slots = vec![(p.input, [bm, bk], share_a)];
        slots.extend((0..gates).map(|_| (p.b_dtype(), tile, share_b)));
        let ring = k.pipe("ab", c.stages, &slots);
        let staging = c.tma_store(p).then(|| k.buffer("out", p.output, [64, c.chunk(p)], 2 * c.math_wgs));
        k.cluster(c.cluster.ctas());
        let [cm, cn] = c.cluster_tile(p);
        let splits = if c.split { "*splits" } else { "" };
        let (tiles, ctas) = (p.groups.grid_tiles([cm, cn]) + splits, c.cluster.ctas());
        k.grid([format!("min({tiles},sms/{ctas})*{ctas}"), "1".into(), "1".into()]);
        if c.split {
            k.shape("splits");
            k.require(format!("splits <= ceil_div(k,{bk})"));
        }
        if c.n_align > 1 {
            k.require(format!("n % {} == 0", c.n_align));
        }
        k.probe("k", bk, ProbeAxis::Trips);
        if list.is_none() {
            k.probe("m", cm, ProbeAxis::Tiles);
        }
        let blocks = BlockScales::declare(k, p);
        let d_scale = quant::declare(k, p);
        Ctx { p, c, a, b, d, ring, staging, blocks, d_scale, list }
    }

    /// Tiles this cluster walks: first, end, step, and the raster that places them.
    pub fn walk(&self, r: &mut RoleBuilder) -> (Scalar, Scalar, Scalar, Raster) {
        let ctas = self.c.cluster.ctas();
        let tile = self.c.cluster_tile(self.p);
        let (raster, total) = match &self.list {
            None => {
                let raster = Raster::new(r, tile, self.c.raster);
                let matrices = self.matrices(r);
                (raster, r.mul(raster.per_matrix, matrices))
            }
            // The list is one tall matrix: tiles of an expert follow each other and share its columns of b.
            Some(list) => {
                let rows = list.count(r);
                let raster = Raster::of_rows(r, rows, tile[1], self.c.raster);
                (raster, raster.per_matrix)
            }
        };
        let (cta, n) = (r.cta_id(0), r.n_ctas());
        let (first, step) = (r.div(cta, ctas), r.div(n, ctas));
        (first, total, step, raster)
    }

    fn matrices(&self, r: &mut RoleBuilder) -> Scalar {
        let batch = r.param("batch");
        if !self.c.split {
            return batch;
        }
        let splits = r.param("splits");
        r.mul(batch, splits)
    }

    /// This CTA's tile of the cluster's.
    pub fn work(&self, r: &mut RoleBuilder, raster: &Raster, t: Scalar) -> Work {
        let TileAt { m, n, matrix } = raster.at(r, t);
        let rank = r.cluster_rank();
        let (mut m, mut n) = (m, n);
        let ctas = self.c.cluster.ctas();
        match self.c.cluster {
            Cluster::One => {}
            Cluster::TwoM => m = pair(r, m, ctas, rank),
            Cluster::TwoN => n = pair(r, n, ctas, rank),
        }
        let row = r.mul(m, self.c.bm);
        let col = r.mul(n, self.c.bn / self.p.gates());
        let kdim = r.param("k");
        let kt = r.ceil_div(kdim, self.c.bk);
        let k = if self.c.split {
            // Part s of S takes tiles s*T/S to (s+1)*T/S: never none, since S <= T.
            let (batch, splits) = (r.param("batch"), r.param("splits"));
            let part = r.div(matrix, batch);
            let next = r.add(part, 1);
            [part, next].map(|s| {
                let s = r.mul(s, kt);
                r.div(s, splits)
            })
        } else {
            [r.int(0), kt]
        };
        if let Some(list) = &self.list {
            let t = list.entry(r, self.p.groups, m);
            return Work { matrix: t.matrix, a: t.matrix, b: t.expert, row: t.row, col, rows: Some(t.rows), k };
        }
        let source = if self.c.split {
            let batch = r.param("batch");
            r.rem(matrix, batch)
        } else {
            matrix
        };
        Work { matrix, a: source, b: source, row, col, rows: None, k }
    }
}

/// Tile `2 i + rank` of a pair.
fn pair(r: &mut RoleBuilder, i: Scalar, ctas: u32, rank: Scalar) -> Scalar {
    let first = r.mul(i, ctas);
    r.add(first, rank)
}
