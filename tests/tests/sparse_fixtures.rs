//! Maps and the f64 reference of sparse convolutions against dense convolutions of an independent library: `fixtures/sparse_conv/`.

use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;
use tilewright_ir::DType;
use tilewright_templates::sparse_conv::{
    ConvOperands, ConvProblem, Coord, Dataflow, Geometry, KernelMap, Mode, Points, act, conv_reference,
};

/// The keys of a case.
struct Keys<'a>(BTreeMap<&'a str, &'a str>);

impl Keys<'_> {
    fn axes(&self, name: &str) -> [u32; 3] {
        let numbers: Vec<u32> = self.0[name].split(',').map(|n| n.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    fn geometry(&self, mode: Mode) -> Geometry {
        let [kernel, stride, dilation, padding] = ["kernel", "stride", "dilation", "padding"].map(|n| self.axes(n));
        match mode {
            Mode::Submanifold => Geometry::submanifold(kernel, dilation),
            _ => Geometry { kernel, stride, dilation, padding },
        }
    }
}

/// A tensor's numbers; none where the case has no such tensor.
fn numbers(file: &SafeTensors<'_>, case: &str, name: &str) -> Vec<f64> {
    let Ok(t) = file.tensor(&format!("{case}.{name}")) else { return Vec::new() };
    match t.dtype() {
        Dtype::F32 => t.data().chunks(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect(),
        Dtype::F64 => t.data().chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect(),
        other => panic!("{case}.{name} is {other:?}"),
    }
}

fn coords(file: &SafeTensors<'_>, case: &str, name: &str) -> Vec<Coord> {
    let Ok(t) = file.tensor(&format!("{case}.{name}")) else { return Vec::new() };
    let all: Vec<i32> = t.data().chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect();
    all.chunks(4).map(|c| c.try_into().unwrap()).collect()
}

#[test]
fn maps_and_the_reference_are_dense_convolutions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sparse_conv/cases.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases = header.metadata().as_ref().unwrap();
    let mut modes = BTreeMap::new();
    for (case, keys) in cases {
        let keys = Keys(keys.split(' ').map(|k| k.split_once('=').unwrap()).collect());
        let mode: Mode = keys.0["mode"].parse().unwrap();
        *modes.entry(mode).or_insert(0) += 1;
        let g = keys.geometry(mode);
        g.check(mode).unwrap();
        let input = Points::new(coords(&file, case, "coords")).unwrap();
        let target = coords(&file, case, "coords_target");
        let target = (!target.is_empty()).then(|| Points::new(target).unwrap());
        let map = KernelMap::build(mode, &g, &input, target.as_ref()).unwrap();
        assert_eq!(map.pairs().to_string(), keys.0["pairs"], "{case}");

        let shape = file.tensor(&format!("{case}.weight")).unwrap().shape().to_vec();
        assert_eq!(shape[0], map.taps, "{case}");
        let of = |name: &str| numbers(&file, case, name);
        let o = ConvOperands {
            channels: [shape[1], shape[2]],
            features: of("features"),
            weight: of("weight"),
            bias: of("bias"),
            bn_scale: of("bn_scale"),
            bn_shift: of("bn_shift"),
            residual: of("residual"),
        };
        let p = ConvProblem { act: act(keys.0["act"]).unwrap(), ..ConvProblem::plain(DType::F32, mode) };
        let found = conv_reference(&p, &map, &o, Dataflow::Implicit);

        // The fixture's rows are in the order of its target, else in one of their own.
        let (want_at, want) = (coords(&file, case, "coords_out"), of("features_out"));
        let at = Points::new(map.coords_out.clone()).unwrap();
        assert_eq!(want_at.len(), map.rows(), "{case}: outputs");
        let cout = shape[2];
        for (i, c) in want_at.iter().enumerate() {
            let row = at.find(c[0], [c[1], c[2], c[3]].map(i64::from));
            let row = row.unwrap_or_else(|| panic!("{case}: no output at {c:?}")) as usize;
            assert!(target.is_none() || row == i, "{case}: the order of coords_target");
            for col in 0..cout {
                let (found, want) = (found.value[row * cout + col], want[i * cout + col]);
                assert!((found - want).abs() <= 1e-10, "{case} at {c:?} column {col}: {found}, dense {want}");
            }
        }
    }
    let least = [(Mode::Submanifold, 17), (Mode::Strided, 11), (Mode::Transposed, 3), (Mode::Generative, 4), (Mode::Inverse, 4)];
    assert_eq!(modes, BTreeMap::from(least));
}

#[test]
fn no_voxels_have_no_outputs() {
    let none = Points::new(Vec::new()).unwrap();
    for mode in [Mode::Submanifold, Mode::Strided, Mode::Generative] {
        let map = KernelMap::build(mode, &Geometry::cube(3, 1, 1), &none, None).unwrap();
        let o = ConvOperands { channels: [4, 4], weight: vec![1.0; 27 * 16], ..ConvOperands::default() };
        let r = conv_reference(&ConvProblem::plain(DType::F16, mode), &map, &o, Dataflow::GatherScatter);
        assert!(map.rows() == 0 && map.pairs() == 0 && r.value.is_empty() && r.first_miss(&[], 4).is_none());
    }
}
