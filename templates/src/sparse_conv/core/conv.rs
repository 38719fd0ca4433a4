//! A convolution as launches, once its lists are there: for each dataflow the core and what goes before and after it.

use super::super::pieces::{MapSet, PairTiles, Pairs, PlanBuilder, Tiles};
use super::super::problem::ConvProblem;
use super::class::{CoreClass, CoreError, EpilogueClass, Exit, Source, padded, vec_of};
use super::config::CoreConfig;
use super::finish::{FinishClass, finish_id, finish_kernel};
use super::gather::{gather_id, gather_kernel};
use super::kernel::{core_id, core_kernel};
use super::pad::{pad_id, pad_kernel, zero_id, zero_kernel};
use super::scatter::{scatter_id, scatter_kernel};
use crate::manifest::dtype;
use tilewright_ir::DType;
use tilewright_runtime::dtype::Dtype;

/// The tensors of a convolution by name, sizes as expressions.
#[derive(Clone, Copy, Debug)]
pub struct ConvIo<'a> {
    /// Features `[n, cin]`.
    pub x: &'a str,
    /// `[taps, cin, cout]`.
    pub weight: &'a str,
    /// `[cout]`, where the class has it.
    pub bias: Option<&'a str>,
    /// Scale and shift `[cout]`, where the class has them.
    pub bn: Option<[&'a str; 2]>,
    /// `[m, cout]`, where the class has it.
    pub residual: Option<&'a str>,
    /// `[m, cout]`, of the class's dtype; the piece fills its rows below the map's count.
    pub y: &'a str,
    /// Rows of `x`.
    pub n: &'a str,
    /// Channels in.
    pub cin: &'a str,
    /// Channels out.
    pub cout: &'a str,
    /// cin is no multiple of what a 16-byte access takes: features are copied to longer rows first.
    pub pad_cin: bool,
    /// cout is a multiple of this: what a 16-byte access takes, else 2 or 1, and the weight is copied to longer rows first.
    pub n_align: u32,
    /// Begins the names of workspaces, which no other piece of the plan has.
    pub prefix: &'a str,
}

/// A dataflow with its lists and configs.
#[derive(Clone, Copy, Debug)]
pub enum Flow<'a> {
    /// Implicit GEMM over tiles, sorted or not; several ranges of taps are summed in a second launch.
    Implicit {
        /// For tiles as high as the config's.
        tiles: &'a Tiles,
        /// Tiles of the multiplication.
        config: CoreConfig,
    },
    /// Fetch on demand in one launch: products are added atomically.
    FetchFused {
        /// Lists of the map.
        pairs: &'a Pairs,
        /// For tiles as high as the config's.
        tiles: &'a PairTiles,
        /// Tiles of the multiplication.
        config: CoreConfig,
    },
    /// Fetch on demand with a launch for each tap, in their order.
    FetchByTap {
        /// Lists of the map.
        pairs: &'a Pairs,
        /// Taps of the kernel: so many launches.
        taps: u32,
        /// Tiles of the multiplication.
        config: CoreConfig,
    },
    /// Gather, multiply, sum by output: a launch of the multiplication for each list of tiles, which share the pairs among them.
    GatherScatter {
        /// Lists of the map.
        pairs: &'a Pairs,
        /// Tiles and the config of their height.
        launches: &'a [(PairTiles, CoreConfig)],
    },
}

impl Flow<'_> {
    /// The map its lists were made of.
    pub fn map(&self) -> &MapSet {
        match self {
            Flow::Implicit { tiles, .. } => &tiles.map,
            Flow::FetchFused { pairs, .. } | Flow::FetchByTap { pairs, .. } | Flow::GatherScatter { pairs, .. } => &pairs.map,
        }
    }
}

/// Adds the launches of a convolution.
pub fn conv(pb: &mut PlanBuilder, p: &ConvProblem, flow: Flow, io: &ConvIo) -> Result<(), CoreError> {
    let gathers = matches!(flow, Flow::GatherScatter { .. });
    let mut x = Draft::new(p, io)?;
    x.pad(pb, &flow.map().taps, io.pad_cin && !gathers)?;
    match flow {
        Flow::Implicit { tiles, config } => x.implicit(pb, tiles, &config),
        Flow::FetchFused { pairs, tiles, config } => x.fetch_fused(pb, pairs, tiles, &config),
        Flow::FetchByTap { pairs, taps, config } => x.fetch_by_tap(pb, pairs, taps, &config),
        Flow::GatherScatter { pairs, launches } => x.gather_scatter(pb, pairs, launches),
    }
}

struct Draft<'a> {
    dtype: DType,
    epilogue: EpilogueClass,
    io: &'a ConvIo<'a>,
    /// Names of what is multiplied: as given, or padded copies.
    x: String,
    weight: String,
    /// Channels of these.
    cin: String,
}

