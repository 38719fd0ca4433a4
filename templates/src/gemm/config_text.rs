//! Config ids: text from and to axes.

use super::config::{Cluster, ConfigError, GemmConfig, MmaConfig, Schedule, WgmmaConfig};
use super::weight::{WeightMmaConfig, WeightWgmmaConfig};
use std::fmt;
use std::str::FromStr;

impl GemmConfig {
    /// Name and value of every axis, sorted by name.
    pub fn axes(&self) -> Vec<(&'static str, String)> {
        let mut list: Vec<(&'static str, String)> = match self {
            GemmConfig::Wgmma(c) => [
                ("kind", "wgmma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", c.bk.to_string()),
                ("stages", c.stages.to_string()),
                ("wgs", c.math_wgs.to_string()),
                ("schedule", if c.schedule == Schedule::PingPong { "pingpong" } else { "coop" }.into()),
                ("cluster", ["1x1", "2x1", "1x2"][c.cluster as usize].into()),
                ("raster", c.raster.to_string()),
                ("n_align", c.n_align.to_string()),
                ("split", u8::from(c.split).to_string()),
            ]
            .into_iter()
            .chain(c.promote.then(|| ("promote", "1".into())))
            .chain(c.pad.then(|| ("pad", "1".into())))
            .collect(),
            GemmConfig::Mma(c) => vec![
                ("kind", "mma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", c.bk.to_string()),
                ("stages", c.stages.to_string()),
                ("warps", format!("{}x{}", c.warps_m, c.warps_n)),
                ("raster", c.raster.to_string()),
                ("load_align", c.load_align.to_string()),
                ("n_align", c.n_align.to_string()),
                ("split", u8::from(c.split).to_string()),
            ],
            GemmConfig::WeightWgmma(c) => vec![
                ("kind", "weight_wgmma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", WeightWgmmaConfig::BK.to_string()),
                ("stages", c.stages.to_string()),
                ("raster", c.raster.to_string()),
                ("n_align", c.n_align.to_string()),
                ("stream", u8::from(c.stream).to_string()),
            ],
            GemmConfig::WeightMma(c) => vec![
                ("kind", "weight_mma".into()),
                ("bm", c.bm.to_string()),
                ("bn", c.bn.to_string()),
                ("bk", WeightWgmmaConfig::BK.to_string()),
                ("stages", c.stages.to_string()),
                ("wgs", c.wgs.to_string()),
                ("depth", c.depth.to_string()),
                ("load_align", c.load_align.to_string()),
                ("ctas", c.ctas.to_string()),
                ("split", u8::from(c.split).to_string()),
            ],
        };
        list.sort_unstable();
        list
    }

    /// A short name for entries and files: `wgmma_128x256x64_s4_w2_coop_2x1_a8`.
    pub fn slug(&self) -> String {
        let split = if self.split() { "_split" } else { "" };
        match self {
            GemmConfig::Wgmma(c) => {
                let schedule = if c.schedule == Schedule::PingPong { "pp" } else { "coop" };
                let cluster = ["1x1", "2x1", "1x2"][c.cluster as usize];
                let promote = if c.promote { "_promote" } else { "" };
                let pad = if c.pad { "_pad" } else { "" };
                format!(
                    "wgmma_{}x{}x{}_s{}_w{}_{schedule}_{cluster}_g{}_a{}{promote}{pad}{split}",
                    c.bm, c.bn, c.bk, c.stages, c.math_wgs, c.raster, c.n_align
                )
            }
            GemmConfig::Mma(c) => {
                format!(
                    "mma_{}x{}x{}_s{}_w{}x{}_g{}_l{}_a{}{split}",
                    c.bm, c.bn, c.bk, c.stages, c.warps_m, c.warps_n, c.raster, c.load_align, c.n_align
                )
            }
            GemmConfig::WeightWgmma(c) => {
                let stream = if c.stream { "_stream" } else { "" };
                format!("wwgmma_{}x{}_s{}_g{}_a{}{stream}", c.bm, c.bn, c.stages, c.raster, c.n_align)
            }
            GemmConfig::WeightMma(c) => {
                format!("w_mma_{}x{}_s{}_w{}_d{}_l{}_c{}{split}", c.bm, c.bn, c.stages, c.wgs, c.depth, c.load_align, c.ctas)
            }
        }
    }
}

