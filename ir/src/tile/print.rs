//! The text form of Tile IR. `passes` leave their results in it too (`barrier`, `place` lines), so a dump after any
//! pass can be read back.

use super::kernel::{Dim, Kernel, Op, ProbeAxis, Region, Unit, Value};
use super::types::swizzle_name;
use std::fmt::{self, Write as _};

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.cluster;
        writeln!(f, "kernel @{} target {} cluster {x} {y} {z} min_ctas {}", self.name, self.arch, self.min_ctas)?;
        writeln!(f, "grid \"{}\" \"{}\" \"{}\"", self.grid[0], self.grid[1], self.grid[2])?;
        for r in &self.requires {
            writeln!(f, "require \"{r}\"")?;
        }
        for p in &self.probes {
            let axis = if p.axis == ProbeAxis::Trips { "trips" } else { "tiles" };
            writeln!(f, "probe {}: {} {axis}", p.param, p.unit)?;
        }
        for p in &self.scalars {
            writeln!(f, "param {}: {}", p.name, p.dtype)?;
        }
        for t in &self.tensors {
            let dims: Vec<String> = t.dims.iter().map(Dim::expr).collect();
            writeln!(f, "tensor {}: {} [{}]", t.name, t.dtype, dims.join(", "))?;
        }
        for p in &self.pipes {
            let slots: Vec<String> = p
                .slots
                .iter()
                .map(|s| {
                    let t = &s.tile;
                    format!("{} {}x{} {} multicast {}", t.dtype, t.shape[0], t.shape[1], swizzle_name(t.swizzle), s.multicast)
                })
                .collect();
            writeln!(f, "pipe {}: stages {} [{}]", p.name, p.stages, slots.join(", "))?;
        }
        for b in &self.buffers {
            let t = &b.tile;
            let [rows, cols] = t.shape;
            writeln!(f, "buffer {}: copies {} {} {rows}x{cols} {}", b.name, b.copies, t.dtype, swizzle_name(t.swizzle))?;
        }
        for b in &self.barriers {
            writeln!(
                f,
                "barrier {}: full_arrivals {} tx_bytes {} empty_arrivals {}",
                b.pipe, b.full_arrivals, b.tx_bytes, b.empty_arrivals
            )?;
        }
        for s in &self.smem {
            writeln!(f, "place {}: offset {} bytes {}", s.name, s.offset, s.bytes)?;
        }
        for (i, file) in self.sources.files.iter().enumerate() {
            writeln!(f, "source {i} \"{file}\"")?;
        }
        for role in &self.roles {
            write!(f, "role {}: warps {}", role.name, role.warps)?;
            if let Some(regs) = role.regs {
                write!(f, " regs {regs}")?;
            }
            writeln!(f, " unit {} {{", role.unit.name())?;
            let mut body = String::new();
            self.region(&mut body, &role.body, 1)?;
            writeln!(f, "{body}}}")?;
        }
        writeln!(f, "end")
    }
}

impl Unit {
    pub(super) const NAMES: [(Unit, &'static str); 3] =
        [(Unit::Thread, "thread"), (Unit::Warpgroup, "warpgroup"), (Unit::Role, "role")];

    /// The text form's name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(u, _)| *u == self).expect("every unit has a name").1
    }
}

impl Kernel {
    fn region(&self, out: &mut String, region: &Region, depth: usize) -> fmt::Result {
        region.ops.iter().try_for_each(|op| self.op(out, op, depth))
    }

    fn op(&self, out: &mut String, op: &Op, depth: usize) -> fmt::Result {
        let pad = "  ".repeat(depth);
        out.push_str(&pad);
        if !op.outs.is_empty() {
            write!(out, "{} = ", list(&op.outs))?;
        }
        out.push_str(op.kind.row().name);
        if !op.args.is_empty() {
            write!(out, " {}", list(&op.args))?;
        }
        write!(out, "{}", op.attrs)?;
        if !op.outs.is_empty() {
            let types: Vec<String> = op.outs.iter().map(|v| self.ty(*v).to_string()).collect();
            write!(out, " : {}", types.join("; "))?;
        }
        if op.loc.line > 0 {
            write!(out, " @{}:{}", op.loc.file, op.loc.line)?;
        }
        for r in &op.regions {
            writeln!(out, " ({}) {{", list(&r.args))?;
            self.region(out, r, depth + 1)?;
            write!(out, "{pad}}}")?;
        }
        out.push('\n');
        Ok(())
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(|v| format!("%{}", v.0)).collect::<Vec<_>>().join(", ")
}
