//! Variable names as small ids, and the fixed table that gives them values.

use std::sync::OnceLock;

use super::interner::Interner;

/// Most variables one problem may set.
pub const MAX_VARS: usize = 48;

/// A variable's name as a small number, the same for the whole process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarId(u32);

/// Values for a problem's variables: a fixed array, so setting and reading never allocate.
#[derive(Clone, Copy, Debug)]
pub struct Vars {
    entries: [(VarId, i64); MAX_VARS],
    len: usize,
}

/// A problem set more than [`MAX_VARS`] variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a problem may set at most {MAX_VARS} variables, and `{}` is one more", .0.name())]
pub struct TooManyVars(pub VarId);

/// Names that every op shares; the rest are added as manifests mention them.
const WELL_KNOWN: [&str; 6] = ["m", "n", "k", "batch", "split_k", "sms"];

impl VarId {
    /// Rows of the output.
    pub const M: VarId = VarId(0);
    /// Columns of the output.
    pub const N: VarId = VarId(1);
    /// Length of the sums.
    pub const K: VarId = VarId(2);
    /// Independent problems in one call.
    pub const BATCH: VarId = VarId(3);
    /// Parts the sums are cut into; 0 lets the plan choose.
    pub const SPLIT_K: VarId = VarId(4);
    /// Multiprocessors of the device.
    pub const SMS: VarId = VarId(5);

    /// The id of `name`, made on first sight. Names live as long as the process, so it is for parsing, not for hot paths.
    pub fn of(name: &str) -> VarId {
        VarId(interner().number(name))
    }

    /// The variable's name.
    pub fn name(self) -> &'static str {
        interner().name(self.0)
    }
}

impl std::fmt::Debug for VarId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Vars {
    /// No variable set.
    pub fn new() -> Self {
        Vars { entries: [(VarId(0), 0); MAX_VARS], len: 0 }
    }

    /// Sets `id`, replacing an earlier value.
    pub fn set(&mut self, id: VarId, value: i64) -> Result<(), TooManyVars> {
        if let Some(entry) = self.entries[..self.len].iter_mut().find(|entry| entry.0 == id) {
            entry.1 = value;
            return Ok(());
        }
        let slot = self.entries.get_mut(self.len).ok_or(TooManyVars(id))?;
        *slot = (id, value);
        self.len += 1;
        Ok(())
    }

    /// The value of `id`, if set.
    pub fn get(&self, id: VarId) -> Option<i64> {
        self.iter().find(|entry| entry.0 == id).map(|entry| entry.1)
    }

    /// The variables set, in the order they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (VarId, i64)> + '_ {
        self.entries[..self.len].iter().copied()
    }

    /// The variables of a matrix product, with `batch` 1 and the split left to the plan.
    pub fn gemm(m: i64, n: i64, k: i64) -> Self {
        let mut vars = Vars::new();
        vars.entries[..5].copy_from_slice(&[(VarId::M, m), (VarId::N, n), (VarId::K, k), (VarId::BATCH, 1), (VarId::SPLIT_K, 0)]);
        vars.len = 5;
        vars
    }
}

/// A problem's variables and what the device says in their place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) vars: &'a Vars,
    /// The value of [`VarId::SMS`], whatever the problem sets.
    pub(crate) sms: Option<i64>,
}

impl Scope<'_> {
    pub(crate) fn get(&self, id: VarId) -> Option<i64> {
        match self.sms {
            Some(sms) if id == VarId::SMS => Some(sms),
            _ => self.vars.get(id),
        }
    }

    /// All of it as variables.
    pub(crate) fn all(&self) -> Result<Vars, TooManyVars> {
        let mut all = *self.vars;
        if let Some(sms) = self.sms {
            all.set(VarId::SMS, sms)?;
        }
        Ok(all)
    }
}

impl<'a> From<&'a Vars> for Scope<'a> {
    fn from(vars: &'a Vars) -> Self {
        Scope { vars, sms: None }
    }
}

impl Default for Vars {
    fn default() -> Self {
        Self::new()
    }
}

fn interner() -> &'static Interner {
    static NAMES: OnceLock<Interner> = OnceLock::new();
    NAMES.get_or_init(|| Interner::new(&WELL_KNOWN))
}
