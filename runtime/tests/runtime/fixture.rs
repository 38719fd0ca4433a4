//! A small pack on disk and a device that records what it is asked to do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;
use tilewright_runtime::arch::ComputeCapability;
use tilewright_runtime::archive;
use tilewright_runtime::compat::CudaVersion;
use tilewright_runtime::device::{
    ArgValue, Device, DeviceError, EncodedTensorMap, Geometry, ImageKind, KernelImage, Stream, TensorMapDesc,
};
use tilewright_runtime::manifest::{File, Manifest};
use tilewright_runtime::pack::Pack;

/// Class of every plan in the fixture.
pub const CLASS: &str = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";

/// The fixture's manifest with true lengths and hashes; a file's contents are its own path.
pub fn manifest() -> Manifest {
    let mut manifest: Manifest = serde_json::from_str(include_str!("fixtures/manifest.json")).unwrap();
    let fill = |file: &mut File| {
        file.blake3 = blake3::hash(file.path.as_bytes()).to_string();
        file.bytes = file.path.len() as u64;
    };
    for kernel in &mut manifest.kernels {
        fill(&mut kernel.ptx);
        kernel.cubin.iter_mut().for_each(fill);
    }
    manifest
}

/// A folder with the pack of `manifest`.
pub fn write(manifest: &Manifest) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    for kernel in &manifest.kernels {
        for file in [Some(&kernel.ptx), kernel.cubin.as_ref()].into_iter().flatten() {
            fs::write(folder.path().join(&file.path), &file.path).unwrap();
        }
    }
    folder
}

/// The files of the pack of `manifest`, itself among them.
pub fn files(manifest: &Manifest) -> BTreeMap<String, Vec<u8>> {
    let kernels = manifest.kernels.iter().flat_map(|kernel| kernel.files());
    let mut files: BTreeMap<_, _> = kernels.map(|(_, file)| (file.path.clone(), file.path.clone().into_bytes())).collect();
    files.insert("manifest.json".to_owned(), manifest.to_json().unwrap().into_bytes());
    files
}

/// The pack of `manifest` as the bytes of one file.
pub fn packed(manifest: &Manifest) -> Vec<u8> {
    archive::write(&files(manifest), archive::LEVEL).unwrap()
}

/// The fixture, embedded: needs no folder that outlives the call.
pub fn pack() -> Pack {
    let manifest = manifest();
    let mut files: Vec<(&'static str, &'static [u8])> = Vec::new();
    for kernel in &manifest.kernels {
        for file in [Some(&kernel.ptx), kernel.cubin.as_ref()].into_iter().flatten() {
            let path: &'static str = file.path.clone().leak();
            files.push((path, path.as_bytes()));
        }
    }
    let text: &'static str = manifest.to_json().unwrap().leak();
    files.push(("manifest.json", text.as_bytes()));
    Pack::embedded(files.leak()).unwrap()
}

/// Entry, sizes, arguments and stream of a launch.
pub type Launched = (String, Geometry, Vec<ArgValue>, Stream);

/// Records; runs nothing.
pub struct Recorder {
    pub capability: ComputeCapability,
    pub driver: Option<CudaVersion>,
    pub wants: ImageKind,
    pub loaded: RefCell<Vec<(String, ImageKind, Vec<u8>)>>,
    pub encoded: RefCell<Vec<TensorMapDesc>>,
    pub launches: RefCell<Vec<Launched>>,
    pub next_address: Cell<u64>,
    /// The next encoding fails.
    pub fail_encoding: Cell<bool>,
    /// Encoding for this address fails.
    pub fail_address: Cell<u64>,
    /// The next kernel does not load.
    pub fail_loading: Cell<bool>,
}

impl Recorder {
    pub fn hopper() -> Self {
        Recorder {
            capability: ComputeCapability { major: 9, minor: 0 },
            driver: None,
            wants: ImageKind::Cubin,
            loaded: RefCell::default(),
            encoded: RefCell::default(),
            launches: RefCell::default(),
            next_address: Cell::new(0x7000_0000),
            fail_encoding: Cell::new(false),
            fail_address: Cell::new(u64::MAX),
            fail_loading: Cell::new(false),
        }
    }
}

impl Device for Recorder {
    type Buffer = u64;
    type Kernel = String;

    fn capability(&self) -> ComputeCapability {
        self.capability
    }

    fn driver(&self) -> Option<CudaVersion> {
        self.driver
    }

    fn sm_count(&self) -> u32 {
        132
    }

    fn wants(&self) -> ImageKind {
        self.wants
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        assert!(bytes > 0);
        Ok(self.next_address.replace(self.next_address.get() + bytes.next_multiple_of(256)))
    }

    fn address(&self, buffer: &u64) -> u64 {
        *buffer
    }

    fn upload(&self, _: &u64, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        unreachable!("launching copies nothing")
    }

    fn download(&self, _: &u64, _: u64, _: &mut [u8]) -> Result<(), DeviceError> {
        unreachable!("launching copies nothing")
    }

    fn load_kernel(&self, image: &KernelImage<'_>) -> Result<String, DeviceError> {
        if self.fail_loading.take() {
            return Err(DeviceError::Refused { what: "loading".to_owned(), why: "told to".to_owned() });
        }
        self.loaded.borrow_mut().push((image.kernel.id.clone(), image.kind, image.bytes.to_vec()));
        Ok(image.kernel.entry.clone())
    }

    fn encode_tensor_map(&self, desc: &TensorMapDesc) -> Result<EncodedTensorMap, DeviceError> {
        if self.fail_encoding.take() || desc.address == self.fail_address.get() {
            return Err(DeviceError::Refused { what: "encoding".to_owned(), why: "told to".to_owned() });
        }
        self.encoded.borrow_mut().push(*desc);
        Ok(EncodedTensorMap([desc.address; 16]))
    }

    fn launch(&self, kernel: &String, geometry: &Geometry, args: &[ArgValue], stream: Stream) -> Result<(), DeviceError> {
        self.launches.borrow_mut().push((kernel.clone(), *geometry, args.to_vec(), stream));
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
