"""Attention on an NVIDIA GPU: phases `attention-check` (attention_check.py) and `attention` of run.py, which starts this.

The sweep times the plans that dispatch chooses, each beside its peers, in turns, on buffers that L2 does not hold:

  prefill   d 64, 128, 256; 1k to 16k tokens, batch * tokens = 16k, heads * d = 2048; full and causal; against torch's Flash
            and cuDNN attention and FlashAttention-3 (wheel fa3-fwd) where they take the problem
  decode    batch 1 to 128, 1k to 32k tokens, heads 32/8 and 64/8, pages of 16 and 64; against torch on contiguous keys, and
            against the time in which memory moves every key and value once
  sparse    128 x 128 blocks at densities 1 to 0.1, and streaming heads, against the dense plan and the share of its work
  select    page selection and the decode of the pages selected, against the decode of all pages

What a pack lacks is reported by op and class, and the rest runs. Nothing above `class Side` needs torch.
"""

import math

import run

BF16 = 2
ROOF = 4.3e12  # bytes a second of a copy on an H200, read and written; the report holds this machine's own beside it
UNLIMITED = 1 << 30
PAGE_CLASS = "dtype=bf16,bounds=bf16,d=128,logical=0"
SEQUENCES = [16384, 4096, 1024, 8192, 2048]  # most telling first
HEADS = [(32, 8), (64, 8)]
DENSITIES = [1.0, 0.5, 0.25, 0.1]
SINK_TOKENS, RECENT_TOKENS = 128, 1024


def forward_class(d, dv=None, dtype="bf16", out=None, bias="none", sparse="none", prefix=False, **flags):
    """The class of a forward as plans spell it; `flags`: causal, window, chunk, softcap, alibi, sink, varlen."""
    on = {name: int(flags.pop(name, 0)) for name in ("causal", "window", "chunk", "softcap", "alibi", "sink", "varlen")}
    assert not flags, f"no such feature: {flags}"
    varlen = on.pop("varlen")
    middle = ",".join(f"{name}={value}" for name, value in on.items())
    text = f"dtype={dtype},out={out or dtype},d={d},dv={dv or d},{middle},bias={bias},varlen={varlen},sparse={sparse}"
    return text + (",prefix=1" if prefix else "")


def decode_class(d, dv=None, dtype="bf16", out=None, select="none", **flags):
    """The class of a decode as plans spell it."""
    on = {name: int(flags.pop(name, 0)) for name in ("causal", "window", "chunk", "softcap", "alibi", "sink")}
    assert not flags, f"no such feature: {flags}"
    middle = ",".join(f"{name}={value}" for name, value in on.items())
    return f"dtype={dtype},out={out or dtype},d={d},dv={dv or d},{middle},select={select}"


def forward_sizes(batch, sq, sk, hq, hkv, **more):
    """Sizes by name; dispatch sees queries as m, keys as n, heads of all sequences as k."""
    return {"m": sq, "n": sk, "k": batch * hq, "batch": batch, "sq": sq, "sk": sk, "hq": hq, "hkv": hkv, **more}


def decode_sizes(batch, sq, hq, hkv, pages, page, max_pages, n_select=0, splits=0, split_size=0, **more):
    """Dispatch sees key heads of all sequences as m, the most tokens a head reads as n, tokens of a page as k."""
    tokens = (n_select or max_pages) * page
    return {
        "m": batch * hkv, "n": tokens, "k": page, "batch": batch, "sq": sq, "hq": hq, "hkv": hkv, "pages": pages, "page": page,
        "max_pages": max_pages, "n_select": n_select, "splits": splits, "split_size": split_size, **more,
    }


def stats_sizes(pages, page, hkv, d, sub=1):
    return {"m": pages, "n": page, "k": d, "pages": pages, "page": page, "hkv": hkv, "sub": sub}


def select_sizes(batch, hq, hkv, d, pages, page, max_pages, top, sub=1):
    return {
        "m": batch * hq, "n": max_pages, "k": d, "batch": batch, "hq": hq, "hkv": hkv, "pages": pages, "page": page,
        "max_pages": max_pages, "top": top, "sub": sub,
    }


def merge_sizes(parts, batch, sq, hq, dv):
    return {"m": batch * sq, "n": hq, "k": parts, "parts": parts, "batch": batch, "sq": sq, "hq": hq, "dv": dv}


def forward_flops(batch, seq, heads, d, causal):
    """The convention of the FlashAttention papers: two products, half of them for causal."""
    return 4 * batch * seq * seq * heads * d // (2 if causal else 1)


