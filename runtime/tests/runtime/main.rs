//! The runtime as a user meets it: packs on disk, dispatch, plans on a recording device, the driver's calls.

mod allocation;
mod archive;
mod corrupt;
mod dispatch;
mod driver;
mod engine;
mod fixture;
mod pack;
mod reshape;
mod table;
mod threads;
