//! Reading a manifest and refusing what the rest of the runtime relies on not to see.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::arch::Arch;
use crate::archive::{ARCHIVE, MAX_FILE_BYTES, check_path};
use crate::compat::PtxVersion;
use crate::device::MAX_RANK;
use crate::expr::Sharing;
use crate::manifest::{File, Kernel, Launch, Manifest, ParamKind, SCHEMA, TensorMapSpec};
use crate::pack::MANIFEST;
use crate::plan::PlanError;
use crate::seal::{self, Seal};

/// Most parameters of a kernel; a launch keeps their addresses in an array of this size.
pub const MAX_PARAMS: usize = 64;
/// Most threads of a block on every architecture so far (CUDA programming guide, "technical specifications").
const MAX_BLOCK_THREADS: u64 = 1024;
/// Most blocks of a cluster, with the non-portable sizes allowed.
const MAX_CLUSTER_BLOCKS: u64 = 16;
/// Most elements of a tensor map's tile along a dimension (`cuTensorMapEncodeTiled`).
const MAX_BOX: u32 = 256;

/// Why a manifest is refused; each names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The text ends inside a value.
    #[error("{file}: truncated: ends inside a value at line {line}; copy the pack again")]
    Truncated {
        /// The manifest's path.
        file: String,
        /// Last line.
        line: usize,
    },
    /// Not JSON, or a field is unknown, missing or of the wrong type.
    #[error("{file}: {}", one_line(why))]
    Json {
        /// The manifest's path.
        file: String,
        /// What and where, with line and column.
        why: String,
    },
    /// Another version of the format.
    #[error(
        "{file}: schema {found}{}, but this runtime{} reads schema {SCHEMA}: use the runtime the pack came with",
        made_by.as_ref().map(|version| format!(" of tilewright {}", one_line(version))).unwrap_or_default(),
        if made_by.is_some() { concat!(" (", env!("CARGO_PKG_VERSION"), ")") } else { "" }
    )]
    Schema {
        /// The manifest's path.
        file: String,
        /// The schema found.
        found: u64,
        /// The version of tilewright that wrote it, where it says so.
        made_by: Option<String>,
    },
    /// The text is not the one that was written.
    #[error("{file}: blake3: {why}; copy the pack again, or have `gen` write it")]
    Sealed {
        /// The manifest's path.
        file: String,
        /// What is wrong with its last line.
        why: &'static str,
    },
    /// A field's value cannot be right.
    #[error("{file}: {}: {}", one_line(field), one_line(why))]
    Field {
        /// The manifest's path.
        file: String,
        /// Where, such as `kernels[gemm_a].launch.block`.
        field: String,
        /// Why not.
        why: String,
    },
    /// A plan does not hold together.
    #[error("{file}: {}", one_line(&error.to_string()))]
    Plan {
        /// The manifest's path.
        file: String,
        /// What is wrong.
        error: PlanError,
    },
}

impl Manifest {
    /// Reads and checks a manifest; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, ManifestError> {
        let (text, seal) = seal::open(text);
        let sharing = Sharing::new();
        let read = serde_json::from_str::<Manifest>(&text);
        drop(sharing);
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(error) => {
                let why = || match seal {
                    Seal::Cut => ManifestError::Truncated { file: file.to_owned(), line: text.lines().count() },
                    _ => json_error(&text, file, &error),
                };
                return Err(foreign(&text, file).unwrap_or_else(why));
            }
        };
        manifest.validate(file)?;
        let broken = |why| Err(ManifestError::Sealed { file: file.to_owned(), why });
        match seal {
            Seal::Whole => Ok(manifest),
            Seal::Broken => broken("not that of the lines before it"),
            Seal::Cut | Seal::Absent => broken("the last line with it is missing"),
        }
    }

    /// The file's text: a line for each kernel, plan and table, fields in declaration order, then the hash of all that.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        fn lines<T: serde::Serialize>(entries: &[T]) -> Result<String, serde_json::Error> {
            let lines: Vec<String> = entries.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            Ok(if lines.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", lines.join(",\n")) })
        }
        // All fields, so that a new one is not forgotten here.
        let Manifest { schema, target, arch, toolchain, kernels, plans, dispatch } = self;
        let fields = [
            ("schema", serde_json::to_string(schema)?),
            ("target", serde_json::to_string(target)?),
            ("arch", serde_json::to_string(arch)?),
            ("toolchain", serde_json::to_string(toolchain)?),
            ("kernels", lines(kernels)?),
            ("plans", lines(plans)?),
            ("dispatch", lines(dispatch)?),
        ];
        let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
        Ok(seal::close(format!("{{\n{}", fields.join(",\n"))))
    }

    /// Checks everything that the types do not: references, ranges, uniqueness.
    pub fn validate(&self, file: &str) -> Result<(), ManifestError> {
        let refuse = |(field, why): Refusal| ManifestError::Field { file: file.to_owned(), field, why };
        if self.schema != SCHEMA {
            let made_by = Some(self.toolchain.tilewright.clone());
            return Err(ManifestError::Schema { file: file.to_owned(), found: u64::from(self.schema), made_by });
        }
        self.arch.parse::<Arch>().map_err(|error| refuse(("arch".to_owned(), error.to_string())))?;
        let ptx_version = self.toolchain.ptx_version.parse::<PtxVersion>();
        if let (Err(error), false) = (ptx_version, self.kernels.is_empty()) {
            return Err(refuse(("toolchain.ptx_version".to_owned(), error.to_string())));
        }
        let mut kernels: HashMap<&str, &Kernel> = HashMap::new();
        let mut paths = HashSet::from([MANIFEST, ARCHIVE]);
        for kernel in &self.kernels {
            check_kernel(kernel).map_err(|(field, why)| refuse((format!("kernels[{}].{field}", kernel.id), why)))?;
            for (field, file) in kernel.files() {
                if !paths.insert(&file.path) {
                    let why = format!("path {:?} is used twice", file.path);
                    return Err(refuse((format!("kernels[{}].{field}", kernel.id), why)));
                }
            }
            if kernels.insert(&kernel.id, kernel).is_some() {
                return Err(refuse((format!("kernels[{}].id", kernel.id), "used twice".to_owned())));
            }
        }
        let mut plans = HashSet::new();
        for plan in &self.plans {
            if !plans.insert(&plan.id) {
                return Err(refuse((format!("plans[{}].id", plan.id), "used twice".to_owned())));
            }
            plan.validate(|id| kernels.get(id).copied()).map_err(|error| ManifestError::Plan { file: file.to_owned(), error })?;
        }
        let mut classes = HashSet::new();
        for table in &self.dispatch {
            let name = format!("dispatch[{} {}]", table.op, table.class);
            table.check(&self.plans).map_err(|(field, why)| refuse((format!("{name}.{field}"), why)))?;
            if !classes.insert((&table.op, &table.class)) {
                return Err(refuse((name, "a second table for the same op and class".to_owned())));
            }
        }
        Ok(())
    }
}

