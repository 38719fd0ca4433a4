//! Scalar operations.

use super::{Expander, Low, ParamDesc};
use crate::attr::Attrs;
use crate::lane::{self, Op as L};
use crate::passes::PassError;
use crate::tile::{Op, OpKind};

impl Expander<'_> {
    pub(super) fn scalar_op(&mut self, op: &Op) -> Result<(), PassError> {
        use OpKind::*;
        let out = op.outs[0];
        let args: Vec<lane::Value> = op.args.iter().map(|a| self.scalar(*a)).collect();
        let v = match op.kind {
            Const => {
                let ty = self.lane_types(self.k.ty(out))[0];
                self.b.constant(ty, op.attrs.get_int("value"))
            }
            Param => {
                let name = op.attrs.get_sym("name").to_string();
                let dtype = self.k.scalars.iter().find(|s| s.name == name).map(|s| s.dtype).expect("the verifier checked names");
                let i = self.param(ParamDesc::Scalar(name, dtype));
                self.param_value(i)
            }
            CtaId => {
                let kind = [L::CtaIdX, L::CtaIdY, L::CtaIdZ][op.attrs.get_int("axis").clamp(0, 2) as usize];
                self.b.op(kind, &[])
            }
            NCtas => self.b.op(L::NCtaIdX, &[]),
            ClusterRank if self.k.cluster_size() == 1 => self.b.i32(0),
            ClusterRank => self.b.op(L::ClusterRank, &[]),
            WgIndex => self.at.unit_index,
            Cmp => self.icmp(op.attrs.get_sym("pred"), args[0], args[1]),
            // One thread has nobody to tell.
            Uniform if self.role.unit == crate::tile::Unit::Thread => args[0],
            Uniform => self.uniform(args[0]),
            Select => self.b.inst(L::Select, &args, &[lane::Ty::I32], Attrs::none())[0],
            Add => self.b.op(L::IAdd, &args),
            Sub => self.b.op(L::ISub, &args),
            Mul => self.b.op(L::IMul, &args),
            Div => self.b.op(L::UDiv, &args),
            Rem => self.b.op(L::URem, &args),
            Min => self.b.op(L::SMin, &args),
            Max => self.b.op(L::SMax, &args),
            other => unreachable!("{} is no scalar operation", other.row().name),
        };
        self.env.insert(out, Low::Scalar(v));
        Ok(())
    }

    /// A signed comparison by Tile IR's name.
    pub(super) fn icmp(&mut self, pred: &str, a: lane::Value, b: lane::Value) -> lane::Value {
        let pred = match pred {
            "lt" => "slt",
            "le" => "sle",
            "gt" => "sgt",
            "ge" => "sge",
            same => same,
        };
        self.b.icmp(pred, a, b)
    }
}
