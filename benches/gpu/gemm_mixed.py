"""Mixed-precision GEMM on an NVIDIA GPU: phases `mixed-check` and `mixed` of run.py, which starts this.

`mixed-check` holds every plan of packed weights, 8-bit operands and groups to gemm_mixed_data.py's reference on ragged shapes,
with guards and poison, and quantisers and packings to gemm_mixed_small.py's. `mixed` times what dispatch chooses, beside the
other plans of its class and beside peers, in turns, on buffers that L2 does not hold; each case is checked on a sample before it is
timed:

  dense     W4A16 and W8A16 (multiplied packed, or unpacked first), fp8 with scales of tensors, rows and blocks, int8; layers of
            Llama 3 8B and 70B, Mixtral and DeepSeek-V3, m 1 to 8192, and squares
  grouped   8 experts of which a token takes 2, 256 of which it takes 8; tokens 1 to 4096, routed evenly or by Zipf's law

Each row has its share of the roof: the bytes that must move at the rate of a copy, measured in the same run, or the
multiplications at the tensor cores' nominal rate, whichever takes longer. Without --full a short list of cases; with it all of
them, most telling first. Nothing above `the GPU from here on` needs torch.
"""

import fnmatch
import math

import attention
import gemm_mixed_data as data
import gemm_mixed_small
import run

PEAK = {"bf16": 989e12, "f16": 989e12, "e4m3": 1979e12, "e5m2": 1979e12, "i8": 1979e12}  # H100 and H200, dense
PLAIN = "b=nk,out=bf16,act=none,bias=0,residual=0"
FORMATS = {
    "w4a16": f"a=bf16,{PLAIN},weight=int4g128",
    "w8a16": f"a=bf16,{PLAIN},weight=int8g128",
    "fp8 tensor": f"a=e4m3,{PLAIN},a_scale=tensor,b_scale=tensor",
    "fp8 row": f"a=e4m3,{PLAIN},a_scale=row,b_scale=row",
    "fp8 block": f"a=e4m3,{PLAIN},a_scale=block,b_scale=block",
    "int8": f"a=i8,{PLAIN},a_scale=row,b_scale=row",
}
GROUPED = {
    "bf16": f"a=bf16,{PLAIN},groups=offsets",
    "fp8 block": f"a=e4m3,{PLAIN},a_scale=block,b_scale=block,groups=offsets",
    "w4a16": f"a=bf16,{PLAIN},weight=int4g128,groups=offsets",
}
TARGET = [(8192, 28672)]  # (k, n)
DEEPSEEK_V3 = [
    (7168, 2112), (1536, 24576), (512, 32768), (16384, 7168), (7168, 36864), (18432, 7168), (7168, 4096), (2048, 7168),
]
MIXTRAL = [(4096, 28672), (14336, 4096)]
LAYERS = {"target": TARGET, "llama-3-70b": run.LLAMA_70B, "llama-3-8b": run.LLAMA_8B, "deepseek-v3": DEEPSEEK_V3, "mixtral": MIXTRAL}
SQUARES = [4096, 8192]
M = [16, 1, 64, 256, 4096, 8, 4, 2, 32, 128, 512, 1024, 2048, 8192]  # most telling first
EXPERTS = {"deepseek-v3": (256, 8, [(7168, 4096), (2048, 7168)]), "mixtral": (8, 2, MIXTRAL)}
TOKENS = [64, 512, 4096, 8, 1]
# (m, n, k) of the check; an expert of a group takes a share of m.
CHECK_SHAPES = [
    (17, 264, 3884), (1, 2880, 2880), (200, 1000, 10944), (3, 77, 129), (64, 10944, 2048), (8, 4096, 4096), (257, 136, 192),
    (1, 64, 128), (1000, 512, 1024),
]


def gemm_sizes(m, n, k, batch=1):
    return {"m": m, "n": n, "k": k, "batch": batch, "split_k": 0}


