//! The command as its users meet it. One program, since each one more is linked and waited for.

mod common;

mod attention;
mod attention_decode;
mod attention_pages;
mod attention_refusals;
mod emulate;
mod emulate_args;
mod emulate_findings;
mod emulate_launch;
mod emulate_memory;
mod emulate_page;
mod explain;
mod gemm_checkpoints;
mod gemm_pack;
mod gemm_scaled;
mod gemm_weight;
mod gemm_weight_refusals;
mod grouped;
mod records;
mod refusals;
mod run;
mod scene;
mod sparse_conv;
mod sparse_network;
mod tune;
