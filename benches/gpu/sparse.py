"""Sparse convolution on an NVIDIA GPU: phases `sparse-check` and `sparse` of run.py, which starts this.

`sparse-check` holds every plan of sparse_conv, kernel_map and sparse_network to sparse_data.py's maps (exactly) and to numpy's f64 (by
the bound of the other checks; networks as root mean squares) on pieces of scans, with guards and poison. `sparse` times what dispatch
chooses, beside the other plans of its class and beside peers (sparse_peers.py), in turns, each checked on the host first:

  layers    one convolution of 16 to 256 channels on a scan: submanifold 3x3x3, strided 2x2x2 and 3x3x3
  networks  MinkUNet at widths 1.0 and 0.5, CenterPoint's encoder, SECOND's backbone, from voxels to features

Our plans make their maps in every run. Rows therefore name three times: the plan's, that of the map alone (`kernel_map`, which makes no
lists of pairs or tiles), and their difference; peers are timed with maps made in every run and with maps kept.

Scans are in `scenes/` of the kit: simulated ones, and a real one. Random coordinates would have no neighbours and say nothing. Nothing
above `the GPU from here on` needs torch.
"""

import math
import re

import attention
import run
import sparse_data as data
from sparse_data import Geometry, np

OPS = run.SPARSE_OPS
DEVICE = "cuda"
EPILOGUE = "bias=none,bn=f32,act=relu,residual=0"  # as networks have it
# Deviation of sums: tensor cores truncate once for each step of k.
STEP = 2.0**-24
HALF_STEP = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}
# (voxels of the piece, kernel, stride, dilation, padding, cin, cout), most telling first.
CHECKS = [
    (3000, 3, 1, 1, 1, 32, 64), (1000, 2, 2, 1, 0, 64, 32), (777, 3, 2, 1, 1, 16, 128), (500, (3, 2, 1), 1, 2, (1, 0, 2), 96, 96),
    (1, 3, 1, 1, 1, 8, 8), (129, 1, 1, 1, 0, 128, 256), (400, 5, 1, 1, 2, 32, 32), (2000, 3, 3, 1, 1, 5, 19), (64, 7, 1, 1, 3, 4, 20),
]
NETWORK_VOXELS = [2000, 60]
# Scene by kind of scan, the first that the kit has.
LAYER_SCENES = ["hdl64-0", "scan-source", "waymo-0"]
LAYERS = [("submanifold", 3, 1, 0, c, c) for c in (64, 32, 128, 96, 256, 16)]
LAYERS += [("strided", 2, 2, 0, 32, 32), ("strided", 2, 2, 0, 128, 128), ("strided", 3, 2, 1, 32, 64), ("strided", 3, 2, 1, 64, 128)]
NETWORKS = [
    ("minkunet_w1", ["hdl64-0", "hdl64-1"]), ("minkunet_w05", ["hdl64-0", "hdl64-1"]), ("centerpoint", ["hdl32-0", "hdl32-1"]),
    ("second", ["hdl64-0", "hdl64-1"]), ("minkunet_w1", ["scan-source"]), ("centerpoint", ["waymo-0"]), ("second", ["waymo-0"]),
]


def conv_class(mode, dtype="f16"):
    return f"dtype={dtype},mode={mode},target=0,{EPILOGUE}"


def map_class(mode):
    return f"mode={mode},target=0"


def map_sizes(g, n, m):
    return {"m": m, "inputs": n, **g.sizes()}


def conv_sizes(g, n, found, cin, cout):
    return {**map_sizes(g, n, len(found)), "k": cin, "n": cout, "pairs": int((found >= 0).sum())}


def geometry(mode, kernel, stride, dilation, padding):
    return Geometry.submanifold(kernel, dilation) if mode == "submanifold" else Geometry(kernel, stride, dilation, padding)


