//! The dotted modifiers of an opcode. Each must be used exactly once by the decoder that handles the instruction, so
//! that a modifier nobody understands makes the instruction unknown instead of being ignored.

use super::ty::Ty;

pub struct Modifiers<'a> {
    parts: Vec<&'a str>,
    used: u64,
}

impl<'a> Modifiers<'a> {
    /// All parts after the root.
    pub fn new(opcode: &'a str) -> (&'a str, Self) {
        let mut parts = opcode.split('.');
        let root = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.collect();
        (root, Self { parts, used: 0 })
    }

    pub fn all(&self) -> &[&'a str] {
        &self.parts
    }

    /// Whether `name` is there; it counts as understood.
    pub fn take(&mut self, name: &str) -> bool {
        match self.find(|part| part == name) {
            Some(at) => {
                self.used |= 1 << at;
                true
            }
            None => false,
        }
    }

    fn find(&self, test: impl Fn(&str) -> bool) -> Option<usize> {
        (0..self.parts.len().min(64)).find(|&at| (self.used >> at) & 1 == 0 && test(self.parts[at]))
    }

    pub fn take_any(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// The first unused of `names`, by value.
    pub fn choose<T: Copy>(&mut self, names: &[(&str, T)]) -> Option<T> {
        names.iter().find_map(|&(name, value)| self.take(name).then_some(value))
    }

    /// The next unused type, left to right.
    pub fn ty(&mut self) -> Option<Ty> {
        let at = self.find(|part| Ty::parse(part).is_some())?;
        self.used |= 1 << at;
        Ty::parse(self.parts[at])
    }

    /// Cache hints order nothing here.
    pub fn take_cache_hints(&mut self) {
        while let Some(at) =
            self.find(|part| part.starts_with("L1::") || part.starts_with("L2::") || part == "L1" || part == "L2")
        {
            self.used |= 1 << at;
        }
    }

    /// Everything counts as understood.
    pub fn take_all(&mut self) {
        self.used = u64::MAX;
    }

    /// The first modifier nobody asked for.
    pub fn left(&self) -> Option<&'a str> {
        if self.used == u64::MAX {
            return None;
        }
        if self.parts.len() > 64 {
            return Some(self.parts[64]);
        }
        self.find(|_| true).map(|at| self.parts[at])
    }
}
