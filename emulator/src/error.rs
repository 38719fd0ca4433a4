//! What can go wrong before a kernel runs.

use thiserror::Error;

/// Text that is not PTX, or PTX this emulator does not know.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Column of the offending token, from 1, when one token is to blame.
    pub column: Option<u32>,
    /// What is wrong, naming the instruction, register or directive.
    pub message: String,
}

impl ParseError {
    pub(crate) fn at(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { line, column: Some(column), message: message.into() }
    }

    pub(crate) fn on(line: u32, message: impl Into<String>) -> Self {
        Self { line, column: None, message: message.into() }
    }
}

/// A use of a [`Device`](crate::Device) that cannot be honoured.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// A buffer larger than one address slot.
    #[error("a buffer of {bytes} bytes is larger than the {limit} bytes one allocation may have")]
    TooLarge {
        /// Requested size.
        bytes: u64,
        /// Largest size.
        limit: u64,
    },
    /// All address slots are taken.
    #[error("no address space left: {live} allocations are live")]
    OutOfSlots {
        /// Number of live allocations.
        live: usize,
    },
    /// A write past the end of a buffer.
    #[error("{given} bytes do not fit a buffer of {size} bytes at offset {offset}")]
    OutOfRange {
        /// Bytes to write.
        given: u64,
        /// Offset of the write.
        offset: u64,
        /// Size of the buffer.
        size: u64,
    },
    /// A module variable that does not exist.
    #[error("the module has no .global or .const variable `{name}`")]
    NoSymbol {
        /// The name asked for.
        name: String,
    },
    /// A buffer that was freed or never belonged to this device.
    #[error("{id:?} is not a live buffer of this device")]
    NoBuffer {
        /// The buffer.
        id: crate::BufferId,
    },
    /// A tensor map the driver would refuse.
    #[error("tensor map: {0}")]
    TensorMap(String),
}

/// A launch that was refused before any instruction ran.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LaunchError {
    /// No such entry.
    #[error("the module has no entry `{name}`; it has {known}")]
    NoEntry {
        /// The name asked for.
        name: String,
        /// The entries there are.
        known: String,
    },
    /// The number of arguments differs from the number of parameters.
    #[error("`{entry}` takes {expected} parameters, the launch gives {given}")]
    ArgCount {
        /// The entry.
        entry: String,
        /// Its parameter count.
        expected: usize,
        /// Arguments given.
        given: usize,
    },
    /// An argument's size differs from its parameter's.
    #[error("argument {index} is {given} bytes, parameter `{param}` is {expected} bytes")]
    ArgSize {
        /// Position, from 0.
        index: usize,
        /// Name of the parameter.
        param: String,
        /// Its size.
        expected: usize,
        /// Size of the argument.
        given: usize,
    },
    /// Grid, block or cluster that the kernel or the hardware does not allow.
    #[error("{0}")]
    Shape(String),
    /// More shared memory than a block can have.
    #[error("{needed} bytes of shared memory ({fixed} static) exceed the {limit} bytes a block has on {arch}")]
    SharedSize {
        /// Static plus dynamic.
        needed: u64,
        /// Static part.
        fixed: u64,
        /// The limit.
        limit: u64,
        /// The architecture.
        arch: String,
    },
    /// A float instruction that the ring knows nothing to do for.
    #[error("in the ring, {0}")]
    Ring(ParseError),
    /// Device trouble while setting up module variables.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