def layer_problem(op, fields, scene, shape):
    """(geometry, voxels, given outputs or None, outputs, map, sizes) of a check."""
    n, kernel, stride, dilation, padding, cin, cout = shape
    mode = fields["mode"]
    g = geometry(mode, kernel, stride, dilation, padding)
    coords = data.crop(scene, n)
    # Where outputs are given: voxels of another piece, at the inputs' resolution or the outputs'.
    target = data.crop(scene, n + n // 3) if fields["target"] == "1" else None
    if target is not None and mode == "strided":
        target = data.outputs("strided", g, target)
    out, found = data.kernel_map(mode, g, coords, target)
    sizes = conv_sizes(g, len(coords), found, cin, cout) if op == "sparse_conv" else map_sizes(g, len(coords), len(out))
    return g, coords, target, out, found, sizes


def network_class(text):
    fields = run.parse_class(text)
    return fields.get("network"), fields.get("dtype")


# ---------------------------------------------------------------------------------------------------------- numbers


def rounded(x, dtype):
    """To nearest even, as f64."""
    x = np.asarray(x, np.float64)
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float64)
    single = x.astype(np.float32)
    if dtype == "f32":
        return single.astype(np.float64)
    bits = single.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def tf32(x):
    """As tensor cores take f32: ties away from zero."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32).astype(np.float64)


def raw(x, dtype):
    """The bytes of numbers."""
    if dtype == "f16":
        return np.asarray(x, np.float16).view(np.int16)
    if dtype == "bf16":
        return (rounded(x, "bf16").astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.int16)
    return np.asarray(x, np.float32)


def activation(x, act):
    if act == "relu":
        return np.maximum(x, 0)
    if act == "silu":
        return x / (1 + np.exp(-x))
    if act == "gelu":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x


def convolution(found, x, weight, epilogue, dtype):
    """(value, lowp, slack) `[m, cout]` of one layer: f64, the kernel's precision, and what sums in other orders may add."""
    m, taps = found.shape
    exact, size = np.zeros((m, weight.shape[2])), np.zeros((m, weight.shape[2]))
    single = np.zeros((m, weight.shape[2]), np.float32)
    low = tf32 if dtype == "f32" else lambda v: v
    for tap in range(taps):
        rows = np.nonzero(found[:, tap] >= 0)[0]
        if len(rows):
            part = x[found[rows, tap]]
            exact[rows] += part @ weight[tap]
            size[rows] += np.abs(part) @ np.abs(weight[tap])
            single[rows] += low(part).astype(np.float32) @ low(weight[tap]).astype(np.float32)
    get = lambda name, default: np.asarray(epilogue.get(name, default), np.float64)
    bias, scale, shift, residual = get("bias", 0), get("bn_scale", 1), get("bn_shift", 0), get("residual", 0)
    act = epilogue.get("act", "none")
    value = activation((exact + bias) * scale + shift + residual, act)
    f = np.float32
    near = (single + f(bias)) * f(scale) + f(shift) + f(residual)
    lowp = rounded(activation(near.astype(np.float64), act), dtype)
    magnitude = (size + np.abs(bias)) * np.abs(scale) + np.abs(shift) + np.abs(residual)
    steps = taps * -(-x.shape[1] // 16) + 4
    slack = magnitude * steps * STEP + np.abs(value) * HALF_STEP[dtype] + (2.0**-25 if dtype == "f16" else 0)
    return value, lowp, slack


def judge(out, value, lowp, slack):
    """A verdict on an output."""
    gap = np.abs(lowp - value)
    bound = 2 * np.where(np.isfinite(gap), gap, 0) + slack
    off = np.abs(out - value)
    wrong = ~(off <= bound)
    largest = float(np.abs(value).max()) if value.size else 0.0
    result = {"status": "ok", "error": float(off.max()) if off.size else 0.0, "gap": float(off.max() / largest) if largest else 0.0}
    if wrong.any():
        row, col = (int(v) for v in np.argwhere(wrong)[0])
        why = f"{int(wrong.sum())} of {out.size} elements out of bound, first [{row}, {col}]: {out[row, col]:.6g} for {value[row, col]:.6g}"
        result.update(status="failed", why=f"{why}, bound {bound[row, col]:.3g}, {int(np.isnan(out).sum())} NaN")
    return run.json_safe(result)


def judge_network(out, value, lowp):
    """As root mean squares: through many layers one element's roundings are nobody's to predict."""
    rms = lambda v: math.sqrt(float(np.mean(np.square(v)))) if v.size else 0.0
    error, bound = rms(out - value), 2 * rms(lowp - value) + 1e-4 * rms(value)
    result = {"status": "ok", "error": error, "bound": bound, "gap": error / rms(value) if rms(value) else 0.0}
    if not error <= bound:
        result.update(status="failed", why=f"off by {error:.3g} (root mean square), the bound is {bound:.3g}")
    return run.json_safe(result)


def weights_of(network, dtype, seed=1):
    """Made-up weights and vectors by layer; features neither grow nor vanish."""
    dice, made = np.random.default_rng(seed), {}
    for layer in network.layers:
        if layer.second is not None:
            continue
        taps = network.groups[layer.group][1].taps
        high = 3 / math.sqrt(taps * layer.cin)
        own = {"weight": rounded(dice.uniform(-high, high, (taps, layer.cin, layer.cout)), dtype)}
        if layer.bn:
            own.update(bn_scale=dice.uniform(0.5, 1, layer.cout).astype(np.float32), bn_shift=dice.uniform(-0.3, 0.3, layer.cout).astype(np.float32))
        if layer.bias:
            own["bias"] = dice.uniform(-0.3, 0.3, layer.cout).astype(np.float32)
        made[layer.name] = own
    return made


def network_forward(network, maps, back, features, weights, dtype):
    """(f64, every layer in the kernels' precision) of the last layer."""
    exact, low = [], []
    for layer in network.layers:
        for which, given in enumerate((exact, low)):
            feed = lambda at: features if at < 0 else given[at]
            if layer.second is not None:
                given.append(np.concatenate([feed(layer.first), feed(layer.second)], 1))
                continue
            epilogue = {**weights[layer.name], "act": layer.act}
            if layer.residual is not None:
                epilogue["residual"] = feed(layer.residual)
            found = back[layer.group] if layer.up else maps[layer.group]
            given.append(convolution(found, feed(layer.first), weights[layer.name]["weight"], epilogue, dtype)[which])
    return exact[-1], low[-1]


def plans_of(manifest):
    """Plans of the sparse ops, with the class's fields."""
    return [(plan, run.parse_class(plan["class"])) for plan in manifest["plans"] if plan["op"] in OPS]


def repeats_differ(plan):
    """Whether a plan's sums may differ in bits from run to run: atomics."""
    return "fetch_on_demand_fused" in plan["id"]


def headline(cases):
    """The numbers that say most, by name; those that were measured."""
    right = {key: row for key, row in cases.items() if row.get("status") == "ok"}
    result = {}
    for group in ("layer", "network"):
        rows = [row for key, row in right.items() if key.startswith(group) and "of_best_peer" in row]
        result[f"{group}_of_best_peer"] = run.geomean([row["of_best_peer"] for row in rows])
        result[f"{group}_us"] = {key: row["us"] for key, row in right.items() if key.startswith(group)}
    return result


def closing_lines(summary):
    """What run.py prints at the end."""
    told = lambda ratio: f"geomean {ratio:.3f} x the best peer that makes its maps too" if ratio else "not measured"
    return [f"sparse {group}s: {told(summary[f'{group}_of_best_peer'])}" for group in ("layer", "network")]


def sweep_cases(manifest, scenes, networks):
    """((key, what is timed) of what the pack and the kit have, what is missing -> keys)."""
    cases, missing = [], {}
    has = lambda op, text: attention.dispatched(manifest, op, text)
    scene = next((name for name in LAYER_SCENES if name in scenes), None)
    for layer in LAYERS:
        mode, kernel, stride, padding, cin, cout = layer
        key = f"layer {mode} k{kernel}s{stride} {cin}-{cout}"
        lacking = [] if scene else ["a scene"]
        lacking += [f"sparse_conv {conv_class(mode)}"] if not has("sparse_conv", conv_class(mode)) else []
        cases.append((key, lacking, ("layer", scene, layer)))
    for name, wanted in NETWORKS:
        used = [s for s in wanted if s in scenes]
        key = f"network {name} {wanted[0]}"
        lacking = [f"scene {s}" for s in wanted if s not in scenes] if not used else []
        lacking += [] if name in networks else [f"networks/{name}.toml"]
        text = f"network={name},dtype=f16"
        lacking += [] if has("sparse_network", text) else [f"sparse_network {text}"]
        cases.append((key, lacking, ("network", used, name)))
    # Networks say more than layers: the first of each in turn.
    layers, whole = ([c for c in cases if c[0].startswith(kind)] for kind in ("layer", "network"))
    ordered = [c for pair in zip(whole, layers) for c in pair] + whole[len(layers):] + layers[len(whole):]
    for key, lacking, _ in ordered:
        if lacking:
            missing.setdefault("; ".join(lacking), []).append(key)
    return [(key, what) for key, lacking, what in ordered if not lacking], missing


# ---------------------------------------------------------------------------------------------------------- the GPU from here on


def tensor(x, dtype):
    """Numbers on the device."""
    import torch

    if dtype == "i32":
        return torch.from_numpy(np.ascontiguousarray(x, np.int32)).to(DEVICE)
    return torch.from_numpy(np.ascontiguousarray(raw(x, dtype))).to(DEVICE).view(run.torch_dtype(dtype))


def numbers(t):
    return t.double().cpu().numpy()


def given_for_map(coords):
    return {"coords": tensor(coords, "i32"), "count": tensor([len(coords)], "i32")}


def checked_runs(op, plan, given):
    """Outputs of a plan that runs with guards, the same from run to run where it must be; raises Failed."""
    import torch

    runs = run.guarded_runs(op, given)
    same = lambda a, b: torch.equal(a.view(torch.uint8), b.view(torch.uint8))
    for name in runs[0]:
        if repeats_differ(plan) and name == "features_out":
            continue
        if any(not same(runs[0][name], other[name]) for other in runs[1:]):
            raise run.Failed(f"runs on equal data differ in bits of {name}")
    status = runs[0]["status"].cpu().tolist()
    if status != [2**31 - 1] * 4:
        raise run.Failed(f"status is {status}: the device found duplicates, or no room")
    return runs[0]


def expect_rows(outputs, name, want):
    found = outputs[name].cpu().numpy()
    if found.shape != want.shape or not (found == want).all():
        raise run.Failed(f"{name} is not the host's" if found.shape == want.shape else f"{name} is {found.shape}, the host's {want.shape}")


def check_layer(runtime, plan, fields, scene, shape):
    cin, cout = shape[5:]
    dtype = fields.get("dtype")
    g, coords, target, out, found, sizes = layer_problem(plan["op"], fields, scene, shape)
    problem = run.Problem(sizes)
    if runtime.admits(plan["id"], problem) is not None:
        return None

    def case():
        epilogue, more = {"act": fields.get("act", "none")}, {}
        if plan["op"] == "sparse_conv":
            dice = np.random.default_rng(len(coords))
            draw = lambda kind, *shape: rounded(dice.uniform(-1, 1, shape), kind)
            x, weight = draw(dtype, len(coords), cin), draw(dtype, g.taps, cin, cout)
            more.update(features=tensor(x, dtype), weight=tensor(weight, dtype))
            for name, kind in (("bias", fields["bias"]), ("bn_scale", fields["bn"]), ("bn_shift", fields["bn"])):
                if kind != "none":
                    epilogue[name] = draw(kind, cout)
                    more[name] = tensor(epilogue[name], kind)
            if fields["residual"] == "1":
                epilogue["residual"] = draw(dtype, len(out), cout)
                more["residual"] = tensor(epilogue["residual"], dtype)
        given = given_for_map(coords)
        if target is not None:
            given.update(coords_target=tensor(target, "i32"), count_target=tensor([len(target)], "i32"))
        op = run.Op(runtime, plan["id"], problem)
        try:
            outputs = checked_runs(op, plan, {**given, **more})
        finally:
            op.close()
        expect_rows(outputs, "coords_out", out)
        if plan["op"] == "kernel_map":
            expect_rows(outputs, "map", found)
            return {"status": "ok", "rows": len(out)}
        return judge(numbers(outputs["features_out"]), *convolution(found, x, weight, epilogue, dtype))

    return case


def check_network(runtime, plan, network, dtype, scene, n):
    coords = data.crop(scene, n)
    levels, maps, back = network.maps(coords)
    problem = run.Problem(network.sizes(levels, maps))
    if runtime.admits(plan["id"], problem) is not None:
        return None

    def case():
        weights = weights_of(network, dtype)
        x = rounded(np.random.default_rng(n).uniform(-1, 1, (len(coords), network.channels)), dtype)
        given = {**given_for_map(coords), "features": tensor(x, dtype), **layer_tensors(weights, dtype)}
        op = run.Op(runtime, plan["id"], problem)
        try:
            outputs = checked_runs(op, plan, given)
        finally:
            op.close()
        last = network.layers[-1].level
        if last:
            expect_rows(outputs, "coords_out", levels[last])
        return judge_network(numbers(outputs["features_out"]), *network_forward(network, maps, back, x, weights, dtype))

    return case


def layer_tensors(weights, dtype):
    kind = lambda name: dtype if name == "weight" else "f32"
    return {f"{layer}.{name}": tensor(x, kind(name)) for layer, own in weights.items() for name, x in own.items()}


def without_numpy(part):
    """Whether there is no numpy, which is said."""
    if np is None:
        part.data["notes"] = {"why": "numpy is not installed"}
        part.save()
        print("  numpy is not installed: nothing is checked or timed", flush=True)
    return np is None


def phase_check(runtime, manifest, part, deadline):
    if without_numpy(part):
        return
    scenes, (networks, why) = data.scenes(), data.networks()
    scene = next(iter(scenes.values()), None)
    cases, refused, left_out = [], [], {}
    for plan, fields in plans_of(manifest):
        if scene is None:
            left_out[plan["id"]] = "the kit has no scenes"
        elif plan["op"] == "sparse_network":
            name, dtype = network_class(plan["class"])
            if name not in networks:
                left_out[plan["id"]] = why or f"no networks/{name}.toml"
                continue
            made = [(f"{plan['id']} {n}", check_network(runtime, plan, networks[name], dtype, scene, n)) for n in NETWORK_VOXELS]
        else:
            made = [(f"{plan['id']} {at}", check_layer(runtime, plan, fields, scene, shape)) for at, shape in enumerate(CHECKS)]
        if plan["id"] not in left_out:
            cases += [(key, case) for key, case in made if case]
            refused += [key for key, case in made if not case]
    part.data["notes"] = {"refused_by_requires": refused, "plans_without_reference": left_out, "checks": [str(shape) for shape in CHECKS]}
    if not cases:
        print("  no plans of sparse convolutions to check", flush=True)
    run.run_cases(part, cases, deadline)
    part.save()


def phase_sweep(runtime, manifest, part, deadline, peers_folder=None):
    if without_numpy(part):
        return
    scenes, (networks, why) = data.scenes(), data.networks()
    cases, missing = sweep_cases(manifest, scenes, networks)
    part.data["notes"] = {"missing": missing, "networks": why, "scenes": {name: len(c) for name, c in scenes.items()}}
    for lacking, keys in missing.items():
        print(f"  missing: {lacking}: {len(keys)} cases left out", flush=True)
    if cases:
        import sparse_peers

        peers = sparse_peers.Peers(peers_folder)
        part.data["notes"]["peers_that_did_not_load"] = peers.why
        for name, reason in peers.why.items():
            print(f"  peer {name}: {reason}", flush=True)

        def case(what):
            kind, scene, of = what
            if kind == "layer":
                return lambda: layer_case(runtime, manifest, peers, scenes[scene], of)
            return lambda: network_case(runtime, manifest, peers, networks[of], [scenes[s] for s in scene])

        run.run_cases(part, [(key, case(what)) for key, what in cases], deadline)
    part.save()


def layer_case(runtime, manifest, peers, scene, layer):
    import sparse_peers

    mode, kernel, stride, padding, cin, cout = layer
    g = geometry(mode, kernel, stride, 1, padding)
    network = sparse_peers.one_layer(mode, g, cin, cout)
    out, found = data.kernel_map(mode, g, scene)
    weights = weights_of(network, "f16", cout)
    sizes = [conv_sizes(g, len(scene), found, cin, cout)]
    row = {"n": len(scene), "m": len(out), "pairs": sizes[0]["pairs"], "flops": 2 * sizes[0]["pairs"] * cin * cout}
    rows = np.linspace(0, len(out) - 1, min(len(out), 4096)).astype(int)
    want = convolution(found[rows], rounded_features(scene, cin), weights["conv"]["weight"], {**weights["conv"], "act": "relu"}, "f16")
    verdict = lambda y: judge(y[rows], *want)
    maps = [("kernel_map", map_class(mode), map_sizes(g, len(scene), len(out)))]
    return timed_case(runtime, manifest, peers, "sparse_conv", conv_class(mode), network, [scene], sizes, weights["conv"], weights, row, verdict, maps)


def network_case(runtime, manifest, peers, network, scenes):
    built = [network.maps(scene) for scene in scenes]
    sizes = [network.sizes(levels, maps) for levels, maps, _ in built]
    weights = weights_of(network, "f16")
    tensors = {f"{layer}.{name}": x for layer, own in weights.items() for name, x in own.items()}
    levels, maps, _ = built[0]
    flops = sum(2 * sizes[0][f"pairs{l.group}"] * l.cin * l.cout for l in network.layers if l.second is None)
    row = {"voxels": [len(level) for level in levels], "flops": flops}
    # The numbers of a whole scan through a network in f64 are for the check, on pieces; here that all are there.
    finite = lambda y: {"status": "ok", "gap": 0.0} if np.isfinite(y).all() else {"status": "failed", "gap": math.nan, "why": "elements are not finite"}
    text = f"network={network.name},dtype=f16"
    return timed_case(runtime, manifest, peers, "sparse_network", text, network, scenes, sizes, tensors, weights, row, finite, [])


def rounded_features(scene, channels, at=0):
    return rounded(np.random.default_rng(at).uniform(-1, 1, (len(scene), channels)), "f16")


def timed_case(runtime, manifest, peers, op, text, network, scenes, sizes, tensors, weights, row, verdict, maps):
    """Times a class's plans and the peers; `sizes` of each scene, of which the runs take turns."""
    import torch

    problems = [run.Problem(size) for size in sizes]
    chosen = runtime.select_of(op, text, problems[0])
    plans = [p["id"] for p in manifest["plans"] if (p["op"], p["class"]) == (op, text)]
    plans = [chosen] + [p for p in plans if p != chosen and all(runtime.admits(p, problem) is None for problem in problems)]
    fixed = {name: tensor(x, "f16" if name.endswith("weight") else "f32") for name, x in tensors.items()}
    features = [tensor(rounded_features(scene, network.channels, at), "f16") for at, scene in enumerate(scenes)]
    prepared = []

    def launcher(op_name, plan, problems):
        """A function of a set's index, and the tensors of the first set."""
        sets = []
        for at, (scene, problem) in enumerate(zip(scenes, problems)):
            ready = run.Op(runtime, plan, problem)
            prepared.append(ready)
            own = {**given_for_map(scene), **fixed, "features": features[at]}
            for name, dtype, is_output, shape, _ in ready.tensors:
                if is_output:
                    own[name] = torch.zeros(shape, dtype=run.torch_dtype(dtype), device=DEVICE)
            sets.append((ready, ready.addresses(own), own))
        queue = lambda index: sets[index][0].run(sets[index][1], torch.cuda.current_stream().cuda_stream)
        return queue, sets[0][2]

    try:
        launches, rough = {}, {}
        for plan in plans:
            launches[plan], first = launcher(op, plan, problems)
            if plan == chosen:
                launches[plan](0)
                torch.cuda.synchronize()
                judged = verdict(numbers(first["features_out"]))
            rough[plan] = run.Timed(plan, launches[plan], len(scenes)).rough_us
        sides = {"plan": launches[chosen]}
        best = min(rough, key=rough.get)
        if best != chosen:
            sides["plan, fastest"] = launches[best]
        rivals, left_out = peers.of(network, scenes, features, folded(weights))
        times, failed = attention.timed({**sides, **rivals}, len(scenes), 0.6)
        left_out.update(failed)
        # By itself: a short run among the others would have all of them put into graphs, which peers that ask the GPU for sizes are
        # not fit for.
        for map_op, map_text, size in maps:
            if attention.dispatched(manifest, map_op, map_text):
                problem = run.Problem(size)
                queue, _ = launcher(map_op, runtime.select_of(map_op, map_text, problem), [problem])
                times["plan, map alone"] = attention.timed({"plan": queue}, 1, 0.2)[0]["plan"]
    finally:
        for ready in prepared:
            ready.close()
    return told(row, times, left_out, rivals, rough, chosen, judged, len(scenes))


def folded(weights):
    """Weight and bias of each layer as peers take them: batch norms folded."""
    made = {}
    for layer, own in weights.items():
        scale, shift = (np.asarray(own.get(name, default), np.float64) for name, default in (("bn_scale", 1.0), ("bn_shift", 0.0)))
        cout = own["weight"].shape[2]
        bias = np.broadcast_to(shift + scale * np.asarray(own.get("bias", 0.0), np.float64), (cout,))
        made[layer] = tensor(own["weight"] * scale, "f16"), tensor(bias, "f16")
    return made


def told(row, times, left_out, rivals, rough, chosen, judged, count):
    """The row of a case. The best peer is the best of those that make their maps, as our plan does."""
    best = min(rough, key=rough.get)
    row.update(rough_us=rough, fastest_plan=best, verdict=judged, plans={name: side for name, side in times.items() if name.startswith("plan,")})
    fast = times["plan"]
    row["tflops"] = row["flops"] / fast["us"] * 1e-6
    row["says"] = f"{fast['us']:.0f} us, {row['tflops']:.1f} TFLOP/s of pairs"
    if "plan, map alone" in times:
        row["us_without_map"] = fast["us"] - times["plan, map alone"]["us"]
        row["says"] += f", {times['plan, map alone']['us']:.0f} us of them the map"
    if best != chosen:
        row["says"] += f", {times['plan, fastest']['us']:.0f} us by {best}"
    making = [name for name in rivals if name.endswith("maps made")] + [name for name in left_out if name.endswith("maps made")]
    result = attention.finish(row, times, left_out, making, judged["gap"], chosen, count)
    result["peers_with_maps_kept"] = {name: times[name] for name in times if re.search("maps kept$", name)}
    result["left_out"] = left_out
    if judged["status"] != "ok":
        result.update(status="failed", why=judged["why"])
        result["says"] += f", failed: {judged['why']}"
    return result
