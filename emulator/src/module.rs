//! A parsed module.

use crate::error::ParseError;
use crate::memory::space::function_address;
use crate::parse::ast::{self, Space, Variable};
use crate::program::Kernel;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A GPU architecture, such as `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch {
    /// 90 for `sm_90` and `sm_90a`.
    pub sm: u32,
    /// Whether the features of this very chip are on: the `a` of `sm_90a`.
    pub specific: bool,
}

impl Arch {
    /// Shared memory one block may have, in bytes (CUDA C++ Programming Guide, "Compute Capabilities").
    pub fn shared_bytes(self) -> u64 {
        let kib = match self.sm {
            90 | 100..=119 => 227,
            80 | 87 => 163,
            86 | 89 | 120.. => 99,
            75 => 64,
            70..=74 => 96,
            _ => 48,
        };
        kib << 10
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.sm, if self.specific { "a" } else { "" })
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not an architecture such as sm_80 or sm_90a");
        let digits = text.strip_prefix("sm_").ok_or_else(error)?;
        let (digits, specific) = match digits.strip_suffix(['a', 'f']) {
            Some(digits) => (digits, true),
            None => (digits, false),
        };
        Ok(Arch { sm: digits.parse().map_err(|_| error())?, specific })
    }
}

/// PTX text, parsed and decoded: everything in it is known to the emulator.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) id: u64,
    pub(crate) arch: Arch,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) sources: Vec<String>,
    /// Names and addresses of functions.
    pub(crate) functions: Vec<(String, u64)>,
    /// Kept to decode it once more for the ring, should a launch ask for it.
    text: String,
    ring: OnceLock<Result<Vec<Kernel>, ParseError>>,
}

impl Module {
    /// Parses PTX text. Device functions are decoded into the entries that can reach them.
    ///
    /// # Errors
    /// The first thing that is not PTX, or not known to the emulator, with its line.
    ///
    /// ```
    /// let ptx = ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k() { ret; }";
    /// let module = tilewright_emulator::Module::parse(ptx)?;
    /// assert_eq!(module.entries().collect::<Vec<_>>(), ["k"]);
    /// # Ok::<(), tilewright_emulator::ParseError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let module = crate::parse::parse(text)?;
        let arch = module.target.parse().map_err(|message| ParseError { line: 1, column: None, message })?;
        let kernels = kernels(&module, false)?;
        let names = module.functions.iter().map(|function| &function.name).chain(module.aliases.iter().map(|(alias, _)| alias));
        let address = |name: &String| module.function(name).map(|index| (name.clone(), function_address(index)));
        let functions = names.filter_map(address).collect();
        let ast::Module { variables, sources, .. } = module;
        let (id, ring) = (NEXT.fetch_add(1, Ordering::Relaxed), OnceLock::new());
        Ok(Module { id, arch, kernels, variables, sources, functions, text: text.into(), ring })
    }

    /// Names of the entries, in the order of the text.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|kernel| kernel.name.as_str())
    }

    /// The architecture of `.target`.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Name and size in bytes of each parameter of an entry.
    pub fn params(&self, entry: &str) -> Option<Vec<(&str, u32)>> {
        let kernel = self.kernel(entry)?;
        Some(kernel.params.iter().map(|param| (param.name.as_str(), param.bytes)).collect())
    }

    /// Bytes of static shared memory of an entry.
    pub fn static_shared_bytes(&self, entry: &str) -> Option<u32> {
        self.kernel(entry).map(|kernel| kernel.static_shared)
    }

    /// What `.reqnctapercluster` asks for.
    pub fn required_cluster(&self, entry: &str) -> Option<[u32; 3]> {
        self.kernel(entry)?.reqcluster
    }

    /// Names of the `.global` and `.const` variables.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.global_variables().map(|(_, variable)| variable.name.as_str())
    }

    pub(crate) fn kernel(&self, entry: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == entry)
    }

    /// The entry with its float instructions on payloads.
    pub(crate) fn ring_kernel(&self, entry: &str) -> Result<Option<&Kernel>, &ParseError> {
        let decode = || kernels(&crate::parse::parse(&self.text)?, true);
        let kernels = self.ring.get_or_init(decode).as_ref()?;
        Ok(kernels.iter().find(|kernel| kernel.name == entry))
    }

    pub(crate) fn global_variables(&self) -> impl Iterator<Item = (usize, &Variable)> {
        let is_global = |(_, variable): &(usize, &Variable)| matches!(variable.space, Space::Global | Space::Const);
        self.variables.iter().enumerate().filter(is_global)
    }
}

fn kernels(module: &ast::Module, ring: bool) -> Result<Vec<Kernel>, ParseError> {
    let entries = module.functions.iter().filter(|function| function.is_entry);
    entries.map(|entry| crate::decode::decode(module, entry, ring)).collect()
}