/// Field and reason.
type Refusal = (String, String);

fn refusal<T>(field: &str, why: String) -> Result<T, Refusal> {
    Err((field.to_owned(), why))
}

/// Another schema, for which what is wrong with the fields means nothing.
fn foreign(text: &str, file: &str) -> Option<ManifestError> {
    #[derive(Deserialize)]
    struct Probe {
        schema: u64,
        toolchain: Option<Maker>,
    }
    #[derive(Deserialize)]
    struct Maker {
        tilewright: Option<String>,
    }
    let Probe { schema, toolchain } = serde_json::from_str(text).ok()?;
    let made_by = toolchain.and_then(|maker| maker.tilewright);
    (schema != u64::from(SCHEMA)).then(|| ManifestError::Schema { file: file.to_owned(), found: schema, made_by })
}

/// A hostile file must not write lines of its own into a log, nor pages.
fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let mut line: String =
        text.chars().take(MOST).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if text.chars().nth(MOST).is_some() {
        line.push_str("...");
    }
    line
}

fn json_error(text: &str, file: &str, error: &serde_json::Error) -> ManifestError {
    let file = file.to_owned();
    // A number cut behind its point is an error of its own to the parser.
    let cut_number = || error.to_string().starts_with("invalid number") && text.ends_with(['.', '-', 'e', 'E', '+']);
    if error.is_eof() || cut_number() {
        return ManifestError::Truncated { file, line: error.line() };
    }
    ManifestError::Json { file, why: error.to_string() }
}

fn check_kernel(kernel: &Kernel) -> Result<(), Refusal> {
    // The C side of the driver takes the entry as a zero-terminated string.
    if kernel.entry.is_empty() || kernel.entry.contains('\0') {
        return refusal("entry", format!("{:?} is no symbol", kernel.entry));
    }
    check_file(&kernel.ptx).or_else(|why| refusal("ptx", why))?;
    if let Some(cubin) = &kernel.cubin {
        check_file(cubin).or_else(|why| refusal("cubin", why))?;
    }
    if kernel.params.len() > MAX_PARAMS {
        return refusal("params", format!("{} of them, at most {MAX_PARAMS}", kernel.params.len()));
    }
    for param in &kernel.params {
        if let ParamKind::TensorMap(spec) = &param.kind {
            check_tensor_map(spec).or_else(|why| refusal(&format!("params[{}].tensor_map", param.name), why))?;
        }
    }
    check_launch(&kernel.launch).or_else(|(field, why)| refusal(&format!("launch.{field}"), why))
}

fn check_file(file: &File) -> Result<(), String> {
    check_path(&file.path)?;
    if file.bytes > MAX_FILE_BYTES {
        return Err(format!("{} bytes, at most {MAX_FILE_BYTES}", file.bytes));
    }
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if file.blake3.len() != 64 || !file.blake3.bytes().all(hex) {
        return Err(format!("blake3 {:?} must be 64 lower-case hex digits", file.blake3));
    }
    Ok(())
}

fn check_launch(launch: &Launch) -> Result<(), Refusal> {
    let product = |sizes: [u32; 3]| sizes.iter().try_fold(1u64, |all, &size| all.checked_mul(u64::from(size)));
    for (field, sizes, most) in [("block", launch.block, MAX_BLOCK_THREADS), ("cluster", launch.cluster, MAX_CLUSTER_BLOCKS)] {
        if !product(sizes).is_some_and(|all| (1..=most).contains(&all)) {
            return refusal(field, format!("{sizes:?} must multiply to 1..={most}"));
        }
    }
    Ok(())
}

fn check_tensor_map(spec: &TensorMapSpec) -> Result<(), String> {
    let rank = spec.dims.len();
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(format!("{rank} dims, must be 1 to {MAX_RANK}"));
    }
    if spec.strides.len() + 1 != rank || spec.r#box.len() != rank || spec.element_strides.len() != rank {
        return Err(format!(
            "{rank} dims need {} strides, {rank} box sizes and {rank} element strides, not {}, {} and {}",
            rank - 1,
            spec.strides.len(),
            spec.r#box.len(),
            spec.element_strides.len()
        ));
    }
    if let Some(size) = spec.r#box.iter().find(|&&size| !(1..=MAX_BOX).contains(&size)) {
        return Err(format!("box size {size} must be 1 to {MAX_BOX}"));
    }
    if let Some(step) = spec.element_strides.iter().find(|&&step| !(1..=8).contains(&step)) {
        return Err(format!("element stride {step} must be 1 to 8"));
    }
    Ok(())
}
