//! Lane IR to LLVM IR to PTX to cubin, with the ptxas and SASS reports
