//! PTX text to a syntax tree: lexer, directives and functions, instructions.

pub mod ast;
mod function;
mod lexer;
mod module;
mod operand;

pub use module::parse;
