//! The tests. The verdicts follow from PTX ISA chapter 8: a race is a pair of conflicting operations that causality
//! order (8.9.5) leaves unordered and that are not morally strong (8.7.1); proxies are ordered by proxy fences only (8.6).

use crate::program::{Place, Space};

/// What the memory model says of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// No race in any execution.
    Free,
    /// A data race.
    Race,
    /// A data race of writes of the same value.
    RaceEqual,
    /// The accesses are ordered, but of different proxies without a proxy fence between.
    Proxy,
}

pub struct Litmus {
    pub name: &'static str,
    pub place: Place,
    pub space: Space,
    pub verdict: Verdict,
    pub threads: &'static [&'static [&'static str]],
}

macro_rules! litmus {
    ($($name:literal $place:ident $space:ident $verdict:ident: $([$($op:literal),*])|+;)*) => {
        &[$(Litmus {
            name: $name,
            place: Place::$place,
            space: Space::$space,
            verdict: Verdict::$verdict,
            threads: &[$(&[$($op),*]),+],
        }),*]
    };
}

pub const CASES: &[Litmus] = litmus! {
    // Message passing between blocks.
    "mp weak" Blocks Global Race: ["st x 1", "st f 1"] | ["ld f", "ld x"];
    "mp release acquire" Blocks Global Free: ["st x 1", "st.release.gpu f 1"] | ["poll.acquire.gpu f", "see x 1"];
    "mp release acquire sys" Blocks Global Free: ["st x 1", "st.release.sys f 1"] | ["poll.acquire.sys f", "see x 1"];
    "mp release sys, acquire gpu" Blocks Global Free: ["st x 1", "st.release.sys f 1"] | ["poll.acquire.gpu f", "see x 1"];
    "mp release relaxed" Blocks Global Race: ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "ld x"];
    "mp relaxed acquire" Blocks Global Race: ["st x 1", "st.relaxed.gpu f 1"] | ["poll.acquire.gpu f", "ld x"];
    "mp relaxed" Blocks Global Race: ["st x 1", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "ld x"];
    "mp all relaxed" Blocks Global Free: ["st.relaxed.gpu x 1", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "ld.relaxed.gpu x"];
    "mp scope cta" Blocks Global Race: ["st x 1", "st.release.cta f 1"] | ["poll.acquire.cta f", "ld x"];
    "mp scope cluster" Blocks Global Race: ["st x 1", "st.release.cluster f 1"] | ["poll.acquire.cluster f", "ld x"];
    "mp writer's scope too narrow" Blocks Global Race: ["st x 1", "st.release.cta f 1"] | ["poll.acquire.gpu f", "ld x"];
    "mp reader's scope too narrow" Blocks Global Race: ["st x 1", "st.release.gpu f 1"] | ["poll.acquire.cta f", "ld x"];
    "mp fences" Blocks Global Free:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "fence.acq_rel.gpu", "see x 1"];
    "mp fence, acquire" Blocks Global Free:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["poll.acquire.gpu f", "see x 1"];
    "mp release, fence" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "fence.acq_rel.gpu", "see x 1"];
    "mp fences sc" Blocks Global Free:
        ["st x 1", "fence.sc.gpu", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "fence.sc.gpu", "see x 1"];
    "mp fences of a block" Blocks Global Race:
        ["st x 1", "fence.acq_rel.cta", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "fence.acq_rel.cta", "ld x"];
    "mp writer's fence late" Blocks Global Race:
        ["st x 1", "st.relaxed.gpu f 1", "fence.acq_rel.gpu"] | ["poll.relaxed.gpu f", "fence.acq_rel.gpu", "ld x"];
    "mp writer's fence early" Blocks Global Race:
        ["fence.acq_rel.gpu", "st x 1", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "fence.acq_rel.gpu", "ld x"];
    "mp reader's fence early" Blocks Global Race:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["fence.acq_rel.gpu", "poll.relaxed.gpu f", "ld x"];
    "mp reader's fence late" Blocks Global Race:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "ld x", "fence.acq_rel.gpu"];
    "mp only the writer's fence" Blocks Global Race:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "ld x"];
    "mp membar volatile" Blocks Global Free:
        ["st x 1", "membar.gl", "st.volatile f 1"] | ["poll.volatile f", "membar.gl", "see x 1"];
    "mp volatile" Blocks Global Race: ["st x 1", "st.volatile f 1"] | ["poll.volatile f", "ld x"];
    "mp release exchange" Blocks Global Free: ["st x 1", "atom.release.gpu exch f 1"] | ["poll.acquire.gpu f", "see x 1"];
    "mp release reduction" Blocks Global Free: ["st x 1", "red.release.gpu add f 1"] | ["poll.acquire.gpu f", "see x 1"];
    "mp atomics by default" Blocks Global Race: ["st x 1", "atom add f 1"] | ["poll.acquire.gpu f", "ld x"];
    "mp fence, reduction by default" Blocks Global Free:
        ["st x 1", "fence.acq_rel.gpu", "red add f 1"] | ["poll.acquire.gpu f", "see x 1"];

    "mp release, then a relaxed store" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1", "st.relaxed.gpu f 2"] | ["poll.acquire.gpu f 2", "see x 1"];
    "mp relaxed loads, then an acquire" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "ld.acquire.gpu f", "see x 1"];
    "mp acquire of another variable" Blocks Global Race:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "ld.acquire.gpu g", "ld x"];

    // Longer chains.
    "release sequence" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "atom.relaxed.gpu add f 1"] | ["poll.acquire.gpu f 2", "see x 1"];
    // The store to g says that f is overwritten already.
    "release sequence cut by a store" Blocks Global Race:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "st.relaxed.gpu f 2", "st.relaxed.gpu g 1"]
        | ["poll.relaxed.gpu g", "ld.acquire.gpu f", "ld x"];
    "two releases, one acquire" Blocks Global Free:
        ["st x 1", "atom.acq_rel.gpu add f 1"] | ["st y 1", "atom.acq_rel.gpu add f 1"]
        | ["poll.acquire.gpu f 2", "see x 1", "see y 1"];
    "two relaxed additions" Blocks Global Race:
        ["st x 1", "atom.relaxed.gpu add f 1"] | ["st y 1", "atom.relaxed.gpu add f 1"]
        | ["poll.acquire.gpu f 2", "ld x", "ld y"];
    "chain" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1"] | ["poll.acquire.gpu f", "st.release.gpu g 1"] | ["poll.acquire.gpu g", "see x 1"];
    "chain with a relaxed middle" Blocks Global Race:
        ["st x 1", "st.release.gpu f 1"] | ["poll.relaxed.gpu f", "st.release.gpu g 1"] | ["poll.acquire.gpu g", "ld x"];
    "chain with a relaxed end" Blocks Global Race:
        ["st x 1", "st.release.gpu f 1"] | ["poll.acquire.gpu f", "st.relaxed.gpu g 1"] | ["poll.acquire.gpu g", "ld x"];
    "chain of fences" Blocks Global Free:
        ["st x 1", "fence.acq_rel.gpu", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "fence.acq_rel.gpu", "st.relaxed.gpu g 1"]
        | ["poll.relaxed.gpu g", "fence.acq_rel.gpu", "see x 1"];
    "write after read, released" Blocks Global Free: ["ld x", "st.release.gpu f 1"] | ["poll.acquire.gpu f", "st x 1"];
    "write after read, relaxed" Blocks Global Race: ["ld x", "st.relaxed.gpu f 1"] | ["poll.relaxed.gpu f", "st x 1"];
    "write after write, released" Blocks Global Free: ["st x 2", "st.release.gpu f 1"] | ["poll.acquire.gpu f", "st x 1"];
    "there and back" Blocks Global Free:
        ["st x 1", "st.release.gpu f 1", "poll.acquire.gpu g", "see x 2"]
        | ["poll.acquire.gpu f", "see x 1", "st x 2", "st.release.gpu g 1"];
    "there and back relaxed" Blocks Global Race:
        ["st x 1", "st.release.gpu f 1", "poll.relaxed.gpu g", "ld x"]
        | ["poll.acquire.gpu f", "see x 1", "st x 2", "st.release.gpu g 1"];

    // Store buffering, load buffering, independent reads, coherence.
    "sb weak" Blocks Global Race: ["st x 1", "ld y"] | ["st y 1", "ld x"];
    "sb relaxed" Blocks Global Free: ["st.relaxed.gpu x 1", "ld.relaxed.gpu y"] | ["st.relaxed.gpu y 1", "ld.relaxed.gpu x"];
    "sb relaxed of a block" Blocks Global Race:
        ["st.relaxed.cta x 1", "ld.relaxed.cta y"] | ["st.relaxed.cta y 1", "ld.relaxed.cta x"];
    "sb weak with fences" Blocks Global Race: ["st x 1", "fence.sc.gpu", "ld y"] | ["st y 1", "fence.sc.gpu", "ld x"];
    "sb relaxed with fences" Blocks Global Free:
        ["st.relaxed.gpu x 1", "fence.sc.gpu", "ld.relaxed.gpu y"] | ["st.relaxed.gpu y 1", "fence.sc.gpu", "ld.relaxed.gpu x"];
    "lb weak" Blocks Global Race: ["ld x", "st y 1"] | ["ld y", "st x 1"];
    "lb relaxed" Blocks Global Free: ["ld.relaxed.gpu x", "st.relaxed.gpu y 1"] | ["ld.relaxed.gpu y", "st.relaxed.gpu x 1"];
    "iriw relaxed" Blocks Global Free:
        ["st.relaxed.gpu x 1"] | ["st.relaxed.gpu y 1"] | ["ld.relaxed.gpu x", "ld.relaxed.gpu y"]
        | ["ld.relaxed.gpu y", "ld.relaxed.gpu x"];
    "iriw weak writes" Blocks Global Race:
        ["st x 1"] | ["st y 1"] | ["ld.relaxed.gpu x", "ld.relaxed.gpu y"] | ["ld.relaxed.gpu y", "ld.relaxed.gpu x"];
    "iriw volatile" Blocks Global Free:
        ["st.volatile x 1"] | ["st.volatile y 1"] | ["ld.volatile x", "ld.volatile y"] | ["ld.volatile y", "ld.volatile x"];
    "coww" Blocks Global Race: ["st x 1"] | ["st x 2"];
    "coww equal" Blocks Global RaceEqual: ["st x 1"] | ["st x 1"];
    "coww relaxed" Blocks Global Free: ["st.relaxed.gpu x 1"] | ["st.relaxed.gpu x 2"];
    "coww half relaxed" Blocks Global Race: ["st.relaxed.gpu x 1"] | ["st x 2"];
    "corr" Blocks Global Free: ["ld x", "ld x"] | ["ld x", "ld x"];
    "corw relaxed" Blocks Global Free: ["ld.relaxed.gpu x", "st.relaxed.gpu x 1"] | ["st.relaxed.gpu x 2"];
    "atomics" Blocks Global Free: ["atom add x 1"] | ["red add x 1"] | ["atom.acq_rel.gpu add x 1"];
    "atomics of a block" Blocks Global Race: ["atom.relaxed.cta add x 1"] | ["atom.relaxed.cta add x 1"];
    "atomic and store" Blocks Global Race: ["atom add x 1"] | ["st x 2"];
    "atomic and load" Blocks Global Race: ["red add x 1"] | ["ld x"];
    "atomic and relaxed load" Blocks Global Free: ["red add x 1"] | ["ld.relaxed.gpu x"];

    // Within a block.
    "bar" Warps Shared Free: ["st x 1", "bar"] | ["bar", "see x 1"];
    "bar global" Warps Global Free: ["st x 1", "bar"] | ["bar", "see x 1"];
    "no bar" Warps Shared Race: ["st x 1"] | ["ld x"];
    "no bar global" Warps Global Race: ["st x 1"] | ["ld x"];
    "bar too early" Warps Shared Race: ["bar", "st x 1"] | ["bar", "ld x"];
    "bar, write after read" Warps Shared Free: ["ld x", "bar"] | ["bar", "st x 1"];
    "equal writes" Warps Shared RaceEqual: ["st x 1"] | ["st x 1"];
    "shared atomics" Warps Shared Free: ["atom add x 1", "bar"] | ["red add x 1", "bar"];
    "shared atomic and store" Warps Shared Race: ["atom add x 1"] | ["st x 2"];
    "shared flag" Warps Shared Free: ["st x 1", "st.release.cta f 1"] | ["poll.acquire.cta f", "see x 1"];
    "shared flag relaxed" Warps Shared Race: ["st x 1", "st.relaxed.cta f 1"] | ["poll.relaxed.cta f", "ld x"];
    "shared flag with fences" Warps Shared Free:
        ["st x 1", "fence.acq_rel.cta", "st.relaxed.cta f 1"] | ["poll.relaxed.cta f", "fence.acq_rel.cta", "see x 1"];
    "shared flag volatile with membar" Warps Shared Free:
        ["st x 1", "membar.cta", "st.volatile f 1"] | ["poll.volatile f", "membar.cta", "see x 1"];
    "bar, then flag" Warps Shared Free:
        ["st x 1", "bar.first"] | ["bar.first", "st.release.cta f 1"] | ["poll.acquire.cta f", "see x 1"];
    "no bar, then flag" Warps Shared Race: ["st x 1"] | ["st.release.cta f 1"] | ["poll.acquire.cta f", "ld x"];
    "bar, then mbarrier" Warps Shared Free: ["st x 1", "bar.first"] | ["bar.first", "arrive"] | ["wait", "see x 1"];
    "mbarrier" Warps Shared Free: ["st x 1", "arrive"] | ["wait", "see x 1"];
    "mbarrier, write after read" Warps Shared Free: ["ld x", "arrive"] | ["wait", "st x 1"];
    "mbarrier too early" Warps Shared Race: ["arrive", "st x 1"] | ["wait", "ld x"];
    "mbarrier not waited for" Warps Shared Race: ["st x 1", "arrive"] | ["ld x"];
    "lanes" Lanes Shared Race: ["st x 1"] | ["ld x"];
    "lanes with bar.warp" Lanes Shared Free: ["st x 1", "warp"] | ["warp", "see x 1"];

    // Within a cluster.
    "cluster barrier" Cluster Shared Free: ["cluster", "see x 1"] | ["st x 1", "cluster"];
    "cluster barrier relaxed" Cluster Shared Race: ["cluster.relaxed", "ld x"] | ["st x 1", "cluster.relaxed"];
    "cluster barrier too early" Cluster Shared Race: ["cluster", "ld x"] | ["cluster", "st x 1"];
    "cluster flag" Cluster Shared Free: ["poll.acquire.cluster f", "see x 1"] | ["st x 1", "st.release.cluster f 1"];
    "cluster flag of a block" Cluster Shared Race: ["poll.acquire.cta f", "ld x"] | ["st x 1", "st.release.cta f 1"];
    "cluster mbarrier" Cluster Shared Free: ["wait.acquire.cluster", "see x 1"] | ["st x 1", "arrive.release.cluster"];
    "cluster mbarrier of a block" Cluster Shared Race: ["wait", "ld x"] | ["st x 1", "arrive"];
    "cluster global flag" Cluster Global Free: ["poll.acquire.cluster f", "see x 1"] | ["st x 1", "st.release.cluster f 1"];

    // Bulk copies go through the async proxy.
    "copy out, fenced" Warps Shared Free: ["st x 1", "fence.proxy.async", "bulk.read x", "bulk.done"];
    "copy out, fenced for shared memory" Warps Shared Free:
        ["st x 1", "fence.proxy.async.shared::cta", "bulk.read x", "bulk.done"];
    "copy out, not fenced" Warps Shared Proxy: ["st x 1", "bulk.read x", "bulk.done"];
    "copy out, fenced for global memory" Warps Shared Proxy:
        ["st x 1", "fence.proxy.async.global", "bulk.read x", "bulk.done"];
    "copy out by another, fenced by the writer" Warps Shared Free:
        ["st x 1", "fence.proxy.async", "bar"] | ["bar", "bulk.read x", "bulk.done"];
    "copy out by another, fenced by the reader" Warps Shared Free:
        ["st x 1", "bar"] | ["bar", "fence.proxy.async", "bulk.read x", "bulk.done"];
    "copy out by another, not fenced" Warps Shared Proxy: ["st x 1", "bar"] | ["bar", "bulk.read x", "bulk.done"];
    "copy out by another, fenced too early" Warps Shared Proxy:
        ["fence.proxy.async", "st x 1", "bar"] | ["bar", "bulk.read x", "bulk.done"];
    "copy out by another, fenced too late" Warps Shared Proxy:
        ["st x 1", "bar"] | ["bar", "bulk.read x", "fence.proxy.async", "bulk.done"];
    "copy out by another, only a memory fence" Warps Shared Proxy:
        ["st x 1", "fence.acq_rel.gpu", "bar"] | ["bar", "bulk.read x", "bulk.done"];
    "copy out by another, no barrier" Warps Shared Race: ["st x 1", "fence.proxy.async"] | ["bulk.read x", "bulk.done"];
    "copy out, then written" Warps Shared Free: ["bulk.read x", "bulk.read-done", "st x 1"];
    "copy out, then written by another" Warps Shared Free: ["bulk.read x", "bulk.read-done", "bar"] | ["bar", "st x 1"];
    "copy out, written too early" Warps Shared Race: ["bulk.read x", "st x 1", "bulk.done"];
    "copy in" Warps Shared Free: ["bulk.write x", "bulk.written", "see x 7"];
    "copy in for another" Warps Shared Free: ["bulk.write x"] | ["bulk.written", "see x 7"];
    "copy in, not waited for" Warps Shared Race: ["bulk.write x", "bar", "bulk.written"] | ["bar", "ld x"];
    "copy in over what was read" Warps Shared Proxy: ["bar", "bulk.write x", "bulk.written"] | ["ld x", "bar"];
    "copy in over what was read, fenced" Warps Shared Free:
        ["bar", "bulk.write x", "bulk.written"] | ["ld x", "fence.proxy.async", "bar"];
};
