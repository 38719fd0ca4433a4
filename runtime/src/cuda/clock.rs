//! What measuring needs of the driver beside launching: streams, events, graphs of launches, filled memory, facts of the device.

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use super::driver::{self, Context, check};
use super::{CudaBuffer, CudaDevice};
use crate::device::{DeviceError, Stream};

/// Events are timed by `cuEventElapsedTime_v2`, which came with CUDA 12.8; looking up what the driver lacks would panic.
const OLDEST_TIMING_DRIVER: u32 = 12_080;

/// What the driver says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaFacts {
    /// Multiprocessors.
    pub sms: u32,
    /// Shared memory of a multiprocessor.
    pub shared_bytes_per_sm: u64,
    /// L2 cache.
    pub l2_bytes: u64,
    /// Highest clock of the multiprocessors, kHz.
    pub sm_clock_khz: u32,
    /// Clock of the memory, kHz; 0 where the driver does not say.
    pub memory_clock_khz: u32,
    /// Width of the memory's bus.
    pub memory_bus_bits: u32,
    /// The driver's CUDA version, `major * 1000 + minor * 10`.
    pub driver_version: u32,
}

/// A stream of its own, beside the default one.
pub struct CudaStream {
    handle: sys::CUstream,
    context: Arc<Context>,
}

/// A moment on a stream.
pub struct CudaEvent {
    handle: sys::CUevent,
    context: Arc<Context>,
}

/// Launches that are repeated as one.
pub struct CudaGraph {
    handle: sys::CUgraphExec,
    context: Arc<Context>,
}

impl CudaDevice {
    /// What the driver says of this device.
    pub fn facts(&self) -> Result<CudaFacts, DeviceError> {
        use sys::CUdevice_attribute as A;
        let attribute = |which| driver::attribute(self.context.device(), which);
        Ok(CudaFacts {
            sms: self.sm_count,
            shared_bytes_per_sm: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?.into(),
            l2_bytes: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
            sm_clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            memory_clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
            memory_bus_bits: attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
            driver_version: driver::version()?,
        })
    }

    /// Where the device sits on the bus, `domain:bus:device.0`: what NVML knows it by, whatever CUDA shows first.
    pub fn pci_bus_id(&self) -> Result<String, DeviceError> {
        driver::pci_bus_id(self.context.device())
    }

    /// Free and all memory, bytes.
    pub fn memory(&self) -> Result<(u64, u64), DeviceError> {
        let _current = self.context.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: a context is current and both numbers are written before it returns.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "cuMemGetInfo", || "asking for free memory".to_owned())?;
        Ok((free as u64, total as u64))
    }

    /// Fills a whole buffer with a byte, on a stream.
    pub fn fill(&self, buffer: &CudaBuffer, byte: u8, stream: Stream) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        // SAFETY: the buffer is alive and has as many bytes; the stream is the caller's promise, as at a launch.
        let result = unsafe { sys::cuMemsetD8Async(buffer.address, byte, buffer.bytes as usize, stream.0 as sys::CUstream) };
        check(result, "cuMemsetD8Async", || format!("filling {} bytes", buffer.bytes))
    }

    /// A new stream that does not wait for the default one.
    pub fn stream(&self) -> Result<CudaStream, DeviceError> {
        let _current = self.context.enter()?;
        let mut handle = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: a context is current and the handle is written before it returns.
        check(unsafe { sys::cuStreamCreate(&mut handle, flags) }, "cuStreamCreate", || "making a stream".to_owned())?;
        Ok(CudaStream { handle, context: Arc::clone(&self.context) })
    }

    /// An event that can be timed.
    ///
    /// # Errors
    /// [`DeviceError::DriverTooOld`] before CUDA 12.8, and those of the driver.
    pub fn event(&self) -> Result<CudaEvent, DeviceError> {
        let found = driver::version()?;
        if found < OLDEST_TIMING_DRIVER {
            let dotted = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
            return Err(DeviceError::DriverTooOld { found: dotted(found), needed: dotted(OLDEST_TIMING_DRIVER) });
        }
        let _current = self.context.enter()?;
        let mut handle = ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: a context is current and the handle is written before it returns.
        check(unsafe { sys::cuEventCreate(&mut handle, flags) }, "cuEventCreate", || "making an event".to_owned())?;
        Ok(CudaEvent { handle, context: Arc::clone(&self.context) })
    }

    /// What `work` queues on `stream`, as a graph. Nothing of it runs yet.
    ///
    /// # Errors
    /// Those of the driver, and those of `work`, whose error type holds the driver's; capturing has ended either way.
    pub fn capture<E: From<DeviceError>>(
        &self,
        stream: &CudaStream,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<CudaGraph, E> {
        let _current = self.context.enter()?;
        let what = || "recording a graph of launches".to_owned();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        check(unsafe { sys::cuStreamBeginCapture_v2(stream.handle, mode) }, "cuStreamBeginCapture", what)?;
        let worked = work();
        let mut graph = ptr::null_mut();
        // SAFETY: as above; capturing began, and the handle is written before it returns.
        let ended = check(unsafe { sys::cuStreamEndCapture(stream.handle, &mut graph) }, "cuStreamEndCapture", what);
        let mut handle = ptr::null_mut();
        let made = worked.and_then(|()| {
            ended?;
            // SAFETY: `graph` was just made, and stays until it is destroyed below.
            let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut handle, graph, 0) };
            Ok(check(result, "cuGraphInstantiateWithFlags", what)?)
        });
        if !graph.is_null() {
            // SAFETY: made by EndCapture and destroyed once; what was instantiated does not need it.
            unsafe { sys::cuGraphDestroy(graph) };
        }
        made.map(|()| CudaGraph { handle, context: Arc::clone(&self.context) })
    }
}

impl CudaStream {
    /// What launches take.
    pub fn id(&self) -> Stream {
        Stream(self.handle as usize)
    }

    /// Waits for what is queued, and reports what failed of it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is alive.
        check(unsafe { sys::cuStreamSynchronize(self.handle) }, "cuStreamSynchronize", || "waiting for launches".to_owned())
    }
}

impl CudaEvent {
    /// Marks now on a stream.
    pub fn record(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        // SAFETY: both are alive and of one context.
        check(unsafe { sys::cuEventRecord(self.handle, stream.handle) }, "cuEventRecord", || "marking a moment".to_owned())
    }

    /// Waits until it has happened.
    pub fn wait(&self) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        // SAFETY: the event is alive.
        check(unsafe { sys::cuEventSynchronize(self.handle) }, "cuEventSynchronize", || "waiting for launches".to_owned())
    }

    /// Seconds from an earlier event to this; both have happened.
    pub fn seconds_since(&self, earlier: &CudaEvent) -> Result<f64, DeviceError> {
        let _current = self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events are alive; the number is written before it returns.
        let result = unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, earlier.handle, self.handle) };
        check(result, "cuEventElapsedTime", || "reading the time between two moments".to_owned())?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl CudaGraph {
    /// Queues all of it on a stream.
    pub fn launch(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        // SAFETY: both are alive and of one context; what the launches point to is the caller's promise, as at a launch.
        check(unsafe { sys::cuGraphLaunch(self.handle, stream.handle) }, "cuGraphLaunch", || "launching a graph".to_owned())
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made once and destroyed once; the driver lets what is queued end first.
            unsafe { sys::cuStreamDestroy_v2(self.handle) };
        }
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made once and destroyed once.
            unsafe { sys::cuEventDestroy_v2(self.handle) };
        }
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made once and destroyed once; the driver lets a run under way end first.
            unsafe { sys::cuGraphExecDestroy(self.handle) };
        }
    }
}
