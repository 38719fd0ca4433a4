//! Choosing plans: bucket edges, conditions, policies.

use tilewright_runtime::dispatch::{Dispatcher, PlanIndex, Policy, SelectError};
use tilewright_runtime::expr::{VarId, Vars};

use crate::fixture::{CLASS, manifest};

fn choose(sizes: [i64; 3], policy: Policy<'_>) -> Result<String, SelectError> {
    let manifest = manifest();
    let plan = Dispatcher::new(&manifest).select_mnk("gemm", CLASS, sizes, policy)?;
    Ok(manifest.plans[plan.0 as usize].id.clone())
}

fn fastest(m: i64, n: i64, k: i64) -> String {
    choose([m, n, k], Policy::Fastest).unwrap()
}

#[test]
fn edges_belong_to_the_bucket_below() {
    assert_eq!(fastest(64, 512, 1024), "gemm_split4");
    assert_eq!(fastest(65, 512, 1024), "gemm_128x256");
    assert_eq!(fastest(1, 512, 1016), "gemm_128x256");
    assert_eq!(fastest(1, 512, 1 << 40), "gemm_split4");
    assert_eq!(fastest(1 << 40, 1 << 40, 1 << 40), "gemm_128x256");
}

#[test]
fn a_known_problem_has_cells_of_its_own() {
    assert_eq!(fastest(8, 768, 2048), "gemm_any");
    assert_eq!(fastest(9, 768, 2048), "gemm_128x256");
    assert_eq!(fastest(8, 767, 2048), "gemm_split4", "another n");
    assert_eq!(fastest(8, 768, 2056), "gemm_split4", "another k");
    // From its last bucket, which is for the largest m.
    assert_eq!(choose([1, 768, 2048], Policy::BatchInvariant).unwrap(), "gemm_128x256");
}

#[test]
fn a_class_is_found_once_and_chosen_in_often() {
    let manifest = manifest();
    let dispatcher = Dispatcher::new(&manifest);
    let class = dispatcher.class("gemm", CLASS).unwrap();
    for m in [1, 64, 65, 4096] {
        let vars = Vars::gemm(m, 512, 4096);
        for policy in [Policy::Fastest, Policy::BatchInvariant, Policy::Pinned("gemm_any")] {
            assert_eq!(dispatcher.select_in(class, &vars, policy), dispatcher.select("gemm", CLASS, &vars, policy));
        }
    }
    assert_eq!(dispatcher.class("gemm", "a=f16"), None);
    assert_eq!(dispatcher.class("gemv", CLASS), None);
    assert_eq!(dispatcher.plan("gemm_any"), Some(PlanIndex(2)));
    assert_eq!(dispatcher.plan("gemm_some"), None);
}

#[test]
fn a_plan_whose_conditions_fail_gives_way_to_the_next() {
    assert_eq!(fastest(1, 512, 1025), "gemm_any");
    assert_eq!(fastest(100, 3, 7), "gemm_any");
    // The kernel's own condition counts too, with the launch's split of 4 in place of the problem's 0.
    let manifest = manifest();
    let mut vars = Vars::gemm(1, 8, 1024);
    vars.set(VarId::SPLIT_K, 2).unwrap();
    let error = Dispatcher::new(&manifest).select("gemm", CLASS, &vars, Policy::Fastest).unwrap_err();
    let expected = format!("no plan of gemm `{CLASS}` fits m = 1, n = 8, k = 1024, batch = 1, split_k = 2 under policy fastest");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_chosen_plan_is_what_a_scan_of_the_table_finds() {
    let manifest = manifest();
    let dispatcher = Dispatcher::new(&manifest);
    let sizes = [1, 2, 7, 8, 63, 64, 65, 128, 255, 256, 1000, 1016, 1023, 1024, 1025, 4096];
    for (m, n, k) in sizes.iter().flat_map(|&m| sizes.iter().flat_map(move |&n| sizes.map(|k| (m, n, k)))) {
        let cell = &manifest.dispatch[0].cells[usize::from(m <= 64 && k > 1023)];
        let fits = |plan: &&PlanIndex| match plan.0 {
            0 => k % 8 == 0,
            1 => k % 8 == 0 && k >= 256 && m <= 64,
            _ => true,
        };
        let found = dispatcher.select_mnk("gemm", CLASS, [m, n, k], Policy::Fastest).unwrap();
        assert_eq!(Some(&found), cell.iter().find(fits), "{m} {n} {k}");
    }
}

#[test]
fn batch_invariance_gives_one_plan_for_every_m() {
    for m in [1, 63, 64, 65, 4096] {
        // Not the split plan, which the small cell ranks first: its conditions look at m.
        assert_eq!(choose([m, 512, 4096], Policy::BatchInvariant).unwrap(), "gemm_128x256");
        assert_eq!(choose([m, 512, 4095], Policy::BatchInvariant).unwrap(), "gemm_any");
    }
    let mut manifest = manifest();
    manifest.kernels[0].numerics.batch_invariant = false;
    let plan = Dispatcher::new(&manifest).select_mnk("gemm", CLASS, [1, 8, 8], Policy::BatchInvariant).unwrap();
    assert_eq!(manifest.plans[plan.0 as usize].id, "gemm_any");
    manifest.kernels[3].numerics.batch_invariant = false;
    let error = Dispatcher::new(&manifest).select_mnk("gemm", CLASS, [1, 8, 8], Policy::BatchInvariant).unwrap_err();
    assert!(matches!(error, SelectError::NoPlan { policy: "batch-invariant", .. }), "{error}");
}

#[test]
fn a_pinned_plan_is_taken_or_refused_with_its_condition() {
    assert_eq!(choose([1, 8, 4096], Policy::Pinned("gemm_any")).unwrap(), "gemm_any");
    let unfit = choose([100, 8, 4096], Policy::Pinned("gemm_split4")).unwrap_err();
    let expected = "plan `gemm_split4` requires `m <= 64`, which does not hold for m = 100, n = 8, k = 4096, batch = 1, \
                    split_k = 0";
    assert_eq!(unfit.to_string(), expected);
    let unknown = choose([1, 8, 8], Policy::Pinned("gemm_fast")).unwrap_err();
    assert_eq!(unknown.to_string(), format!("no plan `gemm_fast` for gemm `{CLASS}` in this pack"));
}

#[test]
fn unknown_classes_and_variables_are_named() {
    let manifest = manifest();
    let dispatcher = Dispatcher::new(&manifest);
    let error = dispatcher.select_mnk("gemm", "a=f16", [1, 1, 1], Policy::Fastest).unwrap_err();
    assert_eq!(error.to_string(), "no gemm for class `a=f16` in this pack");
    let error = dispatcher.select("gemm", CLASS, &Vars::new(), Policy::Fastest).unwrap_err();
    assert_eq!(error.to_string(), "dispatch needs variable `m`");
    let mut vars = Vars::new();
    for id in [VarId::M, VarId::N, VarId::K] {
        vars.set(id, 8).unwrap();
    }
    let error = dispatcher.select("gemm", CLASS, &vars, Policy::Fastest).unwrap_err();
    assert_eq!(error.to_string(), "`batch == 1`: variable `batch` is not set for this problem");
}
