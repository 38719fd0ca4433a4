//! Checks Tile IR. What is checked:
//!
//! 1. operands and results fit their rows; attributes and regions are all there;
//! 2. every value is defined once, before its use, in an enclosing region;
//! 3. names (`tensor`, `pipe`, `buffer`, parameters) refer to declarations, slots exist;
//! 4. tile types fit each other: element-wise operations have one layout, MMA operands one dtype and matching shapes,
//!    a mismatch prints both layouts;
//! 5. roles: units fit what is executed (wgmma needs warpgroups, TMA loads one thread), warps are whole warpgroups
//!    where there are several roles.

use super::kernel::{Kernel, Op, Region, Role, Unit, Value};
use super::table::{Class, OpKind};
use super::types::{RegTile, SmemTile, Ty};
use crate::dtype::DType;
use crate::layout::{self, Dim};

/// A kernel that breaks a rule; names the template line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct TileError {
    /// The template's `file:line`, or the role.
    pub at: String,
    /// The rule, with the names involved.
    pub what: String,
}

/// Checks a kernel; the first broken rule is the error.
pub fn verify(k: &Kernel) -> Result<(), TileError> {
    let mut v = Verifier { k, defined: vec![false; k.types.len()] };
    let several = k.roles.len() > 1;
    for role in &k.roles {
        let at = || format!("role {}", role.name);
        if role.warps == 0 || (several && role.warps % 4 != 0) {
            return Err(TileError {
                at: at(),
                what: format!("{} warps: with several roles each has a multiple of four", role.warps),
            });
        }
        if let Some(r) = role.regs.filter(|r| r % 8 != 0 || !(24..=240).contains(r)) {
            return Err(TileError { at: at(), what: format!("{r} registers: setmaxnreg takes 24 to 240 in steps of 8") });
        }
        v.region(&role.body, role)?;
    }
    if k.threads() > 1024 {
        return Err(TileError { at: k.name.clone(), what: format!("{} threads: a CTA has at most 1024", k.threads()) });
    }
    Ok(())
}

struct Verifier<'k> {
    k: &'k Kernel,
    defined: Vec<bool>,
}

