//! A litmus test as words, and its PTX.
//!
//! A thread is a list of operations on the variables `x`, `y`, `f` and `g`, each 16 bytes that start at zero:
//!
//! ```text
//! st[.order] x 1       ld[.order] x        see[.order] x 1     a load that traps unless it gives 1
//! poll[.order] f [n]   loads until the value is n, or 1
//! atom[.order] add f 1, red[.order] add f 1
//! fence.* / membar.*   as in PTX
//! bar                  bar.sync 0 of the block, `bar.first` only of its first two threads
//! warp                 bar.warp.sync of two lanes
//! cluster, cluster.relaxed    barrier.cluster
//! arrive[.order], wait[.order]   an mbarrier of one arrival in the first block
//! bulk.read x, bulk.done, bulk.read-done   a copy of x to global memory, and waits for it
//! bulk.write x, bulk.written     a copy of global memory to x that tells an mbarrier, and the wait for it
//! ```

use std::fmt::Write;

/// Where the threads are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Lanes of one warp.
    Lanes,
    /// Warps of one block.
    Warps,
    /// Blocks of a cluster; shared variables are those of the first block.
    Cluster,
    /// Blocks of their own.
    Blocks,
}

/// Where the variables are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Space {
    Global,
    Shared,
}

#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub place: Place,
    pub space: Space,
    pub threads: &'static [&'static [&'static str]],
}

impl Program {
    /// Blocks, threads of a block, blocks of a cluster.
    pub fn shape(&self) -> [u32; 3] {
        let count = self.threads.len() as u32;
        match self.place {
            Place::Lanes => [1, 32, 1],
            Place::Warps => [1, 32 * count, 1],
            Place::Cluster => [count, 32, count],
            Place::Blocks => [count, 32, 1],
        }
    }

