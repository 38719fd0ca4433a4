//! Constant folding, common subexpressions, dead code: on scalars and other pure operations of Tile IR.

use crate::attr::{Attr, Attrs};
use crate::tile::{Kernel, Op, OpKind, Region, Ty, Value};
use rustc_hash::{FxHashMap, FxHashSet};

/// Simplifies every role. What remains computes the same; sub-expressions are shared inside a region and with the
/// regions it encloses.
pub fn simplify(k: &mut Kernel) {
    for i in 0..k.roles.len() {
        let mut body = std::mem::take(&mut k.roles[i].body);
        let mut s = Simplifier { k, replaced: FxHashMap::default(), known: FxHashMap::default() };
        s.region(&mut body, &FxHashMap::default());
        remove_dead(&mut body);
        k.roles[i].body = body;
    }
}

type Key = (OpKind, Vec<Value>, Attrs, Ty);
type Seen = FxHashMap<Key, Value>;

struct Simplifier<'k> {
    k: &'k Kernel,
    replaced: FxHashMap<Value, Value>,
    known: FxHashMap<Value, i64>,
}

impl Simplifier<'_> {
    fn region(&mut self, r: &mut Region, outer: &Seen) {
        let mut seen = outer.clone();
        let ops = std::mem::take(&mut r.ops);
        for mut op in ops {
            for a in &mut op.args {
                *a = self.replaced.get(a).copied().unwrap_or(*a);
            }
            self.fold(&mut op);
            if op.kind.row().pure {
                // Equal attributes do not make a f32 zero an i32 zero: the type is part of the key.
                let key = (op.kind, op.args.clone(), op.attrs.clone(), self.k.ty(op.outs[0]).clone());
                match seen.get(&key) {
                    Some(v) => {
                        self.replaced.insert(op.outs[0], *v);
                        continue;
                    }
                    None => {
                        seen.insert(key, op.outs[0]);
                    }
                }
            }
            for r in &mut op.regions {
                self.region(r, &seen);
            }
            r.ops.push(op);
        }
    }

    fn fold(&mut self, op: &mut Op) {
        use OpKind::*;
        if op.kind == Const {
            self.known.insert(op.outs[0], op.attrs.get_int("value"));
            return;
        }
        let c = |i: usize| op.args.get(i).and_then(|a| self.known.get(a)).copied();
        let value = match (op.kind, c(0), c(1)) {
            (Add, Some(a), Some(b)) => a.checked_add(b),
            (Sub, Some(a), Some(b)) => a.checked_sub(b),
            (Mul, Some(a), Some(b)) => a.checked_mul(b),
            (Div, Some(a), Some(b)) if a >= 0 && b > 0 => Some(a / b),
            (Rem, Some(a), Some(b)) if a >= 0 && b > 0 => Some(a % b),
            (Min, Some(a), Some(b)) => Some(a.min(b)),
            (Max, Some(a), Some(b)) => Some(a.max(b)),
            (Rem, _, Some(1)) => Some(0),
            _ => None,
        };
        if let Some(v) = value.filter(|v| i32::try_from(*v).is_ok()) {
            op.kind = Const;
            op.args.clear();
            op.attrs = Attrs(vec![("value", Attr::Int(v))]);
            self.known.insert(op.outs[0], v);
            return;
        }
        // x + 0, x - 0, x * 1, x / 1
        if matches!((op.kind, c(1)), (Add | Sub, Some(0)) | (Mul | Div, Some(1))) {
            self.replaced.insert(op.outs[0], op.args[0]);
        }
    }
}

/// Removes pure operations whose results nobody uses, until none is left.
fn remove_dead(body: &mut Region) {
    loop {
        let mut used = FxHashSet::default();
        body.walk(&mut |op| used.extend(op.args.iter().copied()));
        let mut removed = false;
        body.rewrite(&mut |ops| {
            let before = ops.len();
            ops.retain(|op| !op.kind.row().pure || op.outs.iter().any(|o| used.contains(o)));
            removed |= ops.len() != before;
        });
        if !removed {
            return;
        }
    }
}
