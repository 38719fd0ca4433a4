//! Where variables and parameters live.

use crate::parse::ast::{Function, Module, Space, Variable};
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
    Local(u32),
    /// Index into the module's variables.
    Global(u32),
}

#[derive(Debug, Default)]
pub struct Layout {
    places: FxHashMap<String, Place>,
    pub params: Vec<ParamSlot>,
    pub param_bytes: u32,
    pub static_shared: u32,
    pub dynamic_shared_at: u32,
    pub local_bytes: u32,
}

fn align_up(at: u32, align: u32) -> u32 {
    at.next_multiple_of(align.max(1))
}

impl Layout {
    pub fn new(module: &Module, function: &Function) -> Self {
        let mut layout = Layout::default();
        for param in &function.params {
            let offset = align_up(layout.param_bytes, param.align);
            let bytes = param.bytes as u32;
            layout.param_bytes = offset + bytes;
            layout.places.insert(param.name.clone(), Place::Param { offset, bytes });
            layout.params.push(ParamSlot { name: param.name.clone(), offset, bytes });
        }
        let mut dynamic_align = 16;
        let mut dynamic: Vec<&str> = Vec::new();
        let scoped = function.variables.iter().map(|variable| (variable, None));
        let global = module.variables.iter().enumerate().map(|(index, variable)| (variable, Some(index as u32)));
        for (variable, index) in global.chain(scoped) {
            let Variable { name, space, align, bytes, external, .. } = variable;
            match (space, index) {
                (Space::Shared, _) if *external && *bytes == 0 => {
                    dynamic_align = dynamic_align.max(*align);
                    dynamic.push(name);
                }
                (Space::Shared, _) => {
                    let offset = align_up(layout.static_shared, *align);
                    layout.static_shared = offset.saturating_add(*bytes as u32);
                    layout.places.insert(name.clone(), Place::Shared(offset));
                }
                (Space::Local, _) => {
                    let offset = align_up(layout.local_bytes, *align);
                    layout.local_bytes = offset.saturating_add(*bytes as u32);
                    layout.places.insert(name.clone(), Place::Local(offset));
                }
                (_, Some(index)) => {
                    layout.places.insert(name.clone(), Place::Global(index));
                }
                _ => {}
            }
        }
        // All unsized extern arrays name the same dynamic part (CUDA C++ Programming Guide, "__shared__").
        layout.dynamic_shared_at = align_up(layout.static_shared, dynamic_align);
        for name in dynamic {
            layout.places.insert(name.to_string(), Place::Shared(layout.dynamic_shared_at));
        }
        layout
    }

    pub fn find(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }
}
