//! Runs decoded kernels: one [`cluster::Cluster`] at a time, warps as 32-lane rows.

#[macro_use]
mod map;

pub mod access;
mod advice;
pub mod alu;
mod async_store;
mod atomics;
mod barriers;
mod calls;
pub mod cluster;
mod control;
mod copies;
pub mod cta;
mod deadlock;
mod groups;
mod lanes;
mod ldst;
pub mod machine;
mod matrices;
pub mod mbarrier;
mod mbarrier_ops;
mod observe;
pub mod printf;
pub mod probe;
pub mod queue;
mod rare;
mod registers;
pub mod regs;
mod rows;
mod step;
mod tensormap;
mod tma;
pub mod warp;
mod wgmma;
mod wgmma_regs;
mod wmma;
