//! Buffers between guard bytes.

use tilewright_runtime::device::{Device, DeviceError};

/// Guard bytes before and after a tensor: what addresses are a multiple of, so that the tensor starts where an allocation could.
const GUARD: u64 = 256;
/// What guards and poisoned outputs hold: a NaN of every float.
pub(super) const POISON: u8 = 0xFF;

/// A tensor's memory with guards around it.
pub(super) struct Guarded<D: Device> {
    buffer: D::Buffer,
    bytes: u64,
}

impl<D: Device> Guarded<D> {
    /// Memory for a tensor and its guards, which somebody else poisons.
    pub fn raw(device: &D, bytes: u64) -> Result<Self, DeviceError> {
        Ok(Guarded { buffer: device.alloc(bytes + 2 * GUARD)?, bytes })
    }

    /// Memory for a tensor, poisoned with its guards.
    pub fn new(device: &D, bytes: u64) -> Result<Self, DeviceError> {
        let made = Guarded::raw(device, bytes)?;
        device.upload(&made.buffer, 0, &vec![POISON; (bytes + 2 * GUARD) as usize])?;
        Ok(made)
    }

    /// Where the tensor starts.
    pub fn address(&self, device: &D) -> u64 {
        device.address(&self.buffer) + GUARD
    }

    /// All of it, guards included.
    pub fn buffer(&self) -> &D::Buffer {
        &self.buffer
    }

    /// Gives the tensor its elements.
    pub fn upload(&self, device: &D, data: &[u8]) -> Result<(), DeviceError> {
        device.upload(&self.buffer, GUARD, data)
    }

    /// The tensor, and whether its guards are as they were.
    pub fn download(&self, device: &D) -> Result<(Vec<u8>, bool), DeviceError> {
        let mut all = vec![0; (self.bytes + 2 * GUARD) as usize];
        device.download(&self.buffer, 0, &mut all)?;
        let (start, end) = (GUARD as usize, (GUARD + self.bytes) as usize);
        let whole = all[..start].iter().chain(&all[end..]).all(|b| *b == POISON);
        all.truncate(end);
        all.drain(..start);
        Ok((all, whole))
    }
}
