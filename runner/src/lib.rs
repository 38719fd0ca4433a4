//! Measures candidates on a device, in processes that may die. Links no LLVM: this is what a host with only a driver runs.
//!
//! | file | holds |
//! |---|---|
//! | `device` | the names of devices |
//! | `pack` | `tune.json`: what is to be measured, and the kernels beside it |
//! | `supervise`, `wire` | the process that must not die; what it and its workers say to each other |
//! | `report` | results in words |
//! | `tune` | a tuning from its tasks to its records |
//! | `worker/` | the process that may: a device opened, candidates checked and timed |
//! | `cuda/` | the protocol on a GPU: the gate, cold buffers, bursts, graphs |
//! | `verify` | the emulator's verdict on a plan |

pub mod cuda;
pub mod device;
pub mod pack;
pub mod report;
pub mod supervise;
pub mod tune;
pub mod verify;
pub mod wire;
pub mod worker;
