//! The address map. Generic addresses of shared, local and parameter memory lie in windows of their own; everything
//! else is global memory, whose allocations each own one slot of the address space.

/// Start of the shared window; the low 32 bits of a generic shared address are the `.shared` address.
pub const SHARED_WINDOW: u64 = 0x7f10_0000_0000;
/// Start of the local window.
pub const LOCAL_WINDOW: u64 = 0x7f20_0000_0000;
/// Start of the parameter window.
pub const PARAM_WINDOW: u64 = 0x7f30_0000_0000;
/// Start of the addresses of device functions; nothing can be read there.
pub const FUNCTION_WINDOW: u64 = 0x7f40_0000_0000;
/// Size of each window.
pub const WINDOW_BYTES: u64 = 1 << 32;

/// Bits of a shared address that hold the offset in a block's window; the block's rank in its cluster is above them.
pub const CTA_SHIFT: u32 = 24;
pub const CTA_OFFSET_MASK: u32 = (1 << CTA_SHIFT) - 1;
/// The first bytes of a block's window belong to the system (seen in SASS on sm_90: user memory starts at 0x400).
pub const RESERVED_SHARED: u32 = 0x400;

/// What a generic address points into, with the address in that space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Global(u64),
    Shared(u32),
    Local(u32),
    Param(u32),
}

pub fn in_window(address: u64, window: u64) -> bool {
    address.wrapping_sub(window) < WINDOW_BYTES
}

/// The address of the n-th function of a module.
pub fn function_address(index: usize) -> u64 {
    FUNCTION_WINDOW + 16 * (index as u64 + 1)
}

pub fn classify(address: u64) -> Target {
    if in_window(address, SHARED_WINDOW) {
        Target::Shared(address as u32)
    } else if in_window(address, LOCAL_WINDOW) {
        Target::Local(address as u32)
    } else if in_window(address, PARAM_WINDOW) {
        Target::Param(address as u32)
    } else {
        Target::Global(address)
    }
}
