"""What of the sparse kit can be tested without a GPU; `python3 -m unittest` in this folder, and the runtime's tests do it.

Maps, networks and the reference need numpy; the torch peer is held to them where torch is installed, on the CPU."""

import importlib.util
import json
import math
import os
import sys
import unittest
from unittest import mock

import run
import sparse
import sparse_data as data
from sparse_data import Geometry, np

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_numpy = unittest.skipIf(np is None, "numpy is not installed")
needs_toml = unittest.skipIf(sys.version_info < (3, 11), "this Python reads no TOML")


def cloud(n=200, width=10, seed=0):
    """Voxels of two batches, some negative, in no order, each once."""
    dice = np.random.default_rng(seed)
    xyz = dice.integers(-width // 2, width // 2, (n, 3))
    rows = np.unique(np.concatenate([dice.integers(0, 2, (n, 1)), xyz], 1), axis=0)
    return rows[dice.permutation(len(rows))].astype(np.int64)


@needs_numpy
class Maps(unittest.TestCase):
    GEOMETRIES = [Geometry(3, 2, 1, 1), Geometry(2, 2), Geometry((3, 2, 1), (2, 1, 3), (1, 2, 1), (1, 0, 2))]

    def test_entries_are_the_relations(self):
        coords = cloud(80, 6)
        rows = {tuple(int(v) for v in c): at for at, c in enumerate(coords)}
        cases = [("submanifold", Geometry.submanifold(k, d)) for k, d in ((3, 1), (2, 1), ((3, 1, 5), (1, 1, 2)))]
        cases += [(mode, g) for mode in ("strided", "generative") for g in self.GEOMETRIES]
        for mode, g in cases:
            out, found = data.kernel_map(mode, g, coords)
            seen = set()
            for to, row in zip(out, found):
                for tap, (ox, oy, oz) in enumerate((x, y, z) for x in range(g.kernel[0]) for y in range(g.kernel[1]) for z in range(g.kernel[2])):
                    want = [int(to[0])]
                    for axis, o in enumerate((ox, oy, oz)):
                        s, p, d, at = g.stride[axis], g.padding[axis], g.dilation[axis], int(to[axis + 1])
                        up = at + p - d * o
                        want.append(s * at - p + d * o if mode not in data.UP else up // s if up % s == 0 else None)
                    self.assertEqual(row[tap], rows.get(tuple(want), -1), (mode, g.key(), to, tap))
                    seen.add(int(row[tap]))
            if mode == "generative":
                self.assertEqual(seen - {-1}, set(range(len(coords))), "every voxel leads somewhere")
            self.assertTrue((found >= 0).any(1).all(), "no output without an edge")
            self.assertEqual(len(np.unique(out, axis=0)), len(out))

    def test_outputs_come_by_candidate(self):
        coords = np.array([[0, 5, 0, 0], [0, 0, 0, 0], [0, 4, 0, 0]])
        out, _ = data.kernel_map("strided", Geometry(2, 2), coords)
        self.assertEqual(out.tolist(), [[0, 2, 0, 0], [0, 0, 0, 0]])

    def test_the_way_back_has_the_same_edges(self):
        coords, g = cloud(), Geometry(3, 2, 1, 1)
        out, down = data.kernel_map("strided", g, coords)
        _, up = data.kernel_map("inverse", g, out, coords)
        for row, tap in np.argwhere(down >= 0):
            self.assertEqual(up[down[row, tap], tap], row)
        self.assertEqual((down >= 0).sum(), (up >= 0).sum())

    def test_crops_are_pieces_in_order(self):
        line = np.array([[0, x, 0, 0] for x in range(100)])
        self.assertEqual(data.crop(line, 5)[:, 1].tolist(), [48, 49, 50, 51, 52])


@needs_numpy
@needs_toml
class Networks(unittest.TestCase):
    def setUp(self):
        self.networks, why = data.networks()
        self.assertIsNone(why)

    def test_graphs_share_their_maps(self):
        self.assertEqual(set(self.networks), {"minkunet_w1", "minkunet_w05", "centerpoint", "second"})
        net = self.networks["minkunet_w1"]
        taps = [g.taps for _, g, _, _ in net.groups]
        self.assertEqual((len(net.levels), taps.count(27), taps.count(8), taps.count(1)), (5, 5, 4, 5))
        big = [l for l in net.layers if l.second is None and net.groups[l.group][1].taps > 1]
        self.assertEqual(len(big), 42)
        for layer in net.layers:
            if layer.up:
                twin = next(l for l in net.layers if l.group == layer.group and not l.up)
                self.assertLess(net.layers.index(twin), net.layers.index(layer))

    def test_a_whole_network_in_two_precisions(self):
        for net in self.networks.values():
            coords = cloud(40, 6)
            levels, maps, back = net.maps(coords)
            weights = sparse.weights_of(net, "f16")
            x = sparse.rounded(np.random.default_rng(1).uniform(-1, 1, (len(coords), net.channels)), "f16")
            exact, low = sparse.network_forward(net, maps, back, x, weights, "f16")
            last = net.layers[-1]
            self.assertEqual(exact.shape, (len(levels[last.level]), last.cout))
            self.assertEqual(sparse.judge_network(low, exact, low)["status"], "ok")
            self.assertGreater(np.abs(exact).mean(), 0.01)
            wrong = low.copy()
            wrong[0] += 1
            self.assertEqual(sparse.judge_network(wrong, exact, low)["status"], "failed")
            wrong[0] = np.nan
            self.assertEqual(sparse.judge_network(wrong, exact, low)["status"], "failed")
            sizes = net.sizes(levels, maps)
            self.assertEqual((sizes["rows0"], sizes["pairs0"]), (len(coords), int((maps[0] >= 0).sum())))

    @unittest.skipUnless(HAS_TORCH, "torch is not installed")
    def test_the_torch_peer_is_a_network(self):
        import torch

        import sparse_peers

        net, coords = self.networks["second"], cloud(150)
        levels, maps, back = net.maps(coords)
        weights = sparse.weights_of(net, "f32")
        x = np.random.default_rng(1).uniform(-1, 1, (len(coords), net.channels)).astype(np.float32)
        single = lambda v: torch.from_numpy(np.asarray(v, np.float32))
        own = {name: (single(parts["weight"] * parts["bn_scale"]), single(parts["bn_shift"])) for name, parts in weights.items()}
        peer = sparse_peers.TorchNetwork(net, [coords], [torch.from_numpy(x)], own)
        want, _ = sparse.network_forward(net, maps, back, x, weights, "f32")
        order = np.lexsort(levels[-1].T[::-1])  # torch makes its voxels in sorted order
        for y in (peer.charged(0), peer.kept(0), peer.kept(0)):
            self.assertLess(float(np.abs(y.numpy() - want[order]).max()), 1e-3 * float(np.abs(want).max()))


@needs_numpy
class Numbers(unittest.TestCase):
    def test_rounding(self):
        self.assertEqual(sparse.rounded([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-9], "bf16").tolist(), [1.0, 1 + 2**-6, -1.0])
        self.assertEqual(sparse.rounded([70000.0, 1 + 2**-12], "f16").tolist(), [math.inf, 1.0])
        self.assertEqual(sparse.tf32([1 + 2**-11, 1 + 2**-12]).tolist(), [1 + 2**-10, 1.0])
        self.assertEqual(sparse.raw([1.0, -2.0], "bf16").view(np.uint16).tolist(), [0x3F80, 0xC000])
        self.assertEqual(sparse.raw([1.0], "f16").view(np.uint16).tolist(), [0x3C00])

    def test_a_convolution_by_hand(self):
        found = np.array([[0, -1, 1], [1, 0, -1]])
        x, weight = np.array([[1.0, 2], [3, -4]]), np.array([[[1.0], [10]], [[0.5], [0.25]], [[-1], [2]]])
        epilogue = {"bias": [1.0], "bn_scale": [2.0], "bn_shift": [-3.0], "residual": [[0.5], [0]], "act": "relu"}
        value, lowp, slack = sparse.convolution(found, x, weight, epilogue, "f16")
        self.assertEqual((value.tolist(), lowp.tolist()), ([[19.5], [0]], [[19.5], [0]]))
        self.assertEqual(sparse.judge(np.array([[19.5], [0]]), value, lowp, slack)["status"], "ok")
        for wrong in ([[19.6], [0]], [[math.nan], [0]]):
            verdict = sparse.judge(np.array(wrong), value, lowp, slack)
            self.assertEqual(verdict["status"], "failed")
            self.assertIn("first [0, 0]", verdict["why"])
            json.dumps(verdict)

    def test_taps_that_are_swapped_are_seen(self):
        coords, g = cloud(), Geometry.submanifold(3)
        _, found = data.kernel_map("submanifold", g, coords)
        dice = np.random.default_rng(0)
        x, weight = (sparse.rounded(dice.uniform(-1, 1, shape), "bf16") for shape in ((len(coords), 16), (27, 16, 8)))
        value, lowp, slack = sparse.convolution(found, x, weight, {}, "bf16")
        self.assertEqual(sparse.judge(lowp, value, lowp, slack)["status"], "ok")
        other = sparse.convolution(found[:, ::-1], x, weight, {}, "bf16")[1]
        self.assertEqual(sparse.judge(other, value, lowp, slack)["status"], "failed")


class Cases(unittest.TestCase):
    def test_what_is_missing_is_named(self):
        cases, missing = sparse.sweep_cases({"dispatch": []}, {}, {})
        self.assertEqual(cases, [])
        self.assertEqual(sum(map(len, missing.values())), len(sparse.LAYERS) + len(sparse.NETWORKS))
        self.assertTrue(any("networks/second.toml" in text and "scene" in text for text in missing))

    def test_everything_there_is_timed(self):
        names = {name for name, _ in sparse.NETWORKS}
        tables = [{"op": "sparse_conv", "class": sparse.conv_class(mode)} for mode in ("submanifold", "strided")]
        tables += [{"op": "sparse_network", "class": f"network={name},dtype=f16"} for name in names]
        scenes = {s: None for _, wanted in sparse.NETWORKS for s in wanted}
        cases, missing = sparse.sweep_cases({"dispatch": tables}, scenes, dict.fromkeys(names))
        self.assertEqual(missing, {})
        keys = [key for key, _ in cases]
        self.assertEqual(len(set(keys)), len(sparse.LAYERS) + len(sparse.NETWORKS), keys)
        self.assertTrue(keys[0].startswith("network"))
        without = dict(scenes)
        del without["scan-source"]
        _, missing = sparse.sweep_cases({"dispatch": tables}, without, dict.fromkeys(names))
        self.assertEqual(list(missing), ["scene scan-source"])

    @needs_numpy
    def test_a_layer_is_a_network(self):
        import sparse_peers

        network = sparse_peers.one_layer("strided", Geometry(3, 2, 1, 1), 8, 16)
        coords = cloud(60, 6)
        levels, maps, back = network.maps(coords)
        weights = sparse.weights_of(network, "f16")
        self.assertEqual(set(weights["conv"]), {"weight", "bn_scale", "bn_shift"})
        exact, _ = sparse.network_forward(network, maps, back, sparse.rounded_features(coords, 8), weights, "f16")
        self.assertEqual((exact.shape, bool((exact >= 0).all()), bool((exact > 0).any())), ((len(levels[1]), 16), True, True))

    def test_check_leaves_sparse_plans_to_their_phase(self):
        self.assertEqual(sparse.OPS, run.SPARSE_OPS)
        self.assertIn("sparse-check", run.PHASES)
        self.assertEqual(set(run.SHARE), set(run.PHASES))
        self.assertTrue(sparse.repeats_differ({"id": "sparse_conv_f16_submanifold_by_fetch_on_demand_fused_k27"}))
        self.assertFalse(sparse.repeats_differ({"id": "sparse_conv_f16_submanifold_by_implicit_k27"}))

    def test_a_row_and_its_headline(self):
        side = lambda us: {"us": us, "p20_us": us, "p80_us": us, "samples": 9, "graph": 0}
        times = {"plan": side(100.0), "plan, map alone": side(40.0), "torch, maps made": side(300.0), "torch, maps kept": side(200.0)}
        left_out = {"spconv, maps made": "not here"}
        rivals = {"torch, maps made": None, "torch, maps kept": None}
        with mock.patch.object(run, "gpu_state", dict):
            row = sparse.told({"flops": 10**9}, times, left_out, rivals, {"p": 100.0, "q": 120.0}, "p", {"status": "ok", "gap": 1e-4}, 2)
            bad = sparse.told({"flops": 1}, dict(times), {}, rivals, {"p": 1.0}, "p", {"status": "failed", "gap": 1e-4, "why": "wrong"}, 1)
        self.assertEqual((row["status"], row["best_peer"], row["of_best_peer"]), ("ok", "torch, maps made", 3.0))
        self.assertEqual((row["us_without_map"], row["fastest_plan"]), (60.0, "p"))
        self.assertEqual(set(row["peers"]), {"torch, maps made", "spconv, maps made"})
        self.assertEqual(set(row["peers_with_maps_kept"]), {"torch, maps kept"})
        self.assertEqual((bad["status"], bad["why"]), ("failed", "wrong"))
        json.dumps(row)
        head = sparse.headline({"layer a": row, "network b": bad})
        self.assertAlmostEqual(head["layer_of_best_peer"], 3.0)
        self.assertIsNone(head["network_of_best_peer"])
        self.assertEqual(sparse.closing_lines(head), [
            "sparse layers: geomean 3.000 x the best peer that makes its maps too", "sparse networks: not measured",
        ])


@needs_numpy
@needs_toml
@unittest.skipUnless(os.environ.get("TILEWRIGHT_LIB"), "TILEWRIGHT_LIB names no runtime")
class Packs(unittest.TestCase):
    """With a runtime and a driver, which may be a stand-in: plans are chosen and prepared, nothing is launched."""

    def test_plans_take_the_problems(self):
        folder = os.environ["TILEWRIGHT_PACK"]
        runtime = run.Runtime(os.environ["TILEWRIGHT_LIB"])
        runtime.open(folder, 0)
        with open(os.path.join(folder, "manifest.json")) as file:
            manifest = json.load(file)
        networks, _ = data.networks()
        scene, admitted = cloud(400, 14), {}
        scene = scene[scene[:, 0] == 0]

        def prepare(plan, sizes, known):
            problem = run.Problem(sizes)
            admitted.setdefault(plan["id"], 0)
            if runtime.admits(plan["id"], problem) is None:
                op = run.Op(runtime, plan["id"], problem)
                self.assertEqual({t[0] for t in op.tensors} - known, set(), plan["id"])
                op.close()
                admitted[plan["id"]] += 1

        layer = {"coords", "count", "coords_target", "count_target", "coords_out", "count_out", "status", "map", "features", "weight", "bias"}
        layer |= {"bn_scale", "bn_shift", "residual", "features_out"}
        for plan, fields in sparse.plans_of(manifest):
            if plan["op"] == "sparse_network":
                name, _ = sparse.network_class(plan["class"])
                net = networks[name]
                own = {f"{l}.{part}" for l, parts in sparse.weights_of(net, "f16").items() for part in parts}
                levels, maps, _ = net.maps(scene)
                prepare(plan, net.sizes(levels, maps), own | layer)
            else:
                for shape in sparse.CHECKS:
                    prepare(plan, sparse.layer_problem(plan["op"], fields, scene, shape)[-1], layer)
        self.assertEqual([plan for plan, count in admitted.items() if count == 0], [])
        print(f"{len(admitted)} sparse plans, {sum(admitted.values())} preparations")


if __name__ == "__main__":
    unittest.main()
