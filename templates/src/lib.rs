//! Kernel templates written in the Tile IR builder, one folder per op family
