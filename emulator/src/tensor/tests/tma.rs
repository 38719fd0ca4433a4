use proptest::prelude::*;

use crate::tensor::swizzle::Swizzle;
use crate::tensor::tma::*;

fn map() -> TensorMap {
    TensorMap {
        dtype: TensorDType::F16,
        base: 0x1000,
        dims: vec![100, 50],
        strides: vec![256],
        box_dims: vec![64, 8],
        element_strides: vec![1, 1],
        swizzle: Swizzle::B128,
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    }
}

fn runs(map: &TensorMap, coords: &[i32]) -> Vec<Run> {
    let mut runs = Vec::new();
    map.for_each_run(coords, |run| runs.push(run)).unwrap();
    runs
}

/// One element at a time, straight from PTX ISA 5.5.3: element offsets in the box and their global address.
fn element_by_element(map: &TensorMap, coords: &[i32]) -> Vec<Option<u64>> {
    let rank = map.dims.len();
    let counts: Vec<u64> = (0..rank)
        .map(|d| {
            let step = if d == 0 { 1 } else { map.element_strides[d] };
            u64::from(map.box_dims[d].div_ceil(step))
        })
        .collect();
    let total: u64 = counts.iter().product();
    let address = |mut index: u64| {
        let mut address = map.base as i128;
        for d in 0..rank {
            let step = if d == 0 { 1 } else { map.element_strides[d] };
            let at = i128::from(coords[d]) + i128::from(index % counts[d]) * i128::from(step);
            index /= counts[d];
            if at < 0 || at >= i128::from(map.dims[d]) {
                return None;
            }
            address += at * if d == 0 { i128::from(map.dtype.bytes()) } else { i128::from(map.strides[d - 1]) };
        }
        Some(address as u64)
    };
    (0..total).map(address).collect()
}

const TYPES: [TensorDType; 4] = [TensorDType::U8, TensorDType::Bf16, TensorDType::F32, TensorDType::S64];

prop_compose! {
    fn any_map()(rank in 1usize..=5, ty in 0usize..4)(
        dims in prop::collection::vec(1u64..20, rank),
        pads in prop::collection::vec(0u64..3, rank - 1),
        extents in prop::collection::vec(1u32..5, rank),
        element_strides in prop::collection::vec(1u32..4, rank),
        coords in prop::collection::vec(-6i32..22, rank),
        ty in Just(TYPES[ty]),
    ) -> (TensorMap, Vec<i32>) {
        let mut stride = dims[0] * u64::from(ty.bytes());
        let mut strides = Vec::new();
        for (pad, dim) in pads.iter().zip(&dims[1..]) {
            stride = stride.next_multiple_of(16) + 16 * pad;
            strides.push(stride);
            stride *= dim;
        }
        let mut box_dims = extents;
        box_dims[0] *= 16 / ty.bytes();
        let map = TensorMap {
            dtype: ty,
            base: 0x7f00_0000_0000,
            dims,
            strides,
            box_dims,
            element_strides,
            swizzle: Swizzle::None,
            interleave: Interleave::None,
            oob_fill: OobFill::Zero,
        };
        (map, coords)
    }
}

proptest! {
    #[test]
    fn tensor_tma_runs_are_the_box((map, coords) in any_map()) {
        map.validate().unwrap();
        let element = map.dtype.bytes();
        let want = element_by_element(&map, &coords);
        prop_assert_eq!(map.box_bytes(), want.len() as u32 * element);
        let runs = runs(&map, &coords);
        let mut got = Vec::new();
        for run in &runs {
            prop_assert_eq!(run.shared_offset as usize, got.len() * element as usize);
            prop_assert!(run.bytes > 0 && run.bytes % element == 0);
            got.extend((0..run.bytes / element).map(|i| run.global.map(|at| at + u64::from(i * element))));
        }
        prop_assert_eq!(got, want);
        for pair in runs.windows(2) {
            let continues = match (pair[0].global, pair[1].global) {
                (Some(a), Some(b)) => a + u64::from(pair[0].bytes) == b,
                (None, None) => true,
                _ => false,
            };
            prop_assert!(!continues, "{:?} could be one run", pair);
        }
    }
}