impl Verifier<'_> {
    fn region(&mut self, r: &Region, role: &Role) -> Result<(), TileError> {
        let mut here: Vec<Value> = r.args.clone();
        r.args.iter().for_each(|a| self.defined[a.0 as usize] = true);
        for op in &r.ops {
            self.op(op, role)?;
            for o in &op.outs {
                if std::mem::replace(&mut self.defined[o.0 as usize], true) {
                    return self.fail(op, format!("%{} is defined twice", o.0));
                }
            }
            here.extend(&op.outs);
            for r in &op.regions {
                self.region(r, role)?;
            }
        }
        // Values of a region end with it.
        here.iter().for_each(|v| self.defined[v.0 as usize] = false);
        Ok(())
    }

    fn fail<T>(&self, op: &Op, what: String) -> Result<T, TileError> {
        Err(TileError { at: self.k.sources.display(op.loc), what: format!("{}: {what}", op.kind.row().name) })
    }

    fn op(&self, op: &Op, role: &Role) -> Result<(), TileError> {
        let row = op.kind.row();
        for v in &op.args {
            if !self.defined.get(v.0 as usize).copied().unwrap_or(false) {
                return self.fail(op, format!("%{} is not defined here", v.0));
            }
        }
        let types = |list: &[Value]| list.iter().map(|v| self.k.ty(*v).clone()).collect::<Vec<_>>();
        let (ins, outs) = (types(&op.args), types(&op.outs));
        if !fits(row.ins, &ins) {
            return self.fail(op, format!("operands {} do not fit {:?}", show(&ins), row.ins));
        }
        if !fits(row.outs, &outs) {
            return self.fail(op, format!("results {} do not fit {:?}", show(&outs), row.outs));
        }
        if let Some(key) = row.attrs.iter().find(|key| !key.ends_with('?') && op.attrs.get(key).is_none()) {
            return self.fail(op, format!("attribute `{key}` is missing"));
        }
        if op.regions.len() as u32 != row.regions {
            return self.fail(op, format!("has {} regions, expected {}", op.regions.len(), row.regions));
        }
        if let Some(t) = outs.iter().filter_map(Ty::held_tile).find(|t| matches!(t.dtype, DType::U8 | DType::I64)) {
            return self.fail(op, format!("there are no {} register tiles: f32, f16, bf16, i32 or i1", t.dtype));
        }
        self.names(op)?;
        self.unit(op, role)?;
        self.tiles(op, role, &ins, &outs)?;
        super::verify_rows::check(self.k, role, op, &ins, &outs).or_else(|what| self.fail(op, what))?;
        super::verify_bits::check(self.k, op, &ins, &outs).or_else(|what| self.fail(op, what))
    }

    fn names(&self, op: &Op) -> Result<(), TileError> {
        let (tensor, pipe, buffer) = (op.attrs.get_sym("tensor"), op.attrs.get_sym("pipe"), op.attrs.get_sym("buffer"));
        if !tensor.is_empty() && self.k.tensor(tensor).is_none() {
            return self.fail(op, format!("there is no tensor `{tensor}`"));
        }
        if !pipe.is_empty() {
            let Some(p) = self.k.pipe(pipe) else { return self.fail(op, format!("there is no pipe `{pipe}`")) };
            let slot = op.attrs.get_int("slot");
            if op.attrs.get("slot").is_some() && !(0..p.slots.len() as i64).contains(&slot) {
                return self.fail(op, format!("pipe `{pipe}` has no slot {slot}"));
            }
        }
        if !buffer.is_empty() && !self.k.buffers.iter().any(|b| b.name == buffer) {
            return self.fail(op, format!("there is no buffer `{buffer}`"));
        }
        if op.kind == OpKind::Param && !self.k.scalars.iter().any(|s| s.name == op.attrs.get_sym("name")) {
            return self.fail(op, format!("there is no parameter `{}`", op.attrs.get_sym("name")));
        }
        Ok(())
    }

    fn unit(&self, op: &Op, role: &Role) -> Result<(), TileError> {
        use OpKind::*;
        let need = match op.kind {
            // One thread, or warps that are one unit: each waits for the stage, the first thread starts the loads.
            PipeAcquire | PipeCommit | TmaLoad if role.unit != Unit::Thread && role.units() == 1 => None,
            PipeAcquire | PipeCommit | TmaLoad | BulkLoad => Some(Unit::Thread),
            MmaAsync | MmaWait | MmaReady | StMatrix => Some(Unit::Warpgroup),
            LdMatrix | MmaSync | CopyAsync | CopyRows if role.unit == Unit::Thread => {
                return self.fail(op, "needs a role whose unit has whole warps: the role or the warpgroup".to_string());
            }
            _ => None,
        };
        match need {
            Some(unit) if unit != role.unit => {
                self.fail(op, format!("needs a role whose unit is the {}, not the {}", unit.name(), role.unit.name()))
            }
            _ => Ok(()),
        }
    }

    fn tiles(&self, op: &Op, role: &Role, ins: &[Ty], outs: &[Ty]) -> Result<(), TileError> {
        use OpKind::*;
        match (op.kind, ins, outs) {
            (Binary, [Ty::Reg(a), Ty::Reg(b)], [Ty::Reg(d)]) => {
                self.same_layout(op, a, b)?;
                self.same_layout(op, a, d)
            }
            (Splat, [Ty::Scalar(s)], [Ty::Reg(d)]) if *s != d.dtype && *s != d.dtype.element() => {
                self.fail(op, format!("a {s} does not fill a tile of {}", d.dtype))
            }
            (Unary | Cast, [Ty::Reg(a)], [Ty::Reg(d)]) => self.same_layout(op, a, d),
            (Exp2, [Ty::Reg(a)], [Ty::Reg(d)]) => {
                if a.dtype != DType::F32 || d.dtype != DType::F32 || !(1..=16).contains(&op.attrs.get_int("fma_share")) {
                    return self
                        .fail(op, format!("1 to 16 sixteenths of f32, not {} of {}", op.attrs.get_int("fma_share"), a.dtype));
                }
                self.same_layout(op, a, d)
            }
            (Fma | Choose, [Ty::Reg(a), Ty::Reg(b), Ty::Reg(c)], [Ty::Reg(d)]) => {
                self.same_layout(op, a, b)?;
                self.same_layout(op, b, c)?;
                self.same_layout(op, c, d)?;
                match (op.kind, a.dtype, b.dtype == c.dtype && c.dtype == d.dtype) {
                    (Fma, DType::F32 | DType::F16 | DType::BF16, true) if a.dtype == d.dtype => Ok(()),
                    (Choose, DType::I1, true) => Ok(()),
                    _ => self.fail(op, format!("dtypes {}, {}, {} do not fit", a.dtype, b.dtype, c.dtype)),
                }
            }
            (CmpTile, [Ty::Reg(a), Ty::Reg(b)], [Ty::Reg(d)]) => {
                self.same_layout(op, a, b)?;
                self.same_layout(op, a, d)?;
                if a.dtype == b.dtype && matches!(a.dtype, DType::F32 | DType::I32) && d.dtype == DType::I1 {
                    return Ok(());
                }
                self.fail(op, format!("compares {} with {} into {}", a.dtype, b.dtype, d.dtype))
            }
            (Broadcast, [Ty::Reg(a)], [Ty::Reg(d)]) => {
                let fits = (a.shape[0] == d.shape[0] || a.shape[0] == 1) && d.shape[1].is_multiple_of(a.shape[1]);
                if fits && a.dtype == d.dtype {
                    return Ok(());
                }
                self.fail(op, format!("{:?} {} does not broadcast to {:?} {}", a.shape, a.dtype, d.shape, d.dtype))
            }
            (Iota, [], [Ty::Reg(d)]) if d.dtype != DType::I32 => self.fail(op, format!("gives i32, not {}", d.dtype)),
            (Iota, _, _) if !matches!(op.attrs.get_int("axis"), 0 | 1) => {
                self.fail(op, format!("axis {}: 0 for rows, 1 for columns", op.attrs.get_int("axis")))
            }
            (Reduce | ReduceThread | ReduceLanes, [Ty::Reg(a)], [Ty::Reg(d)]) => {
                if op.kind == ReduceLanes && a.shape[1] != 1 {
                    return self.fail(op, format!("{:?} is no column: reduce each thread's part first", a.shape));
                }
                let want = a.layout.collapsed(Dim::Col).ok();
                if d.shape == [a.shape[0], 1] && d.dtype == a.dtype && want.as_ref() == Some(&d.layout) {
                    return Ok(());
                }
                self.fail(op, format!("rows of {:?} {} do not reduce to {:?} {}", a.shape, a.layout, d.shape, d.layout))
            }
            (CellSet, [Ty::Cell(c), v], _) if **c != *v => self.fail(op, format!("a {v} does not fit a cell of {c}")),
            (CellGet, [Ty::Cell(c)], [v]) if **c != *v => self.fail(op, format!("a cell of {c} does not give a {v}")),
            (MmaAsync, [Ty::Cell(acc), Ty::Smem(a), Ty::Smem(b), _], _) => self.mma_async(op, acc, (a.shape, a.dtype), b),
            (MmaAsync, [Ty::Cell(acc), Ty::Reg(a), Ty::Smem(b), _], _) => match layout::wgmma_a(a.shape[0], a.shape[1], 1) {
                Ok(want) if want == a.layout => self.mma_async(op, acc, (a.shape, a.dtype), b),
                Ok(want) => self.fail(op, format!("A in registers has the layout {}, wgmma takes {want}", a.layout)),
                Err(e) => self.fail(op, format!("A in registers: {e}")),
            },
            (MmaSync, [Ty::Cell(acc), Ty::Reg(a), Ty::Reg(b)], _) => {
                let Ty::Reg(acc) = &**acc else { return self.fail(op, "the accumulator is not a tile".into()) };
                let sums = if a.dtype == DType::I8 { DType::I32 } else { DType::F32 };
                if !matches!(a.dtype, DType::BF16 | DType::F16 | DType::F32 | DType::I8) || acc.dtype != sums {
                    return self.fail(
                        op,
                        format!("mma.sync of {} into {}: bf16, f16 and f32 into f32, i8 into i32", a.dtype, acc.dtype),
                    );
                }
                if a.dtype != b.dtype || acc.shape != [a.shape[0], b.shape[1]] || a.shape[1] != b.shape[0] {
                    return self.fail(op, format!("A {:?}, B {:?} and D {:?} do not fit", a.shape, b.shape, acc.shape));
                }
                Ok(())
            }
            (WhileAny, [Ty::Cell(c)], _) => {
                let mut inside = None;
                op.regions[0].walk(&mut |op| inside = inside.or((!per_thread(op.kind)).then(|| op.kind.row().name)));
                match (&**c, inside) {
                    (Ty::Reg(t), None) if t.dtype == DType::I1 => Ok(()),
                    (Ty::Reg(t), Some(name)) if t.dtype == DType::I1 => {
                        self.fail(op, format!("{name} inside: warps repeat the region each as often as it needs"))
                    }
                    (other, _) => self.fail(op, format!("repeats while a tile of i1 holds, not {other}")),
                }
            }
            (Any, [Ty::Reg(a)], _) if a.dtype != DType::I1 || role.warps != 1 => {
                self.fail(op, format!("of a tile of i1 in a role of one warp, not of {} in {} warps", a.dtype, role.warps))
            }
            (ScalarOf, [Ty::Reg(a)], _) if a.shape != [1, 1] || !matches!(a.dtype, DType::F32 | DType::I32) => {
                self.fail(op, format!("of one element of f32 or i32, not of {:?} {}", a.shape, a.dtype))
            }
            (Scan, [Ty::Reg(a)], [Ty::Reg(d)]) => {
                if a.dtype != DType::I32 || d.dtype != DType::I32 || a.shape[0] != 1 || role.warps != 1 {
                    return self.fail(
                        op,
                        format!("of one row of i32 in a role of one warp, not {:?} {} in {} warps", a.shape, a.dtype, role.warps),
                    );
                }
                self.same_layout(op, a, d)
            }
            (Slice, [Ty::Reg(a)], [Ty::Reg(d)]) => {
                let at = [op.attrs.get_int("row"), op.attrs.get_int("col")];
                let inside = (0..2).all(|i| at[i] >= 0 && at[i] as u32 + d.shape[i] <= a.shape[i]);
                if inside && a.dtype == d.dtype {
                    Ok(())
                } else {
                    self.fail(op, format!("{:?} at {at:?} is not inside {:?}", d.shape, a.shape))
                }
            }
            (StMatrix, [Ty::Smem(s), Ty::Reg(t)], _) if s.shape != t.shape || s.dtype != t.dtype => self.fail(
                op,
                format!(
                    "a {}x{} {} tile does not fit {}x{} {}",
                    t.shape[0], t.shape[1], t.dtype, s.shape[0], s.shape[1], s.dtype
                ),
            ),
            _ => Ok(()),
        }
    }

    fn mma_async(&self, op: &Op, acc: &Ty, a: ([u32; 2], DType), b: &SmemTile) -> Result<(), TileError> {
        let Ty::Reg(acc) = acc else { return self.fail(op, "the accumulator is not a tile".into()) };
        let trans = op.attrs.get_int("trans_b") != 0;
        let (bn, bk) = if trans { (b.shape[1], b.shape[0]) } else { (b.shape[0], b.shape[1]) };
        let ([am, ak], a_dtype) = a;
        let sums = if b.dtype == DType::I8 { DType::I32 } else { DType::F32 };
        let same = a_dtype == b.dtype || (a_dtype.is_fp8() && b.dtype.is_fp8());
        if acc.shape != [am, bn] || ak != bk || !same || acc.dtype != sums {
            return self.fail(
                op,
                format!("A {am}x{ak} {}, B {bn}x{bk} {} and D {:?} {} do not fit", a_dtype, b.dtype, acc.shape, acc.dtype),
            );
        }
        let bytes = matches!(b.dtype, DType::I8 | DType::E4M3 | DType::E5M2);
        if bytes && (trans || !matches!(self.k.ty(op.args[1]), Ty::Smem(_))) {
            return self.fail(op, format!("operands of {} lie in shared memory with k contiguous in both", b.dtype));
        }
        if b.dtype == DType::I8 && bn > 32 && bn % 16 != 0 {
            return self.fail(op, format!("wgmma of i8 takes B of 8, 16, 24, 32, then steps of 16, not {bn}"));
        }
        if bytes && ak % 32 != 0 {
            return self.fail(op, format!("wgmma of {} takes k in steps of 32, not {ak}", b.dtype));
        }
        if am % 64 != 0 || bn % 8 != 0 || bn > 256 || ak % 16 != 0 || !(bytes || b.dtype.bytes() == 2) {
            return self.fail(op, format!("wgmma takes 16-bit A of 64 rows and B of 8 to 256 in steps of 8, k a multiple of 16; found A {am}x{ak}, B {bn}x{bk}"));
        }
        Ok(())
    }

    fn same_layout(&self, op: &Op, a: &RegTile, b: &RegTile) -> Result<(), TileError> {
        if a.shape == b.shape && a.layout == b.layout {
            return Ok(());
        }
        self.fail(op, format!("tiles differ: {:?} {} and {:?} {}", a.shape, a.layout, b.shape, b.layout))
    }
}

