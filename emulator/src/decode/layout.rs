//! Where variables and parameters live.

use crate::parse::ast::{Formal, Function, Module, Space, Variable};
use crate::program::ParamSlot;
use rustc_hash::FxHashMap;

/// Where a name points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Param {
        offset: u32,
        bytes: u32,
    },
    /// Offset from the first user byte.
    Shared(u32),
    /// Offset in the function's frame of local memory.
    Local(u32),
    /// The same, of a parameter or return value of a call.
    Call {
        offset: u32,
        bytes: u32,
    },
    /// Index into the module's variables.
    Global(u32),
}

#[derive(Debug, Default)]
pub struct Layout {
    places: FxHashMap<String, Place>,
    pub params: Vec<ParamSlot>,
    pub param_bytes: u32,
    pub frame_bytes: u32,
    /// Names of the dynamic part of shared memory.
    dynamic: Vec<String>,
}

/// Shared memory of an entry and all functions it can call.
#[derive(Debug)]
pub struct SharedLayout {
    pub static_bytes: u32,
    dynamic_align: u32,
}

impl SharedLayout {
    pub fn new() -> Self {
        SharedLayout { static_bytes: 0, dynamic_align: 16 }
    }

    /// All unsized extern arrays name the same dynamic part (CUDA C++ Programming Guide, "__shared__").
    pub fn dynamic_at(&self) -> u32 {
        align_up(self.static_bytes, self.dynamic_align)
    }
}

fn align_up(at: u32, align: u32) -> u32 {
    at.checked_next_multiple_of(align.max(1)).unwrap_or(u32::MAX)
}

impl Layout {
    /// Places of one function. Module variables come first in shared memory, at the same offsets for all functions.
    pub fn new(module: &Module, function: &Function, shared: &mut SharedLayout) -> Self {
        let mut layout = Layout::default();
        for param in &function.params {
            let offset = align_up(layout.param_bytes, param.align);
            let bytes = param.bytes as u32;
            layout.param_bytes = offset.saturating_add(bytes);
            layout.places.insert(param.name.clone(), Place::Param { offset, bytes });
            layout.params.push(ParamSlot { name: param.name.clone(), offset, bytes });
        }
        for formal in function.formals.iter().chain(&function.returns) {
            if let Formal::Memory(variable) = formal {
                layout.call_slot(variable);
            }
        }
        let mut module_shared = 0;
        let scoped = function.variables.iter().map(|variable| (variable, None));
        let global = module.variables.iter().enumerate().map(|(index, variable)| (variable, Some(index as u32)));
        for (variable, index) in global.chain(scoped) {
            let Variable { name, space, align, bytes, external, .. } = variable;
            match (space, index) {
                (Space::Shared, _) if *external && *bytes == 0 => {
                    shared.dynamic_align = shared.dynamic_align.max(*align);
                    layout.dynamic.push(name.clone());
                }
                (Space::Shared, Some(_)) => {
                    let offset = align_up(module_shared, *align);
                    module_shared = offset.saturating_add(*bytes as u32);
                    shared.static_bytes = shared.static_bytes.max(module_shared);
                    layout.places.insert(name.clone(), Place::Shared(offset));
                }
                (Space::Shared, None) => {
                    let offset = align_up(shared.static_bytes, *align);
                    shared.static_bytes = offset.saturating_add(*bytes as u32);
                    layout.places.insert(name.clone(), Place::Shared(offset));
                }
                (Space::Local, _) => {
                    let offset = align_up(layout.frame_bytes, *align);
                    layout.frame_bytes = offset.saturating_add(*bytes as u32);
                    layout.places.insert(name.clone(), Place::Local(offset));
                }
                (Space::Param, None) => layout.call_slot(variable),
                (_, Some(index)) => {
                    layout.places.insert(name.clone(), Place::Global(index));
                }
                _ => {}
            }
        }
        layout
    }

    fn call_slot(&mut self, variable: &Variable) {
        let bytes = variable.bytes as u32;
        let offset = align_up(self.frame_bytes, variable.align);
        self.frame_bytes = offset.saturating_add(bytes);
        self.places.insert(variable.name.clone(), Place::Call { offset, bytes });
    }

    /// Tells the layout where the dynamic part of shared memory starts.
    pub fn place_dynamic(&mut self, at: u32) {
        for name in std::mem::take(&mut self.dynamic) {
            self.places.insert(name, Place::Shared(at));
        }
    }

    pub fn find(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }
}
