//! The protocol check names every kind of fault, and is silent on sound kernels at all trip counts.

use tilewright_ir::layout::blocked;
use tilewright_ir::passes::{PassError, ProtocolError, check_protocol, prepare};
use tilewright_ir::tile::{CmpPred, Dim, Kernel, KernelBuilder, Op, OpKind, ProbeAxis, RegTile, Ty, Unit};
use tilewright_ir::{Arch, Attrs, DType};

/// Producer warp, two math warpgroups, ring of three stages, staged TMA store.
fn hopper() -> Kernel {
    let mut k = KernelBuilder::new("ring", Arch::Sm90a);
    for name in ["m", "k"] {
        k.shape(name);
    }
    let (dims, out) = ([Dim::param("m"), Dim::param("k")], [Dim::param("m"), Dim::param("m")]);
    let a = k.tensor("a", DType::BF16, dims.clone());
    let b = k.tensor("b", DType::BF16, dims);
    let d = k.tensor("d", DType::BF16, out);
    let ring = k.pipe("ab", 3, &[(DType::BF16, [128, 64], 1), (DType::BF16, [64, 64], 1)]);
    let staging = k.buffer("out", DType::BF16, [64, 64], 2);
    k.probe("k", 64, ProbeAxis::Trips);
    k.probe("m", 128, ProbeAxis::Tiles);
    k.role("load", 4, Some(40), Unit::Thread, |r| {
        let (m, kd) = (r.param("m"), r.param("k"));
        let (tiles, trips) = (r.ceil_div(m, 128), r.ceil_div(kd, 64));
        r.for_range(0, tiles, 1, |r, t| {
            let row = r.mul(t, 128);
            r.for_range(0, trips, 1, |r, kt| {
                let at = r.mul(kt, 64);
                let s = r.acquire(&ring);
                r.tma_load(&a, &[row, at], &ring, s, 0);
                r.tma_load(&b, &[row, at], &ring, s, 1);
                r.commit(&ring, s);
            });
        });
    });
    k.role("math", 8, Some(232), Unit::Warpgroup, |r| {
        let (m, kd) = (r.param("m"), r.param("k"));
        let (tiles, trips) = (r.ceil_div(m, 128), r.ceil_div(kd, 64));
        let wg = r.wg_index();
        r.for_range(0, tiles, 1, |r, t| {
            let acc = r.wgmma_acc([64, 64]).unwrap();
            r.for_range(0, trips, 1, |r, kt| {
                let s = r.wait(&ring);
                let (a, b) = (r.slot(&ring, s, 0), r.slot(&ring, s, 1));
                let from = r.mul(wg, 64);
                let a = r.rows(a, from, 64);
                let first = r.cmp(CmpPred::Eq, kt, 0);
                r.mma_async(acc, a, b, first, false);
                r.mma_wait(acc, 1);
                let later = r.cmp(CmpPred::Gt, kt, 0);
                r.release_if(&ring, later);
            });
            r.mma_wait(acc, 0);
            let some = r.cmp(CmpPred::Gt, trips, 0);
            r.release_if(&ring, some);
            let y = r.get_tile(acc);
            let y = r.cast(y, DType::BF16);
            let buffer = r.staging(&staging, wg);
            r.tma_store_wait(0);
            r.sync();
            r.store_matrix(buffer, y);
            r.sync();
            let row = r.mul(t, 128);
            let from = r.mul(wg, 64);
            let row = r.add(row, from);
            let zero = r.int(0);
            r.tma_store(&d, buffer, &[row, zero]);
        });
        r.tma_store_wait(0);
    });
    k.finish()
}