/// Neither barriers nor shared memory: what warps may do as often as each likes.
fn per_thread(kind: OpKind) -> bool {
    use OpKind::*;
    matches!(
        kind,
        CellGet
            | CellSet
            | CellNew
            | If
            | LoadElems
            | StoreElems
            | LoadRows
            | StoreRows
            | Atomic
            | AtomicCas
            | AddRows
            | Reduce
            | ReduceLanes
    ) || kind.row().pure && !matches!(kind, PipeSlot | BufferTile | SmemRows | SmemView | SmemPanels)
}

fn show(types: &[Ty]) -> String {
    let names: Vec<String> = types.iter().map(Ty::to_string).collect();
    format!("({})", names.join("; "))
}

fn fits(classes: &[Class], types: &[Ty]) -> bool {
    let mut rest = types;
    for class in classes {
        match class {
            Class::Regs => {
                let all = !rest.is_empty() && rest.iter().all(|t| matches!(t, Ty::Reg(_)));
                rest = &[];
                if !all {
                    return false;
                }
            }
            Class::Ints => {
                let all = rest.iter().all(|t| *t == Ty::I32);
                rest = &[];
                if !all {
                    return false;
                }
            }
            Class::MaybeReg => {
                if let [Ty::Reg(_), tail @ ..] = rest {
                    rest = tail;
                }
            }
            Class::MaybeBool => {
                if let [first, tail @ ..] = rest {
                    if *first != Ty::I1 {
                        return false;
                    }
                    rest = tail;
                }
            }
            _ => {
                let [first, tail @ ..] = rest else { return false };
                let ok = match class {
                    Class::Int => *first == Ty::I32,
                    Class::Bool => *first == Ty::I1,
                    Class::Scalar => matches!(first, Ty::Scalar(_)),
                    Class::Reg => matches!(first, Ty::Reg(_)),
                    Class::Smem => matches!(first, Ty::Smem(_)),
                    Class::Tile => matches!(first, Ty::Reg(_) | Ty::Smem(_)),
                    Class::Cell => matches!(first, Ty::Cell(_)),
                    Class::Data => matches!(first, Ty::Scalar(_) | Ty::Reg(_)),
                    Class::Ints | Class::MaybeBool | Class::MaybeReg | Class::Regs => unreachable!("handled above"),
                };
                if !ok {
                    return false;
                }
                rest = tail;
            }
        }
    }
    rest.is_empty()
}