def grouped_sizes(counts, n, k, groups="offsets", max_m=0, gathered=0):
    """Dispatch sees the rows an expert can expect as m."""
    rows = sum(counts)
    sizes = {"m": max(1, -(-rows // len(counts))), "n": n, "k": k, "e": len(counts), "split_k": 0}
    sizes.update({"tokens": rows, "rows": gathered} if groups == "offsets" else {"max_m": max_m})
    return sizes


def dense_cases():
    """(key, format, m, n, k) of all of them, layers that two models share under the first."""
    seen = set()
    for side in SQUARES:
        for name in ("fp8 tensor", "fp8 row", "fp8 block", "int8"):
            yield f"square {name} {side}", name, side, side, side
    for m in M:
        for model, layers in LAYERS.items():
            for k, n in layers:
                for name in FORMATS:
                    if (name, m, n, k) not in seen:
                        seen.add((name, m, n, k))
                        yield f"{model} {name} {run.name_of((m, n, k))}", name, m, n, k


def grouped_cases():
    """(key, format, tokens, model, n, k, routing)"""
    for tokens in TOKENS:
        for kind in ("uniform", "zipf"):
            for model, (experts, top, layers) in EXPERTS.items():
                for k, n in layers:
                    for name in GROUPED:
                        yield f"grouped {model} {name} t{tokens} {kind} n{n} k{k}", name, tokens, model, n, k, kind


def is_quick(key):
    """Whether a case belongs to the short list."""
    kind, *rest = key.split(" ")
    shape = rest[-1]
    if kind == "square":
        return True
    if kind == "target":
        return rest[0] == "w4a16" or rest[0] == "w8a16" and shape.startswith(("1x", "16x"))
    if kind == "grouped":
        return rest[0] == "deepseek-v3" and any(f" {t} " in key for t in ("t64 uniform", "t512 uniform", "t4096 zipf"))
    if kind == "deepseek-v3" and "fp8 block" in key:
        return shape.startswith(("64x", "4096x"))
    if kind == "llama-3-8b" or kind == "llama-3-70b":
        return rest[0] == "w4a16" and shape.startswith(("1x", "16x", "256x"))
    return False


def in_turns(groups):
    """One of each list after another."""
    return [group[at] for at in range(max(map(len, groups), default=0)) for group in groups if at < len(group)]


def sweep_cases(manifest, full=False, only=None):
    """((key, function of (runtime, manifest, peers)) of what is timed, keys left out by what the pack lacks)."""
    dense = [("gemm", FORMATS[c[1]], c[0], lambda *a, c=c: dense_case(*a, *c[1:])) for c in dense_cases()]
    grouped = [("gemm_grouped", GROUPED[c[1]], c[0], lambda *a, c=c: grouped_case(*a, *c[1:])) for c in grouped_cases()]
    wanted = lambda key: fnmatch.fnmatchcase(key, only) if only else full or is_quick(key)
    chosen = lambda cases: [case for case in cases if wanted(case[2])]
    by_kind = {}
    for case in chosen(dense) + chosen(grouped):
        by_kind.setdefault(case[2].split(" ")[0], []).append(case)
    ready, missing = [], {}
    for op, text, key, case in in_turns(list(by_kind.values())):
        if attention.dispatched(manifest, op, text):
            ready.append((key, case))
        else:
            missing.setdefault(f"{op} {text}", []).append(key)
    return ready, missing


def check_problem(form, op, shape):
    """(sizes with counts, for the reference) of a plan of a class on a row of CHECK_SHAPES."""
    m, n, k = shape
    if op == "gemm":
        return gemm_sizes(m, n, k)
    # Experts without rows, of one row, and of the rest.
    counts = [0, m // 3, 1, 0, m - m // 3]
    gathered = m // 2 + 3 if "gather=1" in form.text else 0
    return {**grouped_sizes(counts, n, k, form.groups, max_m=max(counts) + 2, gathered=gathered), "counts": counts}


def named(sizes):
    """Sizes that a problem has; `counts` is data."""
    return {name: value for name, value in sizes.items() if name != "counts"}


def mixed_plans(manifest):
    """(plan, form) of the plans this checks, and why others are left out, by id."""
    plans, left_out = [], {}
    for plan in manifest["plans"]:
        if plan["op"] not in ("gemm", "gemm_grouped"):
            continue
        form = data.Form(plan["class"])
        if not form.mixed():
            continue
        if form.unknown:
            left_out[plan["id"]] = f"no reference for {', '.join(form.unknown)}"
        else:
            plans.append((plan, form))
    return plans, left_out


def roof_us(form, bytes_moved, flops, copy_rate):
    """(microseconds at the roof, which roof)"""
    by_bytes, by_tensor = bytes_moved / copy_rate * 1e6, flops / PEAK[form.a] * 1e6
    return max(by_bytes, by_tensor), "bytes" if by_bytes >= by_tensor else "tensor"


def is_unpacking(plan):
    """Whether a plan unpacks to a workspace and multiplies densely."""
    return "dequantised" in plan


def headline(cases):
    """The numbers that say most, of cases that were right."""
    right = {key: row for key, row in cases.items() if row.get("status") == "ok" and "of_roof" in row}
    mean = lambda values: math.exp(sum(map(math.log, values)) / len(values)) if values else None
    of = lambda field, keep: mean([row[field] for key, row in right.items() if field in row and keep(key, row)])
    few = lambda key, row: key.startswith("target w4a16") and row["m"] <= 16
    dense_w4 = lambda key, _: "w4a16" in key and not key.startswith("grouped")
    squares = [row for key, row in right.items() if key.startswith("square fp8")]
    scaled = [(row, row.get("peers", {}).get("_scaled_mm", {})) for row in squares]
    return {
        "w4a16_few_tokens_of_roof": of("of_roof", few), "w4a16_of_best_peer": of("of_best_peer", dense_w4),
        "fp8_squares_of_scaled_mm": mean([peer["us"] / row["us"] for row, peer in scaled if "us" in peer]),
        "grouped_of_best_peer": of("of_best_peer", lambda key, _: key.startswith("grouped")),
    }


def closing_lines(summary):
    """What run.py prints at the end."""
    texts = {
        "w4a16_few_tokens_of_roof": "W4A16 of 8192 x 28672 at m <= 16: {} of the byte roof",
        "w4a16_of_best_peer": "W4A16: geomean {} x the best peer",
        "fp8_squares_of_scaled_mm": "fp8 squares: geomean {} x _scaled_mm",
        "grouped_of_best_peer": "grouped GEMM: geomean {} x the best peer",
    }
    measured = {key: f"{summary[key]:.3f}" for key in texts if summary[key]}
    return [text.format(measured[key]) if key in measured else text.split(":")[0] + ": not measured" for key, text in texts.items()]


# ---------------------------------------------------------------------------------------------------------- the GPU from here on


def phase_check(runtime, manifest, part, deadline):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    plans, left_out = mixed_plans(manifest)
    small, without = gemm_mixed_small.small_plans(manifest)
    cases, refused = [], {}

    def add(plan, shape, problem, check):
        key = f"{plan['id']} {run.name_of(shape)}"
        condition = runtime.admits(plan["id"], problem)
        if condition:
            refused[key] = condition
            return

        def case():
            op = run.Op(runtime, plan["id"], problem)
            try:
                return check(op)
            finally:
                op.close()

        cases.append((key, case))

    for shape in CHECK_SHAPES:
        for plan, form in plans:
            sizes = check_problem(form, plan["op"], shape)
            check = lambda op, form=form, sizes=sizes: data.check(op, form, sizes)
            add(plan, shape, run.Problem(named(sizes), {"alpha": 1.0}), check)
    for plan, fields, sizes in small:
        check = lambda op, of=plan["op"], fields=fields, sizes=sizes: gemm_mixed_small.CHECKS[of](op, fields, sizes)
        add(plan, [sizes[name] for name in ("m", "n", "k")], run.Problem(sizes), check)
    part.data["notes"] = {"refused_by_requires": refused, "plans_without_reference": {**left_out, **without}}
    if not cases:
        print("  the pack has no plans of packed weights, 8-bit operands or groups", flush=True)
    run.run_cases(part, cases, deadline)
    part.save()


def phase_sweep(runtime, manifest, part, deadline, full=False, only=None, peers_folder=None):
    import gemm_mixed_peers

    cases, missing = sweep_cases(manifest, full, only)
    part.data["notes"] = {"missing_from_pack": missing, "full": full, "peak_flops": PEAK}
    for lacking, keys in missing.items():
        print(f"  not in the pack: {lacking}: {len(keys)} cases left out", flush=True)
    if cases:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        peers = gemm_mixed_peers.Peers(peers_folder)
        part.data["notes"]["peers_that_did_not_load"] = peers.why
        for name, why in peers.why.items():
            print(f"  peer {name}: {why}", flush=True)
        rate = lambda: part.data["cases"].get("copy", {}).get("tb_s", attention.ROOF * 1e-12) * 1e12
        timings = [(key, lambda case=case: case(runtime, manifest, peers, rate())) for key, case in cases]
        run.run_cases(part, [("copy", attention.copy_case)] + timings, deadline)
    part.save()


def dense_case(runtime, manifest, peers, rate, name, m, n, k):
    form = data.Form(FORMATS[name])
    moved, flops = form.weight_bytes(n, k) + m * form.row_bytes(n, k), 2 * m * n * k
    row = {"format": name, "m": m, "n": n, "k": k, "bytes": moved, "flops": flops}
    return timed_case(runtime, manifest, peers, rate, "gemm", form, gemm_sizes(m, n, k), row, moved)


def grouped_case(runtime, manifest, peers, rate, name, tokens, model, n, k, kind):
    form = data.Form(GROUPED[name])
    experts, top, _ = EXPERTS[model]
    counts = data.routing(tokens, experts, top, kind)
    rows, used = sum(counts), sum(count > 0 for count in counts)
    moved, flops = used * form.weight_bytes(n, k) + rows * form.row_bytes(n, k), 2 * rows * n * k
    sizes = {**grouped_sizes(counts, n, k), "counts": counts}
    row = {"format": name, "tokens": tokens, "model": model, "routing": kind, "rows": rows, "experts_used": used}
    row.update(m=sizes["m"], n=n, k=k, bytes=moved, flops=flops)
    # What a set takes is all experts, what a run reads of it those used.
    row["set_bytes"] = experts * form.weight_bytes(n, k) + rows * form.row_bytes(n, k)
    return timed_case(runtime, manifest, peers, rate, "gemm_grouped", form, sizes, row, moved)


def timed_case(runtime, manifest, peers, rate, op_name, form, sizes, row, read_bytes):
    import torch

    problem = run.Problem(named(sizes), {"alpha": 1.0})
    chosen = runtime.select_of(op_name, form.text, problem)
    plans = [p["id"] for p in manifest["plans"] if (p["op"], p["class"]) == (op_name, form.text)]
    plans = [chosen] + [p for p in plans if p != chosen and runtime.admits(p, problem) is None]
    prepared, rough = {}, {}
    room = torch.cuda.mem_get_info()[0] // 3
    count = max(1, min(attention.n_sets(read_bytes), room // row.get("set_bytes", read_bytes)))
    try:
        for plan in plans:
            prepared[plan] = run.Op(runtime, plan, problem)
        ready = prepared[chosen]
        sets = []
        for at in range(count):
            tensors = data.operands(ready.tensors, form, sizes, at)
            for name, dtype, is_output, shape, _ in ready.tensors:
                if is_output:
                    tensors[name] = torch.full(shape, float("nan"), device=data.DEVICE).to(data.dtype_of(dtype))
            sets.append(tensors)

        def launcher(plan):
            op = prepared[plan]
            addresses = [op.addresses(tensors) for tensors in sets]
            return lambda index: op.run(addresses[index], torch.cuda.current_stream().cuda_stream)

        launches = {plan: launcher(plan) for plan in plans}
        launches[chosen](0)
        torch.cuda.synchronize()
        verdict = data.judge(form, sizes, sets[0], sets[0]["d"])
        if verdict["status"] == "ok" and data.unwritten(form, sizes, sets[0]["d"]):
            verdict.update(status="failed", why="elements were never written")
        for plan in plans:
            rough[plan] = run.Timed(plan, launches[plan], count).rough_us
        sides = {"plan": launches[chosen]}
        best = min(rough, key=rough.get)
        if best != chosen:
            sides["plan, fastest"] = launches[best]
        others = [plan for plan in rough if is_unpacking(plan) != is_unpacking(chosen)]
        other = min(others, key=rough.get) if others else None
        if other and other != best:
            sides["plan, other path"] = launches[other]
        rivals, left_out = peers.of(op_name, form, sizes, sets[0])
        times, failed = attention.timed({**sides, **rivals}, count, 0.4)
        left_out.update(failed)
    finally:
        for op in prepared.values():
            op.close()
    roof, bound = roof_us(form, row["bytes"], row["flops"], rate)
    for side in times.values():
        side.update(tb_s=row["bytes"] / side["us"] * 1e-6, tflops=row["flops"] / side["us"] * 1e-6, of_roof=roof / side["us"])
    row.update(roof_us=roof, bound=bound, rough_us=rough, fastest_plan=best, other_path=other)
    row["plans"] = {name: times[name] for name in times if name.startswith("plan,")}
    row["verdict"] = run.json_safe(verdict)
    fast = times["plan"]
    rates = f"{fast['tb_s']:.2f} TB/s, {fast['tflops']:.0f} TFLOP/s"
    row["says"] = f"{fast['us']:.1f} us, {rates}, {fast['of_roof']:.2f} of the {bound} roof"
    if best != chosen:
        row["says"] += f", {times['plan, fastest']['us']:.1f} us by {best}"
    named_peers = [*rivals, *(name for name in left_out if name not in rivals)]
    result = attention.finish(row, times, left_out, named_peers, verdict["gap"], chosen, count)
    if verdict["status"] != "ok":
        result.update(status="failed", why=verdict["why"])
        result["says"] += f", failed: {verdict['why']}"
    return result
