//! Scales of 8-bit operands: which kind a tensor's shape says, and the refusals.

use super::super::ask::Ask;
use super::case::Shape;
use crate::error::{Res, usage};
use crate::tensors::{Tensor, to_f64};
use safetensors::Dtype;
use tilewright_templates::gemm::{BLOCK, Scale};

/// The kind of `name`, `a_scale` or `b_scale`, of an operand with so many rows; afterwards it has an entry for each matrix of a
/// batch. Without the tensor there is none.
pub fn take(ask: &mut Ask, name: &str, rows: usize, [batch, _, _, k]: Shape, batched: bool) -> Res<Scale> {
    let Some(t) = ask.tensors.get_mut(name) else { return Ok(Scale::None) };
    let blocks = |x: usize| x.div_ceil(BLOCK as usize);
    let block = if name == "a_scale" { vec![rows, blocks(k)] } else { vec![blocks(rows), blocks(k)] };
    let led = |shape: &[usize]| [&[batch][..], shape].concat();
    let mut kinds = vec![(vec![1], Scale::Tensor, false), (vec![rows], Scale::Row, false), (block.clone(), Scale::Block, false)];
    if batched {
        kinds.extend([(led(&[rows]), Scale::Row, true), (led(&block), Scale::Block, true)]);
    }
    let fits: Vec<_> = kinds.iter().filter(|(shape, ..)| *shape == t.shape).collect();
    let first = match fits[..] {
        [] => {
            let shapes: Vec<String> = kinds.iter().map(|(shape, ..)| format!("{shape:?}")).collect();
            return usage(format!("tensor `{name}` is {}: expected F32 of shape {}", t.describe(), shapes.join(", ")));
        }
        // One row: its factor is the tensor's.
        [first, ..] if first.1 == Scale::Tensor => first,
        [one] => one,
        [..] => {
            return usage(format!(
                "tensor `{name}` is {}: that may be a factor for each row of each matrix or for each block; give [batch, ..]",
                t.describe()
            ));
        }
    };
    check(name, t)?;
    let (kind, for_each) = (first.1, first.2);
    if batched && kind != Scale::Tensor && !for_each {
        *t = Tensor { shape: led(&t.shape), data: t.data.repeat(batch), dtype: t.dtype };
    }
    Ok(kind)
}

/// The kind of `name` of a grouped GEMM, each kind with its shape.
pub fn of_groups(ask: &Ask, name: &str, kinds: [(Vec<usize>, Scale); 3]) -> Res<Scale> {
    let Some(t) = ask.tensors.get(name) else { return Ok(Scale::None) };
    check(name, t)?;
    match kinds.iter().find(|(shape, _)| *shape == t.shape) {
        Some((_, kind)) => Ok(*kind),
        None => {
            let shapes: Vec<String> = kinds.iter().map(|(shape, _)| format!("{shape:?}")).collect();
            usage(format!("tensor `{name}` is {}: expected F32 of shape {}", t.describe(), shapes.join(", ")))
        }
    }
}

/// Refuses what is no factor.
fn check(name: &str, t: &Tensor) -> Res<()> {
    if t.dtype != Dtype::F32 {
        return usage(format!("tensor `{name}` is {}: expected F32", t.describe()));
    }
    if let Some((i, x)) = to_f64(t.dtype, &t.data)?.into_iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return usage(format!("tensor `{name}`: element {i} is {x}, which is no factor: expected finite numbers"));
    }
    Ok(())
}