#[test]
fn tensor_tma_splits_at_the_edges() {
    let row = |row: u64| Some(0x1000 + row * 256);
    let run = |global, shared_offset, bytes| Run { global, shared_offset, bytes };
    // Columns 60..124 of 100, rows -1..7: a row above, then 40 columns inside and 24 outside.
    let edge = runs(&map(), &[60, -1]);
    assert_eq!(edge[..3], [run(None, 0, 128), run(row(0).map(|a| a + 120), 128, 80), run(None, 208, 48)]);
    assert_eq!(edge.len(), 15);
    // A dense tensor as wide as the box is one run.
    let dense = TensorMap { dims: vec![64, 50], strides: vec![128], ..map() };
    assert_eq!(runs(&dense, &[0, 4]), [run(Some(0x1000 + 4 * 128), 0, 1024)]);
    assert_eq!(runs(&dense, &[0, i32::MAX]), [run(None, 0, 1024)]);
    assert_eq!(runs(&dense, &[i32::MIN, 0]), [run(None, 0, 1024)]);
    let error = dense.for_each_run(&[0], |_| ()).unwrap_err();
    assert_eq!(error, TensorMapError::Coordinates { got: 1, rank: 2 });
}

#[test]
fn tensor_tma_rules() {
    map().validate().unwrap();
    let broken = |change: &dyn Fn(&mut TensorMap)| {
        let mut map = map();
        change(&mut map);
        map.validate().unwrap_err()
    };
    use TensorMapError as E;
    assert!(matches!(broken(&|m| m.dims.clear()), E::Rank { rank: 0 }));
    assert!(matches!(broken(&|m| m.dims.push(1)), E::Length { name: "globalStrides", got: 1, want: 2, .. }));
    assert!(matches!(broken(&|m| m.box_dims = vec![64]), E::Length { name: "boxDim", .. }));
    assert!(matches!(broken(&|m| m.element_strides = vec![1]), E::Length { name: "elementStrides", .. }));
    assert!(matches!(broken(&|m| m.base = 0x1008), E::Base { base: 0x1008 }));
    assert!(matches!(broken(&|m| m.dims[1] = 0), E::Dim { dim: 1, size: 0 }));
    assert!(matches!(broken(&|m| m.dims[0] = (1 << 32) + 1), E::Dim { dim: 0, .. }));
    assert!(matches!(broken(&|m| m.strides[0] = 200), E::Stride { index: 0, stride: 200 }));
    assert!(matches!(broken(&|m| m.strides[0] = 1 << 40), E::Stride { .. }));
    assert!(matches!(broken(&|m| m.box_dims[1] = 257), E::Box { dim: 1, size: 257 }));
    assert!(matches!(broken(&|m| m.box_dims[0] = 0), E::Box { dim: 0, size: 0 }));
    assert!(matches!(broken(&|m| m.box_dims[0] = 60), E::BoxRow { bytes: 120 }));
    assert!(matches!(broken(&|m| m.box_dims[0] = 128), E::BoxBeyondSwizzle { bytes: 256, span: 128, .. }));
    assert!(matches!(broken(&|m| m.box_dims[0] = 32), E::BoxNarrowerThanSwizzle { bytes: 64, span: 128, .. }));
    let larger = |m: &mut TensorMap| {
        (m.swizzle, m.box_dims) = (Swizzle::None, vec![256, 256]);
        m.dtype = TensorDType::F32;
    };
    assert!(matches!(broken(&larger), E::BoxBytes { bytes: 0x40000 }));
    assert!(matches!(broken(&|m| m.element_strides[1] = 9), E::ElementStride { dim: 1, stride: 9 }));
    assert!(matches!(broken(&|m| m.interleave = Interleave::B16), E::Interleave { .. }));
    let nan = |m: &mut TensorMap| (m.dtype, m.oob_fill) = (TensorDType::U16, OobFill::Nan);
    assert!(matches!(broken(&nan), E::NanFill { dtype: TensorDType::U16 }));
}

#[test]
fn tensor_tma_fills() {
    let mut bytes = [1; 8];
    map().fill(&mut bytes);
    assert_eq!(bytes, [0; 8]);
    TensorMap { oob_fill: OobFill::Nan, ..map() }.fill(&mut bytes);
    assert_eq!(bytes, [0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f]);
}
