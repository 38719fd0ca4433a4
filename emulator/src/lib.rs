//! Runs PTX text on the CPU and checks it: the independent witness of tilewright
