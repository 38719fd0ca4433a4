//! Layouts, Tile IR, Lane IR, the instruction table and the passes of tilewright