def decode_bytes(batch, tokens, hkv, d):
    """Keys and values, each read once."""
    return 2 * batch * tokens * hkv * d * BF16


def bounds_bytes(batch, pages, hkv, d):
    """What a selection reads of the statistics of `pages` pages a sequence."""
    return 2 * batch * pages * hkv * d * BF16


def prefill_shapes():
    """(batch, tokens, heads, d, causal)"""
    return [
        (16384 // seq, seq, 2048 // d, d, causal) for seq in SEQUENCES for d in (128, 64, 256) for causal in (False, True)
    ]


def decode_shapes():
    """(batch, tokens, hq, hkv, page); the 4k batch of 32 first."""
    grid = [(batch, tokens) for tokens in (4096, 32768, 1024, 8192) for batch in (32, 1, 128, 8)]
    return [(batch, tokens, hq, hkv, page) for batch, tokens in grid for hq, hkv in HEADS for page in (16, 64)]


def select_shapes():
    """(batch, tokens, hq, hkv, page, pages selected)"""
    return [(batch, tokens, 32, 8, 16, top) for batch, tokens in ((8, 32768), (32, 32768), (1, 32768)) for top in (64, 256)]


def dispatched(manifest, op, op_class):
    """True where the pack has a table for a class."""
    return any((table["op"], table["class"]) == (op, op_class) for table in manifest["dispatch"])


def block_keep(blocks, density, causal, dice):
    """Rows of which key blocks a query block keeps: the last visible one, and of the others as many as the density says."""
    rows = []
    for i in range(blocks):
        seen = i + 1 if causal else blocks
        kept = set(dice.sample(range(seen), max(1, round(density * seen))))
        if i < seen and i not in kept:
            kept.discard(next(iter(kept)))
            kept.add(i)
        rows.append(sorted(kept))
    return rows


def kept_share(rows, causal, block=128):
    """Visible pairs of query and key in the blocks kept, over those of the dense problem."""
    half = block * (block + 1) // 2
    pairs = lambda i, j: block * block if not causal or j < i else half if j == i else 0
    blocks = len(rows)
    whole = sum(pairs(i, j) for i in range(blocks) for j in range(blocks))
    return sum(pairs(i, j) for i, row in enumerate(rows) for j in row) / whole


def streaming_share(seq, sink, recent):
    """Visible pairs of a streaming head over those of a causal one."""
    seen = sum(min(p + 1, sink + recent) for p in range(seq))
    return seen / (seq * (seq + 1) // 2)


def fa3():
    """FlashAttention-3's function, or None and why not."""
    why = []
    for module in ("fa3_fwd_interface", "flash_attn_interface"):
        try:
            return __import__(module).flash_attn_func, None
        except Exception as error:  # a wheel built for another torch fails in many ways
            why.append(f"{module}: {run.first_line(error)}")
    return None, "; ".join(why)


# ---------------------------------------------------------------------------------------------------------- timing


class Side:
    """Plans run one after another on sets of tensors; closes itself."""

    def __init__(self, runtime):
        self.runtime, self.ops = runtime, []

    def add(self, op, op_class, sizes, numbers, sets):
        """Prepares what dispatch chooses; gives the plan's id and a function that queues a run on set `index`."""
        import torch

        problem = run.Problem(sizes, numbers)
        plan = self.runtime.select_of(op, op_class, problem)
        ready = run.Op(self.runtime, plan, problem)
        self.ops.append(ready)
        addresses = [ready.addresses(tensors) for tensors in sets]
        return plan, lambda index: ready.run(addresses[index], torch.cuda.current_stream().cuda_stream)

    def close(self):
        for op in self.ops:
            op.close()


def n_sets(set_bytes):
    """Sets of buffers for L2 to be cold: what a set is used again after must be twice L2."""
    import torch

    l2 = run.l2_bytes(torch.cuda.get_device_properties(0))
    free = torch.cuda.mem_get_info()[0]
    return max(1, min(2 * l2 // set_bytes + 1, 64, free // 3 // set_bytes))


def normal(seed, *shape):
    import torch

    generator = torch.Generator(device="cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16)


def outputs(batch, sq, hq, dv):
    import torch

    o = torch.full((batch, sq, hq, dv), float("nan"), device="cuda", dtype=torch.bfloat16)
    return {"o": o, "lse": torch.full((batch, hq, sq), float("nan"), device="cuda")}


def sampled_gap(out, q, k, v, scale, visible=None):
    """The largest difference from f32 math in a sample of rows, as a part of the largest element there; NaN stays NaN."""
    import torch

    batch, sq, hq, _ = q.shape
    group = hq // k.shape[2]
    generator = torch.Generator().manual_seed(sq + hq)
    worst, largest = 0.0, 0.0
    for _ in range(8):
        b, h = (int(torch.randint(n, (), generator=generator)) for n in (batch, hq))
        rows = torch.randint(sq, (8,), generator=generator).to(q.device)
        scores = scale * (q[b, rows, h].float() @ k[b, :, h // group].float().T)
        if visible is not None:
            scores = scores.masked_fill(~visible(b, h, rows), float("-inf"))
        want = torch.softmax(scores, -1) @ v[b, :, h // group].float()
        gap = (out[b, rows, h].float() - want).abs().max().item()
        worst = gap if not gap <= worst else worst
        largest = max(largest, want.abs().max().item())
    return worst / largest if largest else math.nan


def timed(sides, count, seconds):
    """(row of each side by name, why some were left out); `sides` maps names to functions of a set's index."""
    import torch

    ready, left_out = [], {}
    for name, launch in sides.items():
        try:
            ready.append(run.Timed(name, launch, count))
        except (RuntimeError, TypeError) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or name.startswith("plan"):
                raise
            left_out[name] = run.first_line(error)
    if min(side.rough_us for side in ready) < run.GRAPH_BELOW_US:
        for side in list(ready):
            try:
                side.capture()
            except RuntimeError as error:
                if side.name.startswith("plan"):
                    raise
                left_out[side.name] = f"not fit for a graph: {run.first_line(error)}"
                ready.remove(side)
    graphs = {side.name: side.per_replay if side.graph else 0 for side in ready}
    try:
        times = run.measure(ready, seconds)
    finally:
        for side in ready:
            side.graph = None
        torch.cuda.synchronize()
    keys = ("us", "p20_us", "p80_us", "samples")
    return {name: {**dict(zip(keys, row)), "graph": graphs[name]} for name, row in times.items()}, left_out


def sdpa(backend, sets, **options):
    """A function of a set's index: torch's attention by one backend, on `q`, `pk`, `pv` of a set as [b, h, s, d]."""
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def launch(index):
        with sdpa_kernel(getattr(SDPBackend, backend)):
            F.scaled_dot_product_attention(*(sets[index][name].transpose(1, 2) for name in ("q", "pk", "pv")), **options)

    return launch


def finish(row, times, left_out, peers, gap, plan, count):
    """Puts what all rows have into `row`."""
    row = {"status": "ok", "plan": plan, "gap": gap, "buffer_sets": count, "gpu": run.gpu_state(), **times["plan"], **row}
    row["peers"] = {name: times[name] if name in times else {"left_out": left_out[name]} for name in peers}
    measured = {name: times[name]["us"] for name in peers if name in times}
    if measured:
        row["best_peer"] = min(measured, key=measured.get)
        row["of_best_peer"] = measured[row["best_peer"]] / row["us"]
        row["says"] += f", {row['of_best_peer']:.3f} x {row['best_peer']}"
    if not gap < 0.02:
        row.update(status="failed", why=f"differs from f32 math by {gap:.3g} of the largest element")
        row["says"] += f", failed: {row['why']}"
    return run.json_safe(row)


def prefill_case(runtime, shape):
    batch, seq, heads, d, causal = shape
    count = n_sets(4 * batch * seq * heads * d * BF16)
    sets = []
    for at in range(count):
        q, k, v = (normal(3 * at + i, batch, seq, heads, d) for i in range(3))
        sets.append({"q": q, "k": k, "v": v, "pk": k, "pv": v, **outputs(batch, seq, heads, d)})
    side, scale = Side(runtime), d**-0.5
    try:
        sizes = forward_sizes(batch, seq, seq, heads, heads)
        plan, launch = side.add("attention", forward_class(d, causal=causal), sizes, {"scale": scale}, sets)
        launch(0)
        keys = lambda b, h, rows: causal_rows(rows, seq)
        gap = sampled_gap(*(sets[0][name] for name in ("o", "q", "k", "v")), scale, keys if causal else None)
        function, why = fa3()
        peers = {f"torch {name}": sdpa(name, sets, is_causal=causal) for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION")}
        if function:
            peers["fa3"] = lambda index: function(*(sets[index][name] for name in ("q", "k", "v")), causal=causal)
        times, left_out = timed({"plan": launch, **peers}, count, 0.8)
    finally:
        side.close()
    if why:
        left_out["fa3"] = why
    flops = forward_flops(batch, seq, heads, d, causal)
    for row in times.values():
        row["tflops"] = flops / row["us"] * 1e-6
    says = f"{times['plan']['us']:.1f} us, {times['plan']['tflops']:.0f} TFLOP/s"
    names = ("batch", "seq", "heads", "d", "causal")
    return finish({**dict(zip(names, shape)), "says": says}, times, left_out, [*peers, *(["fa3"] if why else [])], gap, plan, count)


def causal_rows(rows, seq):
    import torch

    return torch.arange(seq, device=rows.device)[None] <= rows[:, None]


def cache(seed, batch, tokens, hq, hkv, page, d):
    """A paged cache with its pages in random order, the same keys in a row for peers, q and outputs."""
    import torch

    per = -(-tokens // page)
    generator = torch.Generator(device="cuda").manual_seed(seed)
    table = torch.randperm(batch * per, generator=generator, device="cuda").view(batch, per)
    made = {"q": normal(seed, batch, 1, hq, d), **outputs(batch, 1, hq, d)}
    for name, peer in (("k_pages", "pk"), ("v_pages", "pv")):
        made[name] = normal(seed + (name == "v_pages") + 1, batch * per, page, hkv, d)
        # Copied, not a view: what a server without pages would hold.
        made[peer] = made[name][table].view(batch, per * page, hkv, d)[:, :tokens].transpose(1, 2).contiguous().transpose(1, 2)
    made["page_table"] = table.to(torch.int32).contiguous()
    made["kv_len"] = torch.full((batch,), tokens, dtype=torch.int32, device="cuda")
    return made


def decode_case(runtime, shape, d=128):
    batch, tokens, hq, hkv, page = shape
    count = n_sets(2 * decode_bytes(batch, tokens, hkv, d))
    sets = [cache(5 * at, *shape[:4], page, d) for at in range(count)]
    side, scale, per = Side(runtime), d**-0.5, -(-tokens // page)
    try:
        sizes = decode_sizes(batch, 1, hq, hkv, batch * per, page, per)
        plan, launch = side.add("attention_decode", decode_class(d, causal=True), sizes, {"scale": scale}, sets)
        launch(0)
        gap = sampled_gap(*(sets[0][name] for name in ("o", "q", "pk", "pv")), scale)
        peers = {f"torch {name}": sdpa(name, sets, enable_gqa=True) for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION")}
        function, why = fa3()
        if function:
            peers["fa3"] = lambda index: function(*(sets[index][name] for name in ("q", "pk", "pv")))
        times, left_out = timed({"plan": launch, **peers}, count, 0.4)
    finally:
        side.close()
    if why:
        left_out["fa3"] = why
    moved = decode_bytes(batch, tokens, hkv, d)
    for row in times.values():
        row["tb_s"] = moved / row["us"] * 1e-6
    row = {**dict(zip(("batch", "tokens", "hq", "hkv", "page"), shape)), "bytes": moved, "roof_us": moved / ROOF * 1e6}
    row["of_roof"] = row["roof_us"] / times["plan"]["us"]
    row["says"] = f"{times['plan']['us']:.1f} us, {times['plan']['tb_s']:.2f} TB/s, {row['of_roof']:.2f} of the roof"
    return finish(row, times, left_out, [*peers, *(["fa3"] if why else [])], gap, plan, count)


def sparse_case(runtime, causal, density, batch=2, seq=8192, heads=16, d=128, block=128):
    """One block mask for all heads, or with density None streaming heads."""
    import random

    import torch

    count = n_sets(4 * batch * seq * heads * d * BF16)
    sets = []
    for at in range(count):
        q, k, v = (normal(3 * at + i, batch, seq, heads, d) for i in range(3))
        sets.append({"q": q, "k": k, "v": v, **outputs(batch, seq, heads, d)})
    blocks, keys = seq // block, torch.arange(seq, device="cuda")[None]
    if density is None:
        share = streaming_share(seq, SINK_TOKENS, RECENT_TOKENS)
        more, kind = {"sink_tokens": SINK_TOKENS, "recent_tokens": RECENT_TOKENS}, "heads"
        extra = {"head_type": torch.full((heads,), -1, dtype=torch.int32, device="cuda")}
        visible = lambda b, h, rows: causal_rows(rows, seq) & ((keys < SINK_TOKENS) | (rows[:, None] - keys < RECENT_TOKENS))
    else:
        rows = block_keep(blocks, density, causal, random.Random(7))
        share = kept_share(rows, causal, block)
        mask = torch.zeros(blocks, blocks, dtype=torch.uint8)
        for i, row in enumerate(rows):
            mask[i, row] = 1
        extra = {"block_mask": mask.cuda()[None, None].contiguous()}
        more, kind = {"mask_b": 1, "mask_h": 1, "mask_q": blocks, "mask_k": blocks, "block_m": block, "block_n": block}, "mask"
        whole = extra["block_mask"][0, 0].bool().repeat_interleave(block, 1)
        visible = lambda b, h, rows: whole[rows // block] & (causal_rows(rows, seq) if causal else True)
    for tensors in sets:
        tensors.update(extra)
    side, scale = Side(runtime), d**-0.5
    sizes = forward_sizes(batch, seq, seq, heads, heads)
    try:
        names = (forward_class(d, causal=causal, sparse=kind), forward_class(d, causal=causal))
        plan, launch = side.add("attention", names[0], {**sizes, **more}, {"scale": scale}, sets)
        dense, dense_launch = side.add("attention", names[1], sizes, {"scale": scale}, sets)
        launch(0)
        gap = sampled_gap(*(sets[0][name] for name in ("o", "q", "k", "v")), scale, visible)
        times, left_out = timed({"plan": launch, "plan, dense": dense_launch}, count, 0.6)
    finally:
        side.close()
    ratio = times["plan"]["us"] / times["plan, dense"]["us"]
    row = {"causal": causal, "density": density, "seq": seq, "dense_plan": dense, "dense": times["plan, dense"], "share": share}
    row.update(of_dense=ratio, of_ideal=share / ratio)
    row["says"] = f"{times['plan']['us']:.1f} us, {ratio:.3f} of dense, ideal {share:.3f}"
    return finish(row, times, left_out, [], gap, plan, count)


def select_case(runtime, shape, d=128):
    import torch

    batch, tokens, hq, hkv, page, top = shape
    per, scale = -(-tokens // page), d**-0.5
    count = n_sets(2 * decode_bytes(batch, tokens, hkv, d))
    sets = [cache(5 * at, batch, tokens, hq, hkv, page, d) for at in range(count)]
    for tensors in sets:
        keys = tensors["k_pages"]
        tensors.update(page_min=keys.amin(1).contiguous(), page_max=keys.amax(1).contiguous())
        tensors["select"] = torch.full((batch, hq, top), -1, dtype=torch.int32, device="cuda")
    side, pages = Side(runtime), batch * per
    try:
        sizes = select_sizes(batch, hq, hkv, d, pages, page, per, top)
        chooser, choose = side.add("page_select", PAGE_CLASS, sizes, {}, sets)
        sizes = decode_sizes(batch, 1, hq, hkv, pages, page, per, n_select=top)
        plan, few = side.add("attention_decode", decode_class(d, causal=True, select="heads"), sizes, {"scale": scale}, sets)
        sizes = decode_sizes(batch, 1, hq, hkv, pages, page, per)
        dense, every = side.add("attention_decode", decode_class(d, causal=True), sizes, {"scale": scale}, sets)

        def both(index):
            choose(index)
            few(index)

        for index in range(count):
            both(index)
        chosen = sets[0]["select"].long()
        seen = torch.zeros(batch, hq, per + 1, dtype=torch.bool, device="cuda").scatter_(2, chosen % (per + 1), True)
        visible = lambda b, h, rows: seen[b, h, :per].repeat_interleave(page)[None, :tokens].expand(len(rows), -1)
        gap = sampled_gap(*(sets[0][name] for name in ("o", "q", "pk", "pv")), scale, visible)
        sides = {"plan": both, "plan, selection": choose, "plan, decode of the selection": few, "plan, decode of all": every}
        times, left_out = timed(sides, count, 0.6)
    finally:
        side.close()
    row = dict(zip(("batch", "tokens", "hq", "hkv", "page", "top"), shape))
    row.update(selection_plan=chooser, dense_plan=dense, parts={name: times[name] for name in times if name != "plan"})
    # Every query head has its own pages.
    row["selected_bytes"] = decode_bytes(batch, top * page, hq, d)
    row["bounds_bytes"], row["dense_bytes"] = bounds_bytes(batch, per, hkv, d), decode_bytes(batch, tokens, hkv, d)
    row["of_dense"] = times["plan"]["us"] / times["plan, decode of all"]["us"]
    row["bytes_of_dense"] = (row["selected_bytes"] + row["bounds_bytes"]) / row["dense_bytes"]
    row["says"] = f"{times['plan']['us']:.1f} us, {row['of_dense']:.3f} of the decode of all pages, bytes {row['bytes_of_dense']:.3f}"
    return finish(row, times, left_out, [], gap, plan, count)


def copy_case():
    """What a copy moves here, read and written."""
    import torch

    source, target = torch.empty(4 << 30, dtype=torch.uint8, device="cuda").random_(), torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    times, _ = timed({"plan": lambda index: target.copy_(source)}, 1, 0.3)
    rate = 2 * source.numel() / times["plan"]["us"] * 1e-6
    return {"status": "ok", **times["plan"], "tb_s": rate, "roof_tb_s": ROOF * 1e-12, "says": f"copy: {rate:.2f} TB/s"}


def sweep_cases(manifest):
    """(key, classes that it needs, function of the runtime) of everything that is timed; the groups take turns."""
    forward = lambda *names: [("attention", name) for name in names]
    dense = {causal: forward_class(128, causal=causal) for causal in (False, True)}
    prefill = [
        (f"prefill b{s[0]} s{s[1]} h{s[2]} d{s[3]} {'causal' if s[4] else 'full'}", forward(forward_class(s[3], causal=s[4])),
         lambda runtime, s=s: prefill_case(runtime, s)) for s in prefill_shapes()
    ]
    decode = [
        (f"decode b{s[0]} kv{s[1]} h{s[2]}/{s[3]} page{s[4]}", [("attention_decode", decode_class(128, causal=True))],
         lambda runtime, s=s: decode_case(runtime, s)) for s in decode_shapes()
    ]
    sparse = [
        (f"sparse {'causal' if causal else 'full'} {density}", forward(forward_class(128, causal=causal, sparse="mask"), dense[causal]),
         lambda runtime, a=(causal, density): sparse_case(runtime, *a)) for causal in (True, False) for density in DENSITIES
    ]
    needs = forward(forward_class(128, causal=True, sparse="heads"), dense[True])
    sparse.append((f"streaming heads {SINK_TOKENS}+{RECENT_TOKENS}", needs, lambda runtime: sparse_case(runtime, True, None)))
    needs = [("page_select", PAGE_CLASS)] + [("attention_decode", decode_class(128, causal=True, select=s)) for s in ("heads", "none")]
    select = [
        (f"select b{s[0]} kv{s[1]} h{s[2]}/{s[3]} page{s[4]} top{s[5]}", needs, lambda runtime, s=s: select_case(runtime, s))
        for s in select_shapes()
    ]
    groups, cases = [prefill, decode, sparse, select], []
    for at in range(max(map(len, groups))):
        cases += [group[at] for group in groups if at < len(group)]
    ready, missing = [], {}
    for key, needs, case in cases:
        lacking = [f"{op} {name}" for op, name in needs if not dispatched(manifest, op, name)]
        if lacking:
            missing.setdefault("; ".join(lacking), []).append(key)
        else:
            ready.append((key, case))
    return ready, missing


def phase_sweep(runtime, manifest, part, deadline):
    cases, missing = sweep_cases(manifest)
    part.data["notes"] = {"missing_from_pack": missing, "roof_bytes_per_s": ROOF}
    for lacking, keys in missing.items():
        print(f"  not in the pack: {lacking}: {len(keys)} cases left out", flush=True)
    if cases:
        timings = [(key, lambda case=case: case(runtime)) for key, case in cases]
        run.run_cases(part, [("copy", copy_case)] + timings, deadline)
    part.save()


def phase_check(runtime, manifest, part, deadline):
    import attention_check

    attention_check.phase(runtime, manifest, part, deadline)


def headline(cases):
    """The numbers that say most, by name; those that were measured."""
    right = {key: row for key, row in cases.items() if row.get("status") == "ok"}
    best = lambda start, field: {key: row[field] for key, row in right.items() if key.startswith(start) and field in row}
    result = {"prefill_tflops": best("prefill", "tflops"), "decode_tb_s": best("decode", "tb_s")}
    result.update(sparse_of_ideal=best("s", "of_ideal"), select_of_dense=best("select", "of_dense"))
    for group in ("prefill", "decode"):
        ratios = list(best(group, "of_best_peer").values())
        result[f"{group}_of_best_peer"] = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
    return result
