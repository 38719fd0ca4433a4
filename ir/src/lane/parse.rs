//! Reads the text form of Lane IR; see the printer for an example.

use super::func::{Block, BlockData, Func, Inst, LaunchBounds, Param, ParamKind, Term, Value};
use super::table::Op;
use super::types::Ty;
use crate::loc::SourceMap;
use crate::text::{Cursor, ParseError};
use smallvec::SmallVec;

/// Parses one function. What comes out has not been verified: [`super::verify`] does that.
pub fn parse(text: &str) -> Result<Func, ParseError> {
    let mut c = Cursor::new(text);
    let mut func = header(&mut c)?;
    let mut types: Vec<Option<Ty>> = Vec::new();
    while !c.eat_word("end") {
        block(&mut c, &mut func, &mut types)?;
    }
    let missing = types.iter().position(Option::is_none);
    if let Some(v) = missing {
        return Err(c.error(format!("%{v} is used but never defined")));
    }
    func.types = types.into_iter().flatten().collect();
    let blocks = func.blocks.len() as u32;
    for (i, b) in func.blocks.iter().enumerate() {
        if let Some((to, _)) = b.term.targets().iter().find(|(to, _)| to.0 >= blocks) {
            return Err(c.error(format!("block{i} goes to block{}, which does not exist", to.0)));
        }
    }
    Ok(func)
}

fn header(c: &mut Cursor) -> Result<Func, ParseError> {
    for mark in ["lane", "@"] {
        c.expect(mark)?;
    }
    let name = c.word()?.to_string();
    c.expect("target")?;
    let arch = c.word()?.parse().map_err(|e: crate::arch::UnknownArch| c.error(e.to_string()))?;
    c.expect("threads")?;
    let threads = c.u32()?;
    c.expect("cluster")?;
    let cluster = [c.u32()?, c.u32()?, c.u32()?];
    c.expect("min_ctas")?;
    let min_ctas = c.u32()?;
    c.expect("smem")?;
    let smem_bytes = c.u32()?;
    let mut params = Vec::new();
    while c.eat_word("param") {
        params.push(param(c)?);
    }
    let mut sources = SourceMap::default();
    while c.eat_word("source") {
        c.u32()?;
        sources.files.push(c.quoted()?.to_string());
    }
    let launch = LaunchBounds { threads, cluster, min_ctas, smem_bytes };
    Ok(Func { name, arch, launch, params, types: Vec::new(), blocks: Vec::new(), sources })
}

fn param(c: &mut Cursor) -> Result<Param, ParseError> {
    let name = c.word()?.to_string();
    c.expect(":")?;
    let kind = match c.word()? {
        "global" => {
            c.expect("align")?;
            ParamKind::Global { align: c.u32()?, readonly: c.eat_word("readonly") }
        }
        "tensormap" => ParamKind::TensorMap,
        other => ParamKind::Scalar(Ty::from_name(other).ok_or_else(|| c.error(format!("unknown type `{other}`")))?),
    };
    Ok(Param { name, kind })
}

fn block(c: &mut Cursor, func: &mut Func, types: &mut Vec<Option<Ty>>) -> Result<(), ParseError> {
    let want = format!("block{}", func.blocks.len());
    let found = c.word()?;
    if found != want {
        return Err(c.error(format!("expected `{want}`, found `{found}`")));
    }
    c.expect("(")?;
    let mut params = Vec::new();
    while !c.eat(")") {
        params.push(definition(c, types)?);
        c.eat(",");
    }
    c.expect(":")?;
    let no_unroll = c.eat_word("nounroll");
    let mut insts = Vec::new();
    let term = loop {
        match c.peek_word() {
            "br" => {
                c.word()?;
                let (to, args) = edge(c, types)?;
                break Term::Br(to, args);
            }
            "condbr" => {
                c.word()?;
                let cond = usage(c, types)?;
                c.expect(",")?;
                let then = edge(c, types)?;
                c.expect(",")?;
                let other = edge(c, types)?;
                break Term::CondBr { cond, then, other };
            }
            "ret" => {
                c.word()?;
                break Term::Ret;
            }
            _ => insts.push(inst(c, types)?),
        }
    };
    func.blocks.push(BlockData { params, insts, term, no_unroll });
    Ok(())
}

fn inst(c: &mut Cursor, types: &mut Vec<Option<Ty>>) -> Result<Inst, ParseError> {
    let mut outs = SmallVec::new();
    while c.peek() == Some('%') {
        outs.push(definition(c, types)?);
        if !c.eat(",") {
            c.expect("=")?;
            break;
        }
    }
    let name = c.word()?;
    let op = Op::from_name(name).ok_or_else(|| c.error(format!("unknown instruction `{name}`")))?;
    let mut args = SmallVec::new();
    while c.peek_on_line() == Some('%') {
        args.push(usage(c, types)?);
        if !c.eat(",") {
            break;
        }
    }
    let attrs = c.attrs(op.row().attrs)?;
    Ok(Inst { op, args, outs, attrs, loc: c.loc()? })
}

fn edge(c: &mut Cursor, types: &mut Vec<Option<Ty>>) -> Result<(Block, Vec<Value>), ParseError> {
    let word = c.word()?;
    let id = word.strip_prefix("block").and_then(|n| n.parse().ok());
    let id = id.ok_or_else(|| c.error(format!("expected a block, found `{word}`")))?;
    c.expect("(")?;
    let mut args = Vec::new();
    while !c.eat(")") {
        args.push(usage(c, types)?);
        c.eat(",");
    }
    Ok((Block(id), args))
}

fn slot<'a>(c: &Cursor, types: &'a mut Vec<Option<Ty>>, id: u32) -> Result<&'a mut Option<Ty>, ParseError> {
    // A text of this size cannot define more values than it has characters; refuse ids that only waste memory.
    const MOST: u32 = 1 << 24;
    if id >= MOST {
        return Err(c.error(format!("%{id} is out of range")));
    }
    if types.len() <= id as usize {
        types.resize(id as usize + 1, None);
    }
    Ok(&mut types[id as usize])
}

fn definition(c: &mut Cursor, types: &mut Vec<Option<Ty>>) -> Result<Value, ParseError> {
    let id = c.value_id()?;
    c.expect(":")?;
    let name = c.word()?;
    let ty = Ty::from_name(name).ok_or_else(|| c.error(format!("unknown type `{name}`")))?;
    let place = slot(c, types, id)?;
    if place.is_some() {
        return Err(c.error(format!("%{id} is defined twice")));
    }
    *place = Some(ty);
    Ok(Value(id))
}

fn usage(c: &mut Cursor, types: &mut Vec<Option<Ty>>) -> Result<Value, ParseError> {
    let id = c.value_id()?;
    slot(c, types, id)?;
    Ok(Value(id))
}