impl fmt::Display for GemmConfig {
    /// The config's id: `bk=64,bm=128,...`, axes sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes: Vec<String> = self.axes().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        f.write_str(&axes.join(","))
    }
}

impl FromStr for GemmConfig {
    type Err = ConfigError;

    /// Reads an id; axes in any order, each exactly once.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why: String| ConfigError::Text { text: text.to_string(), why };
        let mut fields = std::collections::BTreeMap::new();
        for part in text.split(',') {
            let (k, v) = part.split_once('=').ok_or_else(|| fail(format!("`{part}` is not axis=value")))?;
            if fields.insert(k.trim(), v.trim()).is_some() {
                return Err(fail(format!("axis `{k}` stands twice")));
            }
        }
        // Named only where they are set.
        let mut flag = |key: &str| match fields.remove(key) {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(v) => Err(fail(format!("{key} = `{v}`: 0 or 1"))),
        };
        let (promote, pad) = (flag("promote")?, flag("pad")?);
        let mut take = |key: &str| fields.remove(key).ok_or_else(|| fail(format!("axis `{key}` is missing")));
        let number = |key: &str, v: &str| v.parse::<u32>().map_err(|_| fail(format!("{key} = `{v}` is not a number")));
        let choice = |key: &str, v: &str, names: &[&str]| {
            names.iter().position(|n| *n == v).ok_or_else(|| fail(format!("{key} = `{v}`: expected one of {}", names.join(", "))))
        };
        let kind = choice("kind", take("kind")?, &["wgmma", "mma", "weight_wgmma", "weight_mma"])?;
        if kind != 0 && (promote || pad) {
            return Err(fail("promote and pad are axes of kind=wgmma".to_string()));
        }
        let mut n = |key: &str| take(key).and_then(|v| number(key, v));
        let (bm, bn, bk, stages, split) =
            (n("bm")?, n("bn")?, n("bk")?, n("stages")?, n(if kind == 2 { "stream" } else { "split" })? != 0);
        if kind >= 2 && bk != WeightWgmmaConfig::BK {
            return Err(fail(format!("bk = {bk}: a stage of packed weights is {} columns", WeightWgmmaConfig::BK)));
        }
        let (raster, n_align) = if kind == 3 { (1, 1) } else { (n("raster")?, n("n_align")?) };
        let config = if kind == 0 {
            let math_wgs = n("wgs")?;
            let schedule =
                [Schedule::Cooperative, Schedule::PingPong][choice("schedule", take("schedule")?, &["coop", "pingpong"])?];
            let cluster =
                [Cluster::One, Cluster::TwoM, Cluster::TwoN][choice("cluster", take("cluster")?, &["1x1", "2x1", "1x2"])?];
            GemmConfig::Wgmma(WgmmaConfig {
                bm,
                bn,
                bk,
                stages,
                math_wgs,
                schedule,
                cluster,
                raster,
                n_align,
                split,
                promote,
                pad,
            })
        } else if kind == 3 {
            let (wgs, depth, load_align, ctas) = (n("wgs")?, n("depth")?, n("load_align")?, n("ctas")?);
            GemmConfig::WeightMma(WeightMmaConfig { bm, bn, wgs, stages, depth, load_align, ctas, split })
        } else if kind == 2 {
            GemmConfig::WeightWgmma(WeightWgmmaConfig { bm, bn, stages, raster, n_align, stream: split })
        } else {
            let load_align = n("load_align")?;
            let warps = take("warps")?;
            let (wm, wn) = warps.split_once('x').ok_or_else(|| fail(format!("warps = `{warps}` is not such as 2x4")))?;
            let (warps_m, warps_n) = (number("warps", wm)?, number("warps", wn)?);
            GemmConfig::Mma(MmaConfig { bm, bn, bk, stages, warps_m, warps_n, raster, load_align, n_align, split })
        };
        match fields.keys().next() {
            Some(k) => Err(fail(format!("unknown axis `{k}`"))),
            None => Ok(config),
        }
    }
}