type Binds<'b> = Vec<(&'b str, &'b str)>;

impl<'a> Draft<'a> {
    fn new(p: &ConvProblem, io: &'a ConvIo<'a>) -> Result<Self, CoreError> {
        let epilogue = EpilogueClass::from(p);
        epilogue.check(p.dtype)?;
        let named = [
            ("a bias", epilogue.bias.is_some(), io.bias.is_some()),
            ("a batch norm", epilogue.bn.is_some(), io.bn.is_some()),
            ("a residual", epilogue.residual, io.residual.is_some()),
        ];
        if let Some((what, ..)) = named.into_iter().find(|(_, has, given)| *has && !given) {
            return Err(CoreError::Missing(what));
        }
        let cin = if io.pad_cin { padded(io.cin, p.dtype) } else { io.cin.to_string() };
        Ok(Draft { dtype: p.dtype, epilogue, io, x: io.x.into(), weight: io.weight.into(), cin })
    }

    fn class(&self, source: Source, exit: Exit) -> CoreClass {
        let epilogue = if exit == Exit::Store { self.epilogue } else { EpilogueClass::NONE };
        CoreClass { dtype: self.dtype, source, exit, epilogue, n_align: self.io.n_align }
    }

    fn finish_class(&self) -> FinishClass {
        FinishClass { dtype: self.dtype, epilogue: self.epilogue, n_align: self.io.n_align }
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.io.prefix)
    }

    /// Copies what 16-byte accesses cannot address.
    fn pad(&mut self, pb: &mut PlanBuilder, taps: &str, features: bool) -> Result<(), CoreError> {
        let (io, d) = (self.io, self.dtype);
        let narrow = !io.n_align.is_multiple_of(vec_of(d));
        if features {
            self.x = pb.workspace(&self.name("x_padded"), dtype(d), &[io.n, &self.cin])?;
            let sizes = [("matrices", "1"), ("rows", io.n), ("cols", io.cin), ("to_rows", io.n), ("to_cols", &self.cin)];
            pb.launch(&pad_id(d), |arch| pad_kernel(arch, d), &[("x", io.x), ("y", &self.x)], &sets(&sizes))?;
        }
        if narrow || io.pad_cin {
            let cout = if narrow { padded(io.cout, d) } else { io.cout.to_string() };
            self.weight = pb.workspace(&self.name("weight_padded"), dtype(d), &[taps, &self.cin, &cout])?;
            let sizes = [("matrices", taps), ("rows", io.cin), ("cols", io.cout), ("to_rows", &self.cin), ("to_cols", &cout)];
            pb.launch(&pad_id(d), |arch| pad_kernel(arch, d), &[("x", io.weight), ("y", &self.weight)], &sets(&sizes))?;
        }
        Ok(())
    }

    fn implicit(&self, pb: &mut PlanBuilder, t: &Tiles, c: &CoreConfig) -> Result<(), CoreError> {
        height("tiles", t.bm, c)?;
        let (io, splits) = (self.io, t.splits.to_string());
        let exit = if t.splits > 1 { Exit::Slab } else { Exit::Store };
        let slabs = self.name("slabs");
        if exit == Exit::Slab {
            pb.workspace(&slabs, Dtype::F32, &[&splits, &t.map.rows, io.cout])?;
        }
        let mut binds: Binds =
            vec![("tile_taps", &t.tile_taps), ("tile_rows", &t.tile_rows), ("tile_out", &t.tile_out), ("count", &t.map.count)];
        binds.push(("y", if exit == Exit::Slab { &slabs } else { io.y }));
        let more = [("splits", &splits[..])];
        self.core(pb, &self.class(Source::Tiles, exit), c, &t.map, binds, &more)?;
        if exit == Exit::Slab {
            self.finish(pb, &slabs, &t.map.count, &t.map.rows, &splits)?;
        }
        Ok(())
    }

    fn fetch_fused(&self, pb: &mut PlanBuilder, p: &Pairs, t: &PairTiles, c: &CoreConfig) -> Result<(), CoreError> {
        height("pair tiles", t.bm, c)?;
        let sums = self.zeroed(pb, p)?;
        let binds: Binds =
            vec![("tiles", &t.tiles), ("tile_count", &t.count), ("pair_in", &p.pair_in), ("pair_out", &p.pair_out), ("y", &sums)];
        let more = [("pairs", &p.pairs[..]), ("most", &t.most)];
        self.core(pb, &self.class(Source::Pairs, Exit::AddAtomic), c, &p.map, binds, &more)?;
        self.finish(pb, &sums, &p.map.count, &p.map.rows, "1")
    }

    fn fetch_by_tap(&self, pb: &mut PlanBuilder, p: &Pairs, taps: u32, c: &CoreConfig) -> Result<(), CoreError> {
        let sums = self.zeroed(pb, p)?;
        let class = self.class(Source::Tap, Exit::AddPlain);
        for tap in 0..taps {
            let binds: Binds =
                vec![("tap_start", &p.tap_start), ("pair_in", &p.pair_in), ("pair_out", &p.pair_out), ("y", &sums)];
            let tap = tap.to_string();
            self.core(pb, &class, c, &p.map, binds, &[("pairs", &p.pairs), ("tap", &tap)])?;
        }
        self.finish(pb, &sums, &p.map.count, &p.map.rows, "1")
    }

    fn gather_scatter(&self, pb: &mut PlanBuilder, p: &Pairs, launches: &[(PairTiles, CoreConfig)]) -> Result<(), CoreError> {
        let (io, d, aligned) = (self.io, self.dtype, !self.io.pad_cin);
        let gathered = pb.workspace(&self.name("gathered"), dtype(d), &[&p.pairs, &self.cin])?;
        let products = pb.workspace(&self.name("products"), Dtype::F32, &[&p.pairs, io.cout])?;
        let binds = [("x", &self.x[..]), ("pair_in", &p.pair_in), ("tap_start", &p.tap_start), ("gathered", &gathered)];
        let sizes = [("n", io.n), ("pairs", &p.pairs), ("taps", &p.map.taps), ("cin", io.cin)];
        pb.launch(&gather_id(d, aligned), |arch| gather_kernel(arch, d, aligned), &binds, &sets(&sizes))?;
        let class = self.class(Source::Rows, Exit::PairRows);
        for (t, c) in launches {
            height("pair tiles", t.bm, c)?;
            let binds: Binds = vec![("x", &gathered), ("tiles", &t.tiles), ("tile_count", &t.count), ("y", &products)];
            self.core(pb, &class, c, &p.map, binds, &[("pairs", &p.pairs), ("most", &t.most)])?;
        }
        let class = self.finish_class();
        let mut binds: Binds = vec![("products", &products), ("pair_at", &p.pair_at), ("count", &p.map.count)];
        binds.extend(self.outputs());
        let sizes = [("m", &p.map.rows[..]), ("cout", io.cout), ("taps", &p.map.taps), ("pairs", &p.pairs)];
        pb.launch(&scatter_id(&class), |arch| scatter_kernel(arch, &class), &binds, &sets(&sizes))
    }

    /// f32 sums `[m, cout]`, zero.
    fn zeroed(&self, pb: &mut PlanBuilder, p: &Pairs) -> Result<String, CoreError> {
        let sums = pb.workspace(&self.name("sums"), Dtype::F32, &[&p.map.rows, self.io.cout])?;
        let wide = self.io.n_align.is_multiple_of(4);
        let sizes = [("rows", &p.map.rows[..]), ("cols", self.io.cout)];
        pb.launch(&zero_id(wide), |arch| zero_kernel(arch, wide), &[("y", &sums)], &sets(&sizes))?;
        Ok(sums)
    }

    /// The multiplication. `binds` may name `x` otherwise.
    fn core<'b>(
        &'b self,
        pb: &mut PlanBuilder,
        class: &CoreClass,
        c: &CoreConfig,
        map: &MapSet,
        mut binds: Binds<'b>,
        more: &[(&str, &str)],
    ) -> Result<(), CoreError> {
        binds.push(("weight", &self.weight));
        if !binds.iter().any(|b| b.0 == "x") {
            binds.push(("x", &self.x));
        }
        if class.exit == Exit::Store {
            binds.extend(self.vectors());
        }
        let mut sizes = vec![("m", &map.rows[..]), ("n", self.io.n), ("cin", &self.cin), ("cout", self.io.cout)];
        sizes.push(("taps", &map.taps));
        sizes.extend(more);
        pb.launch(&core_id(class, c), |arch| core_kernel(arch, class, c), &binds, &sets(&sizes))
    }

    fn finish(&self, pb: &mut PlanBuilder, sums: &str, count: &str, m: &str, splits: &str) -> Result<(), CoreError> {
        let class = self.finish_class();
        let mut binds: Binds = vec![("sums", sums), ("count", count)];
        binds.extend(self.outputs());
        let sizes = [("m", m), ("cout", self.io.cout), ("splits", splits)];
        pb.launch(&finish_id(&class), |arch| finish_kernel(arch, &class), &binds, &sets(&sizes))
    }

    /// What an epilogue reads.
    fn vectors(&self) -> Binds<'_> {
        let [scale, shift] = self.io.bn.map_or([None; 2], |names| names.map(Some));
        let all = [("bias", self.io.bias), ("bn_scale", scale), ("bn_shift", shift), ("residual", self.io.residual)];
        all.into_iter().filter_map(|(name, given)| Some((name, given?))).collect()
    }

    /// The output and what its epilogue reads.
    fn outputs(&self) -> Binds<'_> {
        let mut binds = self.vectors();
        binds.push(("y", self.io.y));
        binds
    }
}

