"""What of the mixed GEMM kit can be tested without a GPU; `python3 -m unittest` in this folder, and the runtime's tests do it.

Packing and the reference are checked where torch is installed, on the CPU."""

import importlib.util
import json
import os
import random
import unittest
from unittest import mock

import attention
import gemm_mixed
import gemm_mixed_data as data
import gemm_mixed_peers as peers
import gemm_mixed_small as small
import run

HAS_TORCH = importlib.util.find_spec("torch") is not None
G128 = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0,weight=int4g128"


class Cases(unittest.TestCase):
    def test_keys_are_unique_and_the_short_list_is_part_of_all(self):
        keys = [case[0] for case in [*gemm_mixed.dense_cases(), *gemm_mixed.grouped_cases()]]
        self.assertEqual(len(set(keys)), len(keys))
        self.assertGreater(len(keys), 1500)
        everything = {"dispatch": [
            {"op": op, "class": text} for op, forms in (("gemm", gemm_mixed.FORMATS), ("gemm_grouped", gemm_mixed.GROUPED)) for text in forms.values()
        ]}
        quick, missing = gemm_mixed.sweep_cases(everything)
        full, _ = gemm_mixed.sweep_cases(everything, full=True)
        self.assertEqual(missing, {})
        self.assertLessEqual({key for key, _ in quick}, {key for key, _ in full})
        self.assertEqual({key for key, _ in full}, set(keys))
        self.assertTrue(40 < len(quick) < 120, len(quick))
        self.assertEqual({key.split(" ")[0] for key, _ in quick}, {"square", "target", "llama-3-8b", "llama-3-70b", "deepseek-v3", "grouped"})
        self.assertIn("target w4a16 1x28672x8192", {key for key, _ in quick})
        only, _ = gemm_mixed.sweep_cases(everything, only="mixtral*")
        self.assertEqual(only, [])  # its layers are those of Llama 3 8B
        only, _ = gemm_mixed.sweep_cases(everything, only="grouped mixtral w4a16 t1 *")
        self.assertEqual(len(only), 4)

    def test_what_a_pack_lacks_is_named(self):
        ready, missing = gemm_mixed.sweep_cases({"dispatch": [{"op": "gemm", "class": G128}]})
        self.assertTrue(ready and all("w4a16" in key for key, _ in ready))
        self.assertIn("gemm " + gemm_mixed.FORMATS["fp8 block"], missing)
        self.assertIn("gemm_grouped " + gemm_mixed.GROUPED["w4a16"], missing)

    def test_classes_say_what_they_are(self):
        form = data.Form("a=f16,b=nk,out=f16,act=swiglu,bias=1,residual=0,weight=int8g32z,groups=offsets,gather=1")
        self.assertEqual((form.bits, form.group, form.zero, form.gates, form.groups, form.unknown), (8, 32, True, 2, "offsets", []))
        self.assertEqual(data.Form(G128 + ",source=awq").unknown, ["source=awq"])
        self.assertEqual(data.Form(G128.replace("b=nk", "b=kn")).unknown, ["b=kn"])
        self.assertFalse(data.Form("a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0").mixed())
        for text in [*gemm_mixed.FORMATS.values(), *gemm_mixed.GROUPED.values()]:
            form = data.Form(text)
            self.assertTrue(form.mixed() and not form.unknown, text)
            op = "gemm_grouped" if form.groups != "batch" else "gemm"
            self.assertTrue(run.is_mixed(op, run.parse_class(text)), text)
        self.assertFalse(run.is_mixed("gemm", run.parse_class("a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0")))
        self.assertTrue(run.is_mixed("quantize", {}) and run.is_mixed("gemm_pack", {}))

    def test_bytes_and_roofs(self):
        w4, block = data.Form(G128), data.Form(gemm_mixed.FORMATS["fp8 block"])
        self.assertEqual(w4.weight_bytes(28672, 8192), 28672 * 8192 // 2 + 2 * 28672 * 64)
        self.assertEqual(w4.row_bytes(28672, 8192), 2 * (28672 + 8192))
        self.assertEqual(block.weight_bytes(300, 200), 300 * 200 + 4 * 3 * 2)
        self.assertEqual(block.row_bytes(300, 200), 200 + 4 * 2 + 600)
        self.assertEqual(data.packed_words(w4), 1056)
        us, bound = gemm_mixed.roof_us(w4, 4.3e6, 1e6, 4.3e12)
        self.assertEqual((round(us, 9), bound), (1.0, "bytes"))
        us, bound = gemm_mixed.roof_us(block, 1, 1979e6, 4.3e12)
        self.assertEqual((round(us, 9), bound), (1.0, "tensor"))

    def test_routing(self):
        for kind in ("uniform", "zipf"):
            counts = data.routing(512, 64, 8, kind)
            self.assertEqual((sum(counts), len(counts)), (4096, 64))
            self.assertLessEqual(max(counts), 512)
            self.assertEqual(counts, data.routing(512, 64, 8, kind))
        even, steep = (data.routing(512, 64, 1, kind) for kind in ("uniform", "zipf"))
        self.assertLess(max(even), 30)
        self.assertGreater(max(steep), 60)

    def test_problems_of_the_check(self):
        for text in gemm_mixed.GROUPED.values():
            for groups in ("offsets", "counts"):
                form = data.Form(text.replace("offsets", groups))
                for shape in gemm_mixed.CHECK_SHAPES:
                    sizes = gemm_mixed.check_problem(form, "gemm_grouped", shape)
                    self.assertNotIn("counts", gemm_mixed.named(sizes))
                    self.assertTrue({"m", "n", "k", "e"} <= set(sizes))
                    self.assertTrue(max(sizes["counts"]) < sizes["max_m"] if groups == "counts" else sizes["tokens"] == sum(sizes["counts"]))

    def test_headlines_take_what_was_measured(self):
        cases = {
            "target w4a16 16x28672x8192": {"status": "ok", "m": 16, "of_roof": 0.64, "of_best_peer": 2.0},
            "target w4a16 1x28672x8192": {"status": "ok", "m": 1, "of_roof": 0.81},
            "target w4a16 64x28672x8192": {"status": "failed", "m": 64, "of_roof": 0.1},
            "square fp8 row 4096": {"status": "ok", "of_roof": 0.7, "us": 10.0, "peers": {"_scaled_mm": {"us": 9.0}}},
            "square fp8 block 4096": {"status": "ok", "of_roof": 0.7, "us": 10.0, "peers": {"_scaled_mm": {"left_out": "no"}}},
        }
        found = gemm_mixed.headline(cases)
        self.assertAlmostEqual(found["w4a16_few_tokens_of_roof"], 0.72)
        self.assertAlmostEqual(found["w4a16_of_best_peer"], 2.0)
        self.assertAlmostEqual(found["fp8_squares_of_scaled_mm"], 0.9)
        self.assertIsNone(found["grouped_of_best_peer"])
        lines = gemm_mixed.closing_lines(found)
        self.assertEqual(lines[0], "W4A16 of 8192 x 28672 at m <= 16: 0.720 of the byte roof")
        self.assertEqual(lines[-1], "grouped GEMM: not measured")
        json.dumps(gemm_mixed.headline({}))


class Packing(unittest.TestCase):
    def test_places_are_those_of_fragments(self):
        for bits in (4, 8):
            places = data.code_places(bits)
            self.assertEqual(sorted(places), list(range(64 * 128)))
        word = lambda bits, at: [divmod(p, 128) for p in data.code_places(bits)[at * 32 // bits : (at + 1) * 32 // bits]]
        # The first word: rows 0 and 8, k 0, 1 and 8, 9; values of even number in the low half of the word.
        self.assertEqual(word(4, 0), [(0, 0), (8, 0), (0, 8), (8, 8), (0, 1), (8, 1), (0, 9), (8, 9)])
        self.assertEqual(word(8, 0), [(0, 0), (0, 1), (8, 0), (8, 1)])
        self.assertEqual(word(8, 1), [(0, 8), (0, 9), (8, 8), (8, 9)])
        # Warp 2, lane 7 (row 1, k 6), step 3 of the second chunk.
        self.assertEqual(word(4, 512 + 4 * (32 * 2 + 7) + 3)[0], (33, 64 + 48 + 6))
        self.assertEqual(word(8, 3 * 512 + 4 * (32 * 2 + 7) + 2)[0], (33, 96 + 16 + 6))
        self.assertEqual(data.SCALE_ROWS[:4] + data.SCALE_ROWS[-2:], [0, 8, 1, 9, 55, 63])


class Peers(unittest.TestCase):
    def test_without_a_folder_every_one_is_named(self):
        found = peers.Peers(None)
        self.assertEqual(set(found.why), {"humming", "marlin, machete", "deep_gemm"})
        dense = lambda name: set(peers.dense_makers(found, data.Form(gemm_mixed.FORMATS[name])))
        self.assertEqual(dense("w4a16"), {"torch bf16", "tinygemm"})
        self.assertEqual(dense("fp8 row"), {"torch bf16", "_scaled_mm"})
        self.assertEqual(dense("int8"), {"torch bf16", "_int_mm, no scales"})
        grouped = peers.grouped_makers(found, data.Form(gemm_mixed.GROUPED["fp8 block"]))
        self.assertEqual(set(grouped), {"_grouped_mm bf16", "_scaled_grouped_mm, rows"})

    def test_types_and_arguments(self):
        self.assertEqual(peers.UINT4B8, 1125899907892224)
        arguments = [("a", False, False), ("c", False, True), ("use_fp32_reduce", True, False)]
        self.assertEqual(peers.by_schema(arguments, {"a": 1, "unused": 2}), {"a": 1, "c": None})
        with self.assertRaises(RuntimeError) as refused:
            peers.by_schema([("size_m", False, False)], {})
        self.assertIn("size_m", str(refused.exception))

    @unittest.skipUnless(HAS_TORCH, "torch is not installed")
    def test_a_folder_without_them(self):
        found = peers.Peers(os.path.dirname(os.path.abspath(__file__)))
        self.assertEqual(set(found.why), {"humming", "deep_gemm", "marlin, machete"})


@unittest.skipUnless(os.environ.get("TILEWRIGHT_LIB"), "TILEWRIGHT_LIB names no runtime")
class Packs(unittest.TestCase):
    """With a runtime and a driver, which may be a stand-in: plans are chosen and prepared, nothing is launched."""

    def setUp(self):
        folder = os.environ["TILEWRIGHT_PACK"]
        self.runtime = run.Runtime(os.environ["TILEWRIGHT_LIB"])
        self.runtime.open(folder, 0)
        with open(os.path.join(folder, "manifest.json")) as file:
            self.manifest = json.load(file)

    def test_plans_take_the_problems(self):
        plans, left_out = gemm_mixed.mixed_plans(self.manifest)
        admitted, known = {plan["id"]: 0 for plan, _ in plans}, {"a", "b", "packed", "a_scale", "b_scale", "offsets", "counts", "gather", "bias", "residual", "d"}
        for plan, form in plans:
            for shape in gemm_mixed.CHECK_SHAPES:
                sizes = gemm_mixed.check_problem(form, plan["op"], shape)
                problem = run.Problem(gemm_mixed.named(sizes), {"alpha": 1.0})
                if self.runtime.admits(plan["id"], problem) is None:
                    op = run.Op(self.runtime, plan["id"], problem)
                    self.assertLessEqual({t[0] for t in op.tensors}, known, plan["id"])
                    packed = [t[3] for t in op.tensors if t[0] == "packed"]
                    if packed:
                        m, n, k = shape
                        blocks = [form.gates * -(-n // 64), -(-k // 128), data.packed_words(form)]
                        self.assertEqual(packed[0][1:], blocks, plan["id"])
                    op.close()
                    admitted[plan["id"]] += 1
        self.assertEqual([plan for plan, count in admitted.items() if count == 0], [])
        print(f"{len(admitted)} mixed plans, {sum(admitted.values())} preparations, {len(left_out)} without a reference")

    def test_small_plans_take_the_problems(self):
        prepared = {}
        for plan, _, sizes in small.small_plans(self.manifest)[0]:
            problem = run.Problem(sizes)
            prepared.setdefault(plan["id"], 0)
            if self.runtime.admits(plan["id"], problem) is None:
                run.Op(self.runtime, plan["id"], problem).close()
                prepared[plan["id"]] += 1
        self.assertEqual([plan for plan, count in prepared.items() if count == 0], [])

    def test_the_sweep_finds_its_plans(self):
        has = lambda op, text: any((t["op"], t["class"]) == (op, text) for t in self.manifest["dispatch"])
        for _, name, m, n, k in gemm_mixed.dense_cases():
            if has("gemm", gemm_mixed.FORMATS[name]):
                self.runtime.select_of("gemm", gemm_mixed.FORMATS[name], run.Problem(gemm_mixed.gemm_sizes(m, n, k)))
        for _, name, tokens, model, n, k, kind in gemm_mixed.grouped_cases():
            if has("gemm_grouped", gemm_mixed.GROUPED[name]):
                experts, top, _ = gemm_mixed.EXPERTS[model]
                counts = data.routing(min(tokens, 64), experts, top, kind)
                self.runtime.select_of("gemm_grouped", gemm_mixed.GROUPED[name], run.Problem(gemm_mixed.grouped_sizes(counts, n, k)))


@unittest.skipUnless(HAS_TORCH, "torch is not installed")
class Reference(unittest.TestCase):
    def setUp(self):
        import torch

        torch.manual_seed(5)
        self.torch = torch

    def weight(self, form, n, k):
        """(codes, scale, zero, the weight in float64) of n rows."""
        torch, most = self.torch, 1 << form.bits
        codes, groups = torch.randint(0, most, (1, n, k)), -(-k // form.group)
        scale = (torch.rand(1, n, groups) / most).to(data.dtype_of(form.a))
        zero = torch.randint(0, most, (1, n, groups)) if form.zero else None
        minus = zero.repeat_interleave(form.group, -1)[..., :k] if form.zero else most // 2
        return codes, scale, zero, (codes - minus).double() * scale.double().repeat_interleave(form.group, -1)[..., :k]

    def test_packing_unpacks(self):
        for bits in (4, 8):
            for zero in ("", "z"):
                for a in ("bf16", "f16"):
                    form = data.Form(f"a={a},b=nk,out={a},act=none,bias=0,residual=0,weight=int{bits}g32{zero}")
                    codes, scale, zeros, want = self.weight(form, 70, 200)
                    packed = data.pack(form, codes, scale, zeros)
                    self.assertEqual(list(packed.shape), [1, 2, 2, data.packed_words(form)])
                    self.assertEqual(packed.dtype, self.torch.int32)
                    found = self.torch.cat([data.unpack(form, packed[0, at]) for at in range(2)])
                    self.assertTrue(self.torch.equal(found[:70, :200], want[0]))
                    self.assertEqual(found[70:].abs().max().item() + found[:, 200:].abs().max().item(), 0.0)

    def test_words_follow_the_rule(self):
        form = data.Form(G128)
        codes = self.torch.randint(0, 16, (1, 64, 128))
        packed = data.pack(form, codes, self.torch.ones(1, 64, 1))[0, 0, 0]
        dice = random.Random(3)
        for _ in range(50):
            chunk, w, l, s, i = (dice.randrange(x) for x in (2, 4, 32, 4, 8))
            row, k = 16 * w + l // 4 + 8 * (i // 2 % 2), 64 * chunk + 16 * s + 2 * (l % 4) + i % 2 + 8 * (i // 4)
            word = int(packed[512 * chunk + 4 * (32 * w + l) + s]) & 0xFFFFFFFF
            self.assertEqual(word >> 4 * [0, 4, 1, 5, 2, 6, 3, 7][i] & 15, codes[0, row, k])
        self.assertEqual([int(x) for x in packed[1024:]], [0x3F803F80] * 32)

    def operands(self, text, sizes, shapes):
        form = data.Form(text)
        tensors = [(name, dtype, False, shape, 0) for name, (dtype, shape) in shapes.items()]
        with mock.patch.object(data, "DEVICE", "cpu"):
            return form, data.operands(tensors, form, sizes, 1)

    def judged(self, form, sizes, given, out):
        result = data.judge(form, sizes, given, out)
        json.dumps(run.json_safe(result))
        return result["status"]

    def check_right_and_wrong(self, form, sizes, given, want, dtype):
        out = want.to(dtype)
        self.assertEqual(self.judged(form, sizes, given, out), "ok", form.text)
        rows, _ = data.sample(form, sizes)
        flat = out.clone().reshape(-1, sizes["n"])
        flat[rows[0], 0] += 0.05 * want.abs().max()
        self.assertEqual(self.judged(form, sizes, given, flat), "failed", form.text)
        flat[rows[0], 0] = float("nan")
        self.assertEqual(self.judged(form, sizes, given, flat), "failed", form.text)
        self.assertEqual(data.unwritten(form, sizes, flat), 1)

    def test_dense_packed(self):
        torch = self.torch
        for text, n, k in ((G128, 130, 300), (G128.replace("act=none", "act=swiglu") + "z", 70, 256), (G128.replace("int4", "int8"), 128, 256)):
            m = 9
            sizes, gates = gemm_mixed.gemm_sizes(m, n, k), 2 if "swiglu" in text else 1
            form = data.Form(text)
            shapes = {"a": ("bf16", [1, m, k]), "packed": ("i32", [1, gates * -(-n // 64), -(-k // 128), data.packed_words(form)])}
            form, given = self.operands(text, sizes, shapes)
            blocks = [data.unpack(form, block)[:, :k] for block in given["packed"][0]]
            halves = [torch.cat(blocks[gate::gates])[:n] for gate in range(gates)]
            products = [given["a"][0].double() @ w.T for w in halves]
            want = torch.nn.functional.silu(products[0]) * products[1] if gates == 2 else products[0]
            self.check_right_and_wrong(form, sizes, given, want, torch.bfloat16)

    def test_scales_meet_what_they_belong_to(self):
        torch, (m, n, k) = self.torch, (5, 200, 260)
        for kind in ("tensor", "row", "block"):
            text = f"a=i8,{gemm_mixed.PLAIN},a_scale={kind},b_scale={kind}"
            blocks = (-(-n // 128), -(-k // 128))
            scales = {"tensor": ([1], [1]), "row": ([1, m, 1], [1, n]), "block": ([1, m, blocks[1]], [1, *blocks])}[kind]
            shapes = {"a": ("i8", [1, m, k]), "b": ("i8", [1, n, k]), "a_scale": ("f32", scales[0]), "b_scale": ("f32", scales[1])}
            sizes = gemm_mixed.gemm_sizes(m, n, k)
            form, given = self.operands(text, sizes, shapes)
            a, b = given["a"][0].double(), given["b"][0].double()
            sa, sb = given["a_scale"].double(), given["b_scale"].double()
            want = torch.zeros(m, n, dtype=torch.float64)
            for j in range(k):
                fa = sa[0] if kind == "tensor" else sa[0, :, 0 if kind == "row" else j // 128]
                fb = sb[0] if kind == "tensor" else sb[0] if kind == "row" else sb[0, :, j // 128].repeat_interleave(128)[:n]
                want += (a[:, j] * fa)[:, None] * (b[:, j] * fb)[None]
            self.check_right_and_wrong(form, sizes, given, want, torch.bfloat16)

    def test_groups(self):
        torch, (n, k) = self.torch, (100, 64)
        counts = [0, 3, 1, 0, 5]
        for groups in ("offsets", "counts"):
            for gather in ("", ",gather=1"):
                if gather and groups == "counts":
                    continue
                text = f"a=bf16,{gemm_mixed.PLAIN.replace('bias=0', 'bias=1')},groups={groups}{gather}"
                sizes = {**gemm_mixed.grouped_sizes(counts, n, k, groups, max_m=6, gathered=7), "counts": counts}
                rows = [7] if gather else [9] if groups == "offsets" else [5, 6]
                shapes = {"a": ("bf16", [*rows, k]), "b": ("bf16", [5, n, k]), "bias": ("bf16", [5, n])}
                shapes.update({groups: ("i32", [6 if groups == "offsets" else 5])}, **({"gather": ("i32", [9])} if gather else {}))
                form, given = self.operands(text, sizes, shapes)
                if groups == "offsets":
                    self.assertEqual(given["offsets"].tolist(), [0, 0, 3, 4, 4, 9])
                    a = given["a"][given["gather"].long()] if gather else given["a"]
                    of = [e for e, count in enumerate(counts) for _ in range(count)]
                    want = torch.stack([given["b"][e].double() @ a[i].double() + given["bias"][e].double() for i, e in enumerate(of)])
                else:
                    want = torch.einsum("emk,enk->emn", given["a"].double(), given["b"].double()) + given["bias"].double()[:, None]
                    for e, count in enumerate(counts):
                        want[e, count:] = float("nan")
                    self.assertEqual(data.unwritten(form, sizes, want.bfloat16()), 0)
                    want = want.nan_to_num(0.0)
                self.check_right_and_wrong(form, sizes, given, want, torch.bfloat16)

    def test_sources_are_checkpoints(self):
        torch = self.torch
        codes, zero = torch.arange(16).repeat(1, 16).view(16, 16), torch.full((16, 1), 5)
        scale = torch.ones(16, 1)
        awq = small.sources("awq", codes, scale, zero, 4)
        self.assertEqual({name: list(t.shape) for name, t in awq.items()}, {"qweight": [16, 2], "qzeros": [1, 2], "scales": [1, 16]})
        self.assertEqual(awq["qweight"][3].tolist(), [0x33333333] * 2)
        columns = torch.arange(16)[:, None].expand(16, 16)
        word = int(small.sources("awq", columns, scale, zero, 4)["qweight"][0, 0]) & 0xFFFFFFFF
        self.assertEqual(word, 0x75316420)
        gptq = small.sources("gptq4v1", codes, scale, zero, 4)
        self.assertEqual({name: list(t.shape) for name, t in gptq.items()}, {"qweight": [2, 16], "qzeros": [1, 2], "scales": [1, 16]})
        self.assertEqual((int(gptq["qweight"][0, 7]) & 0xFFFFFFFF, int(gptq["qzeros"][0, 0])), (0x76543210, 0x44444444))
        self.assertEqual(int(small.sources("gptq4v2", codes, scale, zero, 4)["qzeros"][0, 0]), 0x55555555)
        raw = small.sources("int4", codes, scale, zero, 4)
        self.assertEqual((raw["q"][0, 1].item(), raw["zero"][0, 0].item()), (0x32, 5))

    def test_quantised_rows_are_judged(self):
        torch = self.torch
        x = torch.rand(3, 300) * 2 - 1
        x[1] = 0
        for block, width in (("row", 300), ("128", 128)):
            fields = {"in": "f32", "to": "i8", "block": block}
            padded = torch.nn.functional.pad(x.double(), (0, -300 % width)).view(3, -1, width)
            scale = (padded.abs().amax(-1).clamp(min=1e-10) / 127).float()
            q = (x.double() / scale.double().repeat_interleave(width, -1)[:, :300]).round().to(torch.int8)
            self.assertEqual(small.judge_quantize(fields, x, q, scale)["status"], "ok")
            wrong = q.clone()
            wrong[0, 0] += 1 if q[0, 0] < 0 else -1
            self.assertIn("not the nearest", small.judge_quantize(fields, x, wrong, scale)["why"])
            self.assertIn("a factor is", small.judge_quantize(fields, x, q, scale * 1.001)["why"])

    def test_tensors_without_a_meaning_are_refused(self):
        with self.assertRaises(run.Failed):
            self.operands(G128, gemm_mixed.gemm_sizes(1, 64, 128), {"qweight": ("i32", [1, 64])})


class Multiplier:
    """Stands for a prepared plan of W4A16: multiplies on the CPU, wrongly by a factor where asked to."""

    def __init__(self, runtime, plan, problem):
        sizes = {s.name.decode(): s.value for s in problem.kept[0]}
        m, n, k = (sizes[name] for name in "mnk")
        self.factor = runtime.factors[plan]
        self.form, self.k = data.Form(G128), k
        packed = [1, -(-n // 64), -(-k // 128), data.packed_words(self.form)]
        self.tensors = [("a", "bf16", False, [1, m, k], 0), ("packed", "i32", False, packed, 0), ("d", "bf16", True, [1, m, n], 0)]

    def addresses(self, tensors):
        return tensors

    def run(self, tensors, stream):
        import torch

        w = torch.cat([data.unpack(self.form, block)[:, : self.k] for block in tensors["packed"][0]])
        tensors["d"].copy_(self.factor * (tensors["a"][0].double() @ w.T)[None])

    def close(self):
        pass


class Runtime:
    """Stands for the runtime: two plans of one class, the first is chosen."""

    def __init__(self, **factors):
        self.factors = factors

    def select_of(self, op, op_class, problem):
        return next(iter(self.factors))

    def admits(self, plan, problem):
        return None


@unittest.skipUnless(HAS_TORCH, "torch is not installed")
class Flow(unittest.TestCase):
    """A case from operands to its row, with stand-ins for the GPU, its clock and its runtime."""

    def timed(self, runtime, peers_of):
        import torch

        def clock(sides, count, seconds):
            for name, launch in sides.items():
                launch(count - 1)
            return {name: {"us": 2.0 + at, "p20_us": 2.0, "p80_us": 3.0, "samples": 5, "graph": 0} for at, name in enumerate(sides)}, {}

        class Timed:
            def __init__(self, name, launch, count):
                launch(0)
                self.rough_us = {"packed_a": 3.0, "x_dequantised_b": 2.0}[name]

        manifest = {"plans": [{"op": "gemm", "class": G128, "id": plan} for plan in runtime.factors]}
        rivals = mock.Mock()
        rivals.of = peers_of
        stream = mock.Mock(cuda_stream=0)
        with mock.patch.object(data, "DEVICE", "cpu"), mock.patch.object(run, "Op", Multiplier), mock.patch.object(run, "Timed", Timed), \
                mock.patch.object(attention, "timed", clock), mock.patch.object(attention, "n_sets", lambda size: 2), \
                mock.patch.object(run, "gpu_state", dict), mock.patch.object(torch.cuda, "current_stream", lambda: stream), \
                mock.patch.object(torch.cuda, "synchronize", lambda: None), mock.patch.object(torch.cuda, "mem_get_info", lambda: (1 << 30, 1 << 30)):
            return gemm_mixed.dense_case(runtime, manifest, rivals, 4e12, "w4a16", 3, 128, 256)

    def test_a_right_plan_and_its_peers(self):
        row = self.timed(Runtime(packed_a=1.0, x_dequantised_b=1.0), lambda *given: ({"torch bf16": lambda index: None}, {"tinygemm": "not here"}))
        self.assertEqual((row["status"], row["plan"], row["us"]), ("ok", "packed_a", 2.0))
        self.assertEqual((row["fastest_plan"], row["other_path"]), ("x_dequantised_b", "x_dequantised_b"))
        self.assertEqual(set(row["plans"]), {"plan, fastest"})
        self.assertEqual(row["peers"]["tinygemm"], {"left_out": "not here"})
        self.assertEqual((row["best_peer"], row["of_best_peer"]), ("torch bf16", 2.0))
        self.assertEqual(row["bytes"], 128 * 256 // 2 + 2 * 128 * 2 + 3 * 2 * (128 + 256))
        self.assertAlmostEqual(row["of_roof"], row["bytes"] / 4e12 * 1e6 / 2.0)
        self.assertEqual(row["bound"], "bytes")
        json.dumps(row)

    def test_a_wrong_plan_is_a_failure_with_its_time(self):
        row = self.timed(Runtime(packed_a=1.1, x_dequantised_b=1.0), lambda *given: ({}, {}))
        self.assertEqual((row["status"], row["us"]), ("failed", 2.0))
        self.assertIn("elements sampled", row["why"])
        row = self.timed(Runtime(packed_a=float("nan"), x_dequantised_b=1.0), lambda *given: ({}, {}))
        self.assertEqual(row["status"], "failed")
        json.dumps(row)


if __name__ == "__main__":
    unittest.main()