/// cp.async ring of three stages.
fn ampere() -> Kernel {
    let mut k = KernelBuilder::new("copies", Arch::Sm80);
    for name in ["m", "k"] {
        k.shape(name);
    }
    let a = k.tensor("a", DType::F16, [Dim::param("m"), Dim::param("k")]);
    let ring = k.buffer("ring", DType::F16, [64, 64], 3);
    k.probe("k", 64, ProbeAxis::Trips);
    k.role("main", 4, None, Unit::Role, |r| {
        let kd = r.param("k");
        let trips = r.ceil_div(kd, 64);
        let zero = r.int(0);
        for s in 0..2 {
            let stage = r.int(s);
            let tile = r.staging(&ring, stage);
            let at = r.mul(stage, 64);
            r.copy_async(&a, tile, &[zero, at], 8);
            r.copy_commit();
        }
        r.for_range(0, trips, 1, |r, kt| {
            r.copy_wait(1);
            r.sync();
            let ahead = r.add(kt, 2);
            let stage = r.rem(ahead, 3);
            let tile = r.staging(&ring, stage);
            let at = r.mul(ahead, 64);
            r.copy_async(&a, tile, &[zero, at], 8);
            r.copy_commit();
            let stage = r.rem(kt, 3);
            let tile = r.staging(&ring, stage);
            r.load_a(tile, 0, [2, 2]).unwrap();
        });
        r.copy_wait(0);
    });
    k.finish()
}

/// Two warpgroups that take turns through named barriers.
fn turns() -> Kernel {
    let mut k = KernelBuilder::new("turns", Arch::Sm90a);
    k.shape("m");
    k.probe("m", 1, ProbeAxis::Tiles);
    k.role("math", 8, None, Unit::Warpgroup, |r| {
        let (m, wg) = (r.param("m"), r.wg_index());
        let second = r.cmp(CmpPred::Eq, wg, 1);
        let some = r.cmp(CmpPred::Gt, m, 0);
        r.if_then(second, |r| r.if_then(some, |r| r.barrier_arrive(0, 256)));
        r.for_range(wg, m, 2, |r, t| {
            r.barrier_sync(wg, 256);
            let next = r.add(t, 1);
            let more = r.cmp(CmpPred::Lt, next, m);
            let other = r.sub(1, wg);
            r.if_then(more, |r| r.barrier_arrive(other, 256));
        });
    });
    k.finish()
}

fn check(k: &Kernel) -> Result<(), ProtocolError> {
    check_protocol(k)
}

/// Removes operations for which `gone` holds; it sees a running number of the kind's occurrences, innermost first.
fn without(mut k: Kernel, kind: OpKind, which: usize) -> Kernel {
    let mut seen = 0;
    let mut hit = |op: &Op| {
        let mine = op.kind == kind;
        seen += usize::from(mine);
        mine && seen == which + 1
    };
    for r in &mut k.roles {
        r.body.rewrite(&mut |ops| ops.retain(|op| !hit(op)));
    }
    k
}

fn must_name(k: Kernel, words: &[&str]) {
    let e = check(&k).expect_err("the fault must be found").to_string();
    for w in words {
        assert!(e.contains(w), "`{w}` is not in: {e}");
    }
}