fn height(list: &'static str, found: u32, c: &CoreConfig) -> Result<(), CoreError> {
    let [wanted, _] = c.tile();
    if found == wanted {
        return Ok(());
    }
    Err(CoreError::Lists { list, found, wanted, id: c.to_string() })
}

fn sets(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, e)| (name.to_string(), e.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::MmaConfig;
    use super::*;
    use crate::plan::OpPlan;
    use crate::sparse_conv::Mode;
    use tilewright_ir::Arch;

    fn io() -> ConvIo<'static> {
        ConvIo {
            x: "x",
            weight: "w",
            bias: None,
            bn: None,
            residual: None,
            y: "y",
            n: "n",
            cin: "4",
            cout: "20",
            pad_cin: true,
            n_align: 2,
            prefix: "a.",
        }
    }

    fn map() -> MapSet {
        let [map, count, rows, taps] = ["map", "count", "rows", "taps"].map(String::from);
        MapSet { map, count, rows, taps }
    }

    fn tiles(bm: u32, splits: u32) -> Tiles {
        let [tile_taps, tile_rows, tile_out, tiles] = ["tt", "tr", "to", "tiles"].map(String::from);
        Tiles { tile_taps, tile_rows, tile_out, bm, splits, tiles, map: map() }
    }

    fn pairs() -> Pairs {
        let [pair_in, pair_out, tap_start, pair_at, pairs] = ["pi", "po", "ts", "pa", "pairs"].map(String::from);
        Pairs { pair_in, pair_out, tap_start, pair_at, pairs, map: map() }
    }

    fn config() -> CoreConfig {
        CoreConfig::Mma(MmaConfig::new([64, 32, 16], 2))
    }

    fn planned(p: &ConvProblem, flow: Flow, io: &ConvIo) -> Result<OpPlan, CoreError> {
        let mut pb = PlanBuilder::new(Arch::Sm80, "test", "test", "");
        conv(&mut pb, p, flow, io)?;
        Ok(pb.finish()?)
    }

    #[test]
    fn launches_follow_from_the_dataflow() {
        let p = ConvProblem::plain(DType::BF16, Mode::Strided);
        let kernels = |flow: Flow, io: &ConvIo| -> Vec<String> {
            let plan = planned(&p, flow, io).unwrap().plan;
            plan.launches.into_iter().map(|l| l.kernel.split('_').take(3).collect::<Vec<_>>().join("_")).collect()
        };
        let (pad, core) = ("sparse_pad_bf16", "sparse_core_bf16");
        let aligned = ConvIo { pad_cin: false, n_align: 8, ..io() };
        assert_eq!(kernels(Flow::Implicit { tiles: &tiles(64, 1), config: config() }, &aligned), [core]);
        let split = Flow::Implicit { tiles: &tiles(64, 3), config: config() };
        assert_eq!(kernels(split, &io()), [pad, pad, core, "sparse_finish_bf16"]);
        let by_tap = Flow::FetchByTap { pairs: &pairs(), taps: 3, config: config() };
        assert_eq!(kernels(by_tap, &aligned), ["sparse_zero", core, core, core, "sparse_finish_bf16"]);
        // Gathering makes the longer rows itself.
        let list = PairTiles { tiles: "t".into(), count: "c".into(), most: "most".into(), bm: 64 };
        let launches = [(list, config())];
        let gather = Flow::GatherScatter { pairs: &pairs(), launches: &launches };
        assert_eq!(kernels(gather, &io()), [pad, "sparse_gather_bf16", core, "sparse_scatter_bf16"]);
    }

    #[test]
    fn lists_of_other_tiles_and_missing_tensors_are_refused() {
        let p = ConvProblem::plain(DType::F16, Mode::Strided);
        let lower = planned(&p, Flow::Implicit { tiles: &tiles(32, 1), config: config() }, &io()).unwrap_err();
        assert_eq!(lower.to_string(), format!("tiles are 32 rows high, those of config {} 64", config()));
        let biased = ConvProblem { bias: Some(DType::F16), ..p };
        let missing = planned(&biased, Flow::Implicit { tiles: &tiles(64, 1), config: config() }, &io()).unwrap_err();
        assert_eq!(missing, CoreError::Missing("a bias"));
    }
}