    /// An entry `k` with two parameters: the variables, and 16 bytes for copies.
    pub fn ptx(&self) -> String {
        let role = match self.place {
            Place::Lanes => "mov.u32 %role, %tid.x;",
            Place::Warps => "mov.u32 %role, %tid.x;\n    shr.u32 %role, %role, 5;",
            Place::Cluster | Place::Blocks => "mov.u32 %role, %ctaid.x;",
        };
        let mut text = format!(
            ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 vars, .param .u64 spare) {{\n    \
             .reg .b32 %role, %lane, %v, %old, %sx, %sy, %sf, %sg, %sbar;\n    .reg .b64 %gx, %gy, %gf, %gg, %spare;\n    \
             .reg .pred %one, %p, %q;\n    .shared .align 16 .b8 s[64];\n    .shared .align 8 .b8 bars[16];\n    \
             ld.param.u64 %gx, [vars];\n    ld.param.u64 %spare, [spare];\n    add.s64 %gy, %gx, 16;\n    \
             add.s64 %gf, %gx, 32;\n    add.s64 %gg, %gx, 48;\n    mov.u32 %lane, %tid.x;\n    {role}\n    \
             setp.eq.u32 %one, %lane, 0;\n    mov.b32 %sx, s;\n    mov.b32 %sbar, bars;\n"
        );
        for offset in (0..64).step_by(4) {
            let _ = writeln!(text, "    @%one st.shared.b32 [s+{offset}], 0;");
        }
        text += "    @%one mbarrier.init.shared.b64 [bars], 1;\n    @%one mbarrier.init.shared.b64 [bars+8], 1;\n";
        if self.place == Place::Cluster {
            text += "    mapa.shared::cluster.u32 %sx, %sx, 0;\n    mapa.shared::cluster.u32 %sbar, %sbar, 0;\n    \
                     barrier.cluster.arrive.aligned;\n    barrier.cluster.wait.aligned;\n";
        } else {
            text += "    fence.proxy.async;\n    bar.sync 0;\n";
        }
        text += "    add.s32 %sy, %sx, 16;\n    add.s32 %sf, %sx, 32;\n    add.s32 %sg, %sx, 48;\n";
        text += match self.place {
            Place::Lanes => "    setp.eq.u32 %one, %lane, %role;\n",
            _ => "    and.b32 %lane, %lane, 31;\n    setp.eq.u32 %one, %lane, 0;\n",
        };
        for thread in 0..self.threads.len() {
            let _ = writeln!(text, "    setp.eq.u32 %p, %role, {thread};\n    @%p bra $thread{thread};");
        }
        text += "    bra $end;\n";
        for (thread, operations) in self.threads.iter().enumerate() {
            let _ = writeln!(text, "$thread{thread}:");
            for (at, operation) in operations.iter().enumerate() {
                let _ = writeln!(text, "    {}", self.operation(operation, &format!("{thread}_{at}")));
            }
            text += "    bra $end;\n";
        }
        text += "$end:\n";
        if self.place == Place::Cluster {
            text += "    barrier.cluster.arrive.relaxed;\n    barrier.cluster.wait;\n";
        }
        text + "    ret;\n}\n"
    }

    fn operation(&self, text: &str, label: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let (name, order) = words[0].split_once('.').map_or((words[0], String::new()), |(name, rest)| (name, format!(".{rest}")));
        let (space, prefix) = match (self.space, self.place) {
            (Space::Global, _) => ("global", "%g"),
            (Space::Shared, Place::Cluster) => ("shared::cluster", "%s"),
            (Space::Shared, _) => ("shared", "%s"),
        };
        let address = |at: usize| format!("[{prefix}{}]", words[at]);
        let ty = if words.get(1) == Some(&"exch") { "b32" } else { "u32" };
        let bar_space = if self.place == Place::Cluster { "shared::cluster" } else { "shared" };
        match name {
            "st" => format!("@%one st{order}.{space}.b32 {}, {};", address(1), words[2]),
            "ld" => format!("@%one ld{order}.{space}.b32 %v, {};", address(1)),
            "see" => format!(
                "mov.b32 %v, {1};\n    @%one ld{order}.{space}.b32 %v, {0};\n    setp.ne.u32 %q, %v, {1};\n    @%q trap;",
                address(1),
                words[2]
            ),
            "poll" => format!(
                "$poll{label}:\n    ld{order}.{space}.b32 %v, {};\n    setp.ne.u32 %q, %v, {};\n    @%q bra $poll{label};",
                address(1),
                words.get(2).unwrap_or(&"1")
            ),
            "atom" => format!("@%one atom{order}.{space}.{}.{ty} %old, {}, {};", words[1], address(2), words[3]),
            "red" => format!("@%one red{order}.{space}.{}.{ty} {}, {};", words[1], address(2), words[3]),
            "fence" | "membar" => format!("{text};"),
            "bar" if order == ".first" => "barrier.sync 1, 64;".into(),
            "bar" => "bar.sync 0;".into(),
            "warp" => "bar.warp.sync 3;".into(),
            "cluster" => format!("barrier.cluster.arrive{order};\n    barrier.cluster.wait;"),
            "arrive" => format!("@%one mbarrier.arrive{order}.{bar_space}.b64 _, [%sbar];"),
            "wait" => format!(
                "$wait{label}:\n    mbarrier.try_wait.parity{order}.shared::cta.b64 %q, [bars], 0;\n    @!%q bra $wait{label};"
            ),
            "bulk" => match order.as_str() {
                ".read" => format!(
                    "@%one cp.async.bulk.global.shared::cta.bulk_group [%spare], {}, 16;\n    cp.async.bulk.commit_group;",
                    address(1)
                ),
                ".done" => "cp.async.bulk.wait_group 0;".into(),
                ".read-done" => "cp.async.bulk.wait_group.read 0;".into(),
                ".write" => format!(
                    "@%one mbarrier.arrive.expect_tx.shared.b64 _, [bars+8], 16;\n    @%one \
                     cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes {}, [%spare], 16, [bars+8];",
                    address(1)
                ),
                ".written" => format!(
                    "$wait{label}:\n    mbarrier.try_wait.parity.shared::cta.b64 %q, [bars+8], 0;\n    @!%q bra $wait{label};"
                ),
                other => panic!("no bulk{other}"),
            },
            other => panic!("no operation {other}"),
        }
    }
}