#[test]
fn sound_kernels_pass_at_every_trip_count() {
    for k in [hopper(), ampere(), turns()] {
        let k = prepare(k).unwrap();
        check(&k).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn wrong_byte_counts_are_named() {
    for wrong in [-16i32, 16] {
        let mut k = prepare(hopper()).unwrap();
        k.barriers[0].tx_bytes = k.barriers[0].tx_bytes.wrapping_add_signed(wrong);
        must_name(k, &["pipe ab announces", "its loads bring 24576"]);
    }
}

#[test]
fn wrong_arrival_counts_are_named() {
    let mut k = prepare(hopper()).unwrap();
    k.barriers[0].empty_arrivals += 1;
    must_name(k, &["empty barriers of pipe ab count 9 arrivals, the roles make 8"]);
    let mut k = prepare(hopper()).unwrap();
    k.barriers[0].empty_arrivals -= 4;
    assert!(matches!(check(&k), Err(ProtocolError::Arrivals { .. } | ProtocolError::Overlap { .. })), "{:?}", check(&k));
    let mut k = prepare(hopper()).unwrap();
    k.barriers[0].full_arrivals += 1;
    assert!(check(&k).is_err());
}

#[test]
fn a_missing_release_is_named() {
    let mut k = prepare(hopper()).unwrap();
    for r in &mut k.roles {
        r.body.rewrite(&mut |ops| ops.retain(|op| op.kind != OpKind::PipeRelease));
    }
    must_name(k, &["use 0 of pipe ab", "loaded, but not released by all consumers"]);
}

/// Lets every loop of a role start at 1.
fn skip_first_iteration(k: &mut Kernel, role: usize) {
    let one = k.new_value(Ty::I32);
    let attrs = Attrs::none().int("value", 1);
    let body = &mut k.roles[role].body;
    body.rewrite(&mut |ops| {
        for op in ops.iter_mut().filter(|op| op.kind == OpKind::For) {
            op.args[0] = one;
        }
    });
    let op = Op { kind: OpKind::Const, args: vec![], outs: vec![one], attrs, regions: vec![], loc: Default::default() };
    body.ops.insert(0, op);
}

#[test]
fn a_deadlock_comes_with_a_waiting_map() {
    let mut k = prepare(hopper()).unwrap();
    skip_first_iteration(&mut k, 0);
    must_name(k, &["deadlock", "role math unit 0 of CTA 0 waits for stage 0 of ab to be filled (use 0) at tests/protocol.rs:"]);
}

#[test]
fn a_stage_released_while_wgmma_reads_it_is_named() {
    must_name(without(prepare(hopper()).unwrap(), OpKind::MmaWait, 0), &["released while a wgmma group still reads it"]);
}

#[test]
fn missing_loads_waits_and_fences_are_named() {
    must_name(without(prepare(hopper()).unwrap(), OpKind::TmaLoad, 0), &["announces"]);
    must_name(without(prepare(hopper()).unwrap(), OpKind::FenceAsync, 0), &["without a proxy fence"]);
    must_name(without(prepare(hopper()).unwrap(), OpKind::UnitSync, 1), &["a `sync` is missing"]);
    must_name(without(prepare(hopper()).unwrap(), OpKind::UnitSync, 0), &["overwritten while a TMA store"]);
    must_name(without(prepare(hopper()).unwrap(), OpKind::TmaStoreWait, 1), &["ends while a TMA store"]);
}

#[test]
fn roles_with_different_trip_counts_are_named() {
    let mut k = prepare(hopper()).unwrap();
    skip_first_iteration(&mut k, 1);
    must_name(k, &["use 0 of", "ab"]);
}

#[test]
fn faults_of_a_cp_async_ring_are_named() {
    must_name(without(prepare(ampere()).unwrap(), OpKind::UnitSync, 0), &["role main", "ring"]);
    must_name(without(prepare(ampere()).unwrap(), OpKind::CopyWait, 0), &["read before it has landed"]);
}

#[test]
fn a_lost_turn_is_a_deadlock() {
    must_name(without(prepare(turns()).unwrap(), OpKind::BarArrive, 0), &["deadlock", "named barrier 0"]);
}

#[test]
fn roles_that_wait_for_each_other_are_named_as_a_circle() {
    let mut k = KernelBuilder::new("circle", Arch::Sm90a);
    k.shape("m");
    let a = k.tensor("a", DType::BF16, [Dim::param("m"), Dim::param("m")]);
    let pipes = ["there", "back"].map(|name| k.pipe(name, 2, &[(DType::BF16, [64, 64], 1)]));
    for (name, [from, to]) in [("left", [0, 1]), ("right", [1, 0])] {
        k.role(name, 4, None, Unit::Thread, |r| {
            let zero = r.int(0);
            r.wait(&pipes[from]);
            r.release(&pipes[from]);
            let s = r.acquire(&pipes[to]);
            r.tma_load(&a, &[zero, zero], &pipes[to], s, 0);
            r.commit(&pipes[to], s);
        });
    }
    must_name(prepare(k.finish()).unwrap(), &["deadlock", "in a circle: ", "left unit 0", "right unit 0"]);
}

#[test]
fn a_pipe_without_a_consumer_is_refused() {
    let mut k = hopper();
    k.roles[1].body.ops.clear();
    assert!(matches!(prepare(k), Err(PassError::Pipe { .. })));
}

/// Two warpgroups put sums into copies of a buffer and meet; the first reads them all and, in a second meeting, gives one back.
fn sums() -> Kernel {
    let mut k = KernelBuilder::new("sums", Arch::Sm80);
    let like = RegTile { dtype: DType::F32, shape: [128, 4], layout: blocked(128, [128, 4], 4).unwrap() };
    let y = k.tensor("y", DType::F32, [Dim { param: None, factor: 128 }, Dim { param: None, factor: 4 }]);
    let place = k.scratch("place", DType::F32, [128, 4], 2);
    k.role("main", 8, None, Unit::Warpgroup, |r| {
        let wg = r.wg_index();
        let one = r.float(1.0);
        let one = r.splat(one, like.clone());
        let to = r.staging(&place, wg);
        r.store_shared(to, one);
        r.barrier_sync(7, 256);
        let first = r.cmp(CmpPred::Eq, wg, 0);
        r.if_then(first, |r| {
            let parts = [0, 1].map(|i| {
                let from = r.staging(&place, i);
                r.load_shared(from, like.clone())
            });
            let sum = r.binary("add", parts[0], parts[1]);
            let to = r.staging(&place, 0);
            r.sync();
            r.store_shared(to, sum);
        });
        r.sync();
        r.barrier_sync(7, 256);
        let from = r.staging(&place, 0);
        let sum = r.load_shared(from, like.clone());
        let zero = r.int(0);
        r.store_tile(&y, sum, &[zero, zero], 4);
    });
    k.finish()
}

#[test]
fn warpgroups_that_share_a_buffer_meet_first() {
    check_protocol(&prepare(sums()).unwrap()).unwrap();
    let k = without(prepare(sums()).unwrap(), OpKind::BarSync, 0);
    must_name(k, &["place is read before it has landed"]);
    let k = without(prepare(sums()).unwrap(), OpKind::BarSync, 1);
    must_name(k, &["copy 0 of place", "unit 1 uses it", "must meet at a barrier of all their threads"]);
    // Some threads of the role are no meeting.
    let mut k = prepare(sums()).unwrap();
    for role in &mut k.roles {
        role.body.rewrite(&mut |ops| {
            ops.iter_mut().filter(|o| o.kind == OpKind::BarSync).for_each(|o| o.attrs = Attrs::none().int("threads", 128));
        });
    }
    must_name(k, &["role main", "place"]);
}

/// A warpgroup copies one tile of a stage, waits for it a stage later and hands it over; TMA brings the other.
fn gathered() -> Kernel {
    let mut k = KernelBuilder::new("gathered", Arch::Sm90a);
    k.shape("k");
    let a = k.tensor("a", DType::F16, [Dim::param("k"), Dim { param: None, factor: 64 }]);
    let ring = k.pipe("ab", 3, &[(DType::F16, [64, 64], 1), (DType::F16, [64, 64], 1)]);
    k.probe("k", 64, ProbeAxis::Trips);
    k.role("gather", 4, None, Unit::Warpgroup, |r| {
        let kd = r.param("k");
        let (trips, last) = (r.ceil_div(kd, 64), r.scalar_cell(0));
        r.for_range(0, trips, 1, |r, kt| {
            let (s, at, zero) = (r.acquire(&ring), r.mul(kt, 64), r.int(0));
            r.tma_load(&a, &[at, zero], &ring, s, 1);
            let tile = r.slot(&ring, s, 0);
            let ty = r.copy_rows_index(tile, 8);
            let (rows, first) = (r.iota(0, ty.clone()), r.splat(at, ty));
            let rows = r.binary("add", rows, first);
            r.copy_rows(&a, tile, rows, 0, 8);
            r.copy_commit();
            r.copy_wait(1);
            let (older, before) = (r.cmp(CmpPred::Gt, kt, 0), r.get(last));
            r.if_then(older, |r| r.commit(&ring, before));
            r.set(last, s);
        });
        r.copy_wait(0);
        let (some, before) = (r.cmp(CmpPred::Gt, trips, 0), r.get(last));
        r.if_then(some, |r| r.commit(&ring, before));
    });
    k.role("math", 4, None, Unit::Warpgroup, |r| {
        let kd = r.param("k");
        let (trips, yes) = (r.ceil_div(kd, 64), r.bool(true));
        let acc = r.wgmma_acc([64, 64]).unwrap();
        r.for_range(0, trips, 1, |r, _| {
            let s = r.wait(&ring);
            let (a, b) = (r.slot(&ring, s, 0), r.slot(&ring, s, 1));
            r.mma_async(acc, a, b, yes, false);
            r.mma_wait(acc, 0);
            r.release(&ring);
        });
    });
    k.finish()
}

#[test]
fn copies_land_before_a_unit_hands_their_stage_over() {
    check_protocol(&prepare(gathered()).unwrap()).unwrap();
    let k = without(prepare(gathered()).unwrap(), OpKind::CopyWait, 0);
    must_name(k, &["role gather", "stage 0 of ab is committed before its copies have landed"]);
    let k = without(prepare(gathered()).unwrap(), OpKind::CopyRows, 0);
    must_name(k, &["stage 0 of ab is committed, but the unit put nothing into it"]);
    let k = without(prepare(gathered()).unwrap(), OpKind::PipeCommit, 1);
    must_name(k, &["the full barriers of pipe ab count 5 arrivals, the roles make 1"]);
    let k = without(prepare(gathered()).unwrap(), OpKind::TmaLoad, 0);
    must_name(k, &["pipe ab announces 8192 bytes a stage, its loads bring 0"]);
}

#[test]
fn what_warps_repeat_by_themselves_holds_no_barrier() {
    let mut k = KernelBuilder::new("walk", Arch::Sm80);
    k.role("main", 4, None, Unit::Role, |r| {
        let ty = RegTile { dtype: DType::I32, shape: [128, 1], layout: blocked(128, [128, 1], 1).unwrap() };
        let at = r.iota(0, ty.clone());
        let zero = r.splat_int(0, at);
        let mask = r.compare(CmpPred::Lt, at, zero);
        let left = r.tile_cell(mask);
        r.while_any(left, |r| r.sync());
    });
    let why = prepare(k.finish()).unwrap_err().to_string();
    assert!(why.contains("unit.sync inside: warps repeat the region each as often as it needs"), "{why}");
}

#[test]
fn runs_of_elements_lie_in_a_tensor_of_their_dtype() {
    let refused = |dtype, coordinates: usize, offset| {
        let mut k = KernelBuilder::new("run", Arch::Sm80);
        let x = k.tensor("x", dtype, [Dim { param: None, factor: 8 }, Dim { param: None, factor: 512 }]);
        k.role("main", 4, None, Unit::Role, |r| {
            let like = RegTile { dtype: DType::I32, shape: [128, 4], layout: blocked(128, [128, 4], 4).unwrap() };
            let zero = r.int(0);
            let v = r.load_run(&x, &vec![zero; coordinates], offset, like);
            r.tile_cell(v);
        });
        prepare(k.finish()).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(refused(DType::I32, 1, 4), Ok(()));
    assert!(refused(DType::U8, 1, 0).unwrap_err().contains("no u8 register tiles"));
    assert!(refused(DType::I32, 3, 0).unwrap_err().contains("3 coordinates for 2 extents of x"));
    assert!(refused(DType::I32, 1, 2).unwrap_err().contains("offset 2: a multiple of 16 bytes"));
}
