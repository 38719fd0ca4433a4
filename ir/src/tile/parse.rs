//! Reads the text form of Tile IR; the inverse of the printer.

use super::kernel::*;
use super::table::OpKind;
use super::types::{SmemTile, Ty, dtype, shape};
use crate::dtype::DType;
use crate::text::{Cursor, ParseError};

/// Parses one kernel. What comes out has not been verified: [`super::verify`] does that.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut c = Cursor::new(text);
    let mut k = header(&mut c)?;
    loop {
        let word = c.word()?;
        match word {
            "end" => break,
            "require" => k.requires.push(c.quoted()?.to_string()),
            "probe" => {
                let param = name(&mut c)?;
                let unit = c.u32()?;
                let axis = match c.word()? {
                    "trips" => ProbeAxis::Trips,
                    "tiles" => ProbeAxis::Tiles,
                    other => return Err(c.error(format!("unknown probe axis `{other}`"))),
                };
                k.probes.push(Probe { param, unit, axis });
            }
            "param" => {
                let name = name(&mut c)?;
                k.scalars.push(ScalarParam { name, dtype: dtype(&mut c)? });
            }
            "tensor" => k.tensors.push(tensor(&mut c)?),
            "pipe" => k.pipes.push(pipe(&mut c)?),
            "buffer" => {
                let name = name(&mut c)?;
                c.expect("copies")?;
                let copies = c.u32()?;
                k.buffers.push(Buffer { name, copies, tile: tile(&mut c)? });
            }
            "barrier" => {
                let pipe = name(&mut c)?;
                let mut field = |label: &str| {
                    c.expect(label)?;
                    c.u32()
                };
                let full_arrivals = field("full_arrivals")?;
                let tx_bytes = field("tx_bytes")?;
                let empty_arrivals = field("empty_arrivals")?;
                k.barriers.push(BarrierPlan { pipe, full_arrivals, tx_bytes, empty_arrivals });
            }
            "place" => {
                let name = name(&mut c)?;
                c.expect("offset")?;
                let offset = c.u32()?;
                c.expect("bytes")?;
                k.smem.push(SmemPlan { name, offset, bytes: c.u32()? });
            }
            "source" => {
                c.u32()?;
                k.sources.files.push(c.quoted()?.to_string());
            }
            "role" => {
                let role = role(&mut c, &mut k)?;
                k.roles.push(role);
            }
            other => return Err(c.error(format!("unknown declaration `{other}`"))),
        }
    }
    Ok(k)
}

fn header(c: &mut Cursor) -> Result<Kernel, ParseError> {
    c.expect("kernel")?;
    c.expect("@")?;
    let name = c.word()?.to_string();
    c.expect("target")?;
    let arch = c.word()?.parse().map_err(|e: crate::arch::UnknownArch| c.error(e.to_string()))?;
    let mut k = Kernel::new(&name, arch);
    c.expect("cluster")?;
    k.cluster = [c.u32()?, c.u32()?, c.u32()?];
    c.expect("min_ctas")?;
    k.min_ctas = c.u32()?;
    c.expect("grid")?;
    k.grid = [c.quoted()?.to_string(), c.quoted()?.to_string(), c.quoted()?.to_string()];
    Ok(k)
}

fn name(c: &mut Cursor) -> Result<String, ParseError> {
    let word = c.word()?.to_string();
    c.expect(":")?;
    Ok(word)
}

fn tensor(c: &mut Cursor) -> Result<Tensor, ParseError> {
    let name = name(c)?;
    let dtype: DType = dtype(c)?;
    c.expect("[")?;
    let list = c.until(']')?;
    c.expect("]")?;
    let dims = extents(list).into_iter().map(|e| extent(e).ok_or_else(|| c.error(format!("`{e}` is no extent"))));
    let dims = dims.collect::<Result<_, _>>()?;
    Ok(Tensor { name, dtype, dims })
}

/// The parts of a list between commas, those inside parentheses left alone.
fn extents(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = list.split(|ch| {
        depth += i32::from(ch == '(') - i32::from(ch == ')');
        ch == ',' && depth == 0
    });
    parts.map(str::trim).collect()
}

