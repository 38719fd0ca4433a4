//! The runtime as a user meets it: packs on disk, dispatch, plans on a recording device, the C ABI, the GPU kit.

mod allocation;
mod archive;
mod capi;
mod corrupt;
mod dispatch;
mod driver;
mod engine;
mod fixture;
mod kit;
mod pack;
mod table;
