//! Special registers by name.

use crate::program::Special;
use crate::program::op::Clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialKind {
    Fixed(Special),
    Clock32(Clock),
    Clock64(Clock),
}

const AXES: [&str; 4] = ["x", "y", "z", "w"];

/// The special register `name`, with its `%`.
pub fn special(name: &str) -> Option<SpecialKind> {
    let name = name.strip_prefix('%')?;
    if let Some((base, axis)) = name.split_once('.') {
        let axis = AXES.iter().position(|a| *a == axis)? as u8;
        return Some(SpecialKind::Fixed(match base {
            "tid" => Special::Tid(axis),
            "ntid" => Special::NTid(axis),
            "ctaid" => Special::CtaId(axis),
            "nctaid" => Special::NCtaId(axis),
            "clusterid" => Special::ClusterId(axis),
            "nclusterid" => Special::NClusterId(axis),
            "cluster_ctaid" => Special::ClusterCtaId(axis),
            "cluster_nctaid" => Special::ClusterNCtaId(axis),
            _ => return None,
        }));
    }
    Some(SpecialKind::Fixed(match name {
        "laneid" => Special::LaneId,
        "warpid" => Special::WarpId,
        "nwarpid" => Special::NWarpId,
        "smid" => Special::SmId,
        "nsmid" => Special::NSmId,
        "gridid" => Special::GridId,
        "cluster_ctarank" => Special::ClusterCtaRank,
        "cluster_nctarank" => Special::ClusterNCtaRank,
        "is_explicit_cluster" => Special::IsExplicitCluster,
        "lanemask_eq" => Special::LaneMaskEq,
        "lanemask_lt" => Special::LaneMaskLt,
        "lanemask_le" => Special::LaneMaskLe,
        "lanemask_gt" => Special::LaneMaskGt,
        "lanemask_ge" => Special::LaneMaskGe,
        "total_smem_size" | "aggr_smem_size" => Special::TotalSmemSize,
        "dynamic_smem_size" => Special::DynamicSmemSize,
        "reserved_smem_offset_begin" => Special::ReservedSmemBegin,
        "current_graph_exec" => Special::CurrentGraphExec,
        "reserved_smem_offset_end" | "reserved_smem_offset_cap" => Special::ReservedSmemEnd,
        "clock" => return Some(SpecialKind::Clock32(Clock::Cycles)),
        "clock_hi" => return Some(SpecialKind::Clock32(Clock::CyclesHigh)),
        "clock64" => return Some(SpecialKind::Clock64(Clock::Cycles)),
        "globaltimer" => return Some(SpecialKind::Clock64(Clock::Nanoseconds)),
        "globaltimer_lo" => return Some(SpecialKind::Clock32(Clock::Nanoseconds)),
        "globaltimer_hi" => return Some(SpecialKind::Clock32(Clock::NanosecondsHigh)),
        _ => return None,
    }))
}

/// Whether `name` is a special register this emulator knows.
pub fn is_special(name: &str) -> bool {
    special(name).is_some()
}