/// `128`, `n`, `2*n`, `splits*batch`, `ceil_div(sq,64)`: a number in front is the factor.
fn extent(text: &str) -> Option<Dim> {
    let digits = text.find(|ch: char| !ch.is_ascii_digit()).unwrap_or(text.len());
    let factor = if digits > 0 { text[..digits].parse().ok()? } else { 1 };
    let param = match (digits, &text[digits..]) {
        (0, "") => return None,
        (_, "") => None,
        (0, rest) => Some(rest.to_string()),
        (_, rest) => Some(rest.strip_prefix('*').filter(|rest| !rest.is_empty())?.to_string()),
    };
    Some(Dim { param, factor })
}

/// `bf16 128x64 b128`: the panel pitch follows from the whole tile.
fn tile(c: &mut Cursor) -> Result<SmemTile, ParseError> {
    let dtype = dtype(c)?;
    let shape = shape(c)?;
    let tile = SmemTile::new(dtype, shape);
    let found = c.word()?;
    if found != super::types::swizzle_name(tile.swizzle) {
        return Err(c.error(format!("a {}x{} tile of {dtype} does not have swizzle `{found}`", shape[0], shape[1])));
    }
    Ok(tile)
}

fn pipe(c: &mut Cursor) -> Result<PipeDecl, ParseError> {
    let name = name(c)?;
    c.expect("stages")?;
    let stages = c.u32()?;
    c.expect("[")?;
    let mut slots = Vec::new();
    while !c.eat("]") {
        let tile = tile(c)?;
        c.expect("multicast")?;
        slots.push(SlotDecl { tile, multicast: c.u32()? });
        c.eat(",");
    }
    Ok(PipeDecl { name, stages, slots })
}

fn role(c: &mut Cursor, k: &mut Kernel) -> Result<Role, ParseError> {
    let name = name(c)?;
    c.expect("warps")?;
    let warps = c.u32()?;
    let regs = if c.eat_word("regs") { Some(c.u32()?) } else { None };
    c.expect("unit")?;
    let word = c.word()?;
    let unit = Unit::NAMES.iter().find(|(_, n)| *n == word).map(|(u, _)| *u);
    let unit = unit.ok_or_else(|| c.error(format!("unknown unit `{word}`")))?;
    c.expect("{")?;
    let body = Region { args: Vec::new(), ops: ops(c, k)? };
    Ok(Role { name, warps, regs, unit, body })
}

fn ops(c: &mut Cursor, k: &mut Kernel) -> Result<Vec<Op>, ParseError> {
    let mut list = Vec::new();
    while !c.eat("}") {
        list.push(op(c, k)?);
    }
    Ok(list)
}

fn op(c: &mut Cursor, k: &mut Kernel) -> Result<Op, ParseError> {
    let outs = values(c)?;
    if !outs.is_empty() {
        c.expect("=")?;
    }
    let word = c.word()?;
    let kind = OpKind::from_name(word).ok_or_else(|| c.error(format!("unknown operation `{word}`")))?;
    let args = if c.peek_on_line() == Some('%') { values(c)? } else { Vec::new() };
    let attrs = c.attrs(kind.row().attrs)?;
    if !outs.is_empty() {
        c.expect(":")?;
    }
    for (i, v) in outs.iter().enumerate() {
        if i > 0 {
            c.expect(";")?;
        }
        let ty = Ty::parse(c)?;
        define(c, k, *v, ty)?;
    }
    let loc = c.loc()?;
    let mut regions = Vec::new();
    for _ in 0..kind.row().regions {
        c.expect("(")?;
        let args = values(c)?;
        c.expect(")")?;
        for a in &args {
            define(c, k, *a, Ty::I32)?;
        }
        c.expect("{")?;
        regions.push(Region { args, ops: ops(c, k)? });
    }
    Ok(Op { kind, args, outs, attrs, regions, loc })
}

fn values(c: &mut Cursor) -> Result<Vec<Value>, ParseError> {
    let mut list = Vec::new();
    while c.peek() == Some('%') {
        list.push(Value(c.value_id()?));
        if !c.eat(",") {
            break;
        }
    }
    Ok(list)
}

/// Ids may have gaps (removed operations): the gaps get a type nothing refers to, which the verifier would notice.
fn define(c: &Cursor, k: &mut Kernel, v: Value, ty: Ty) -> Result<(), ParseError> {
    const MOST: u32 = 1 << 22;
    if v.0 >= MOST {
        return Err(c.error(format!("%{} is out of range", v.0)));
    }
    if k.types.len() <= v.0 as usize {
        k.types.resize(v.0 as usize + 1, Ty::I1);
    }
    k.types[v.0 as usize] = ty;
    Ok(())
}
