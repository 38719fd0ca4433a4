//! Branches and exits.

use super::decoder::{Decoder, Result};
use super::modifiers::Modifiers;
use super::ty::Ty;
use crate::parse::ast::Operand;
use crate::program::Op;

impl Decoder<'_> {
    pub(super) fn control(&mut self, root: &str, m: &mut Modifiers, ops: &[Operand]) -> Result<Op> {
        m.take("uni");
        match root {
            "bra" => {
                self.expect_operands(ops, 1)?;
                Ok(Op::Bra(self.label(&ops[0])?))
            }
            "brx" => {
                if !m.take("idx") {
                    return self.unknown();
                }
                self.expect_operands(ops, 2)?;
                let index = self.src32(&ops[0], Ty::U(32))?;
                let Operand::Name { name, scope, .. } = &ops[1] else {
                    return self.error("expected the name of a .branchtargets list");
                };
                let list = self.lookup(*scope, |scope| self.function.branch_targets.get(&(scope, name.clone())));
                let Some(list) = list else {
                    return self.error(format!("no .branchtargets list `{name}`"));
                };
                let targets = list.iter().map(|label| self.label_in(label, *scope)).collect::<Result<Vec<_>>>()?;
                Ok(Op::Brx { index, targets: targets.into_boxed_slice() })
            }
            "ret" => Ok(if self.function.is_entry { Op::Exit } else { Op::Ret }),
            "exit" => Ok(Op::Exit),
            "trap" | "brkpt" => Ok(Op::Trap),
            _ => self.unknown(),
        }
    }
}
