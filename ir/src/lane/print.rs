//! The text form of Lane IR.
//!
//! ```text
//! lane @axpy target sm_80 threads 128 cluster 1 1 1 min_ctas 1 smem 0
//! param x: global align 16 readonly
//! param n: i32
//! source 0 "templates/src/axpy.rs"
//! block0():
//!   %0:i32 = tid.x @0:12
//!   %1:i32 = const {value=4} @0:13
//!   %2:i32 = imul %0, %1 @0:13
//!   ret
//! end
//! ```

use super::func::{Block, Func, ParamKind, Term, Value};
use std::fmt;

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.launch;
        let [x, y, z] = l.cluster;
        writeln!(
            f,
            "lane @{} target {} threads {} cluster {x} {y} {z} min_ctas {} smem {}",
            self.name, self.arch, l.threads, l.min_ctas, l.smem_bytes
        )?;
        for p in &self.params {
            match p.kind {
                ParamKind::Global { align, readonly } => {
                    writeln!(f, "param {}: global align {align}{}", p.name, if readonly { " readonly" } else { "" })?;
                }
                ParamKind::Scalar(ty) => writeln!(f, "param {}: {ty}", p.name)?,
                ParamKind::TensorMap => writeln!(f, "param {}: tensormap", p.name)?,
            }
        }
        for (i, file) in self.sources.files.iter().enumerate() {
            writeln!(f, "source {i} \"{file}\"")?;
        }
        for (i, b) in self.blocks.iter().enumerate() {
            let params: Vec<String> = b.params.iter().map(|p| self.typed(*p)).collect();
            writeln!(f, "block{i}({}):{}", params.join(", "), if b.no_unroll { " nounroll" } else { "" })?;
            for inst in &b.insts {
                f.write_str("  ")?;
                if !inst.outs.is_empty() {
                    let outs: Vec<String> = inst.outs.iter().map(|o| self.typed(*o)).collect();
                    write!(f, "{} = ", outs.join(", "))?;
                }
                f.write_str(inst.op.row().name)?;
                if !inst.args.is_empty() {
                    write!(f, " {}", list(&inst.args))?;
                }
                write!(f, "{}", inst.attrs)?;
                if inst.loc.line > 0 {
                    write!(f, " @{}:{}", inst.loc.file, inst.loc.line)?;
                }
                writeln!(f)?;
            }
            match &b.term {
                Term::Br(to, args) => writeln!(f, "  br {}", edge(*to, args))?,
                Term::CondBr { cond, then, other } => {
                    writeln!(f, "  condbr %{}, {}, {}", cond.0, edge(then.0, &then.1), edge(other.0, &other.1))?;
                }
                Term::Ret => writeln!(f, "  ret")?,
            }
        }
        writeln!(f, "end")
    }
}

impl Func {
    fn typed(&self, v: Value) -> String {
        format!("%{}:{}", v.0, self.ty(v))
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(|v| format!("%{}", v.0)).collect::<Vec<_>>().join(", ")
}

fn edge(to: Block, args: &[Value]) -> String {
    format!("block{}({})", to.0, list(args))
}
