"""What sparse convolutions are measured against: gather, GEMM and scatter with torch's own operations, spconv-triton and spconv.

spconv-triton (PyPI `spconv-triton`, pure Python) and spconv (PyPI `spconv-cu126` with `cumm-cu126`) are taken from Python's path or
from the folder of `--peers`. What is missing or does not load is one line of the report. Both have the same interface; voxels are moved
to where their smallest coordinate is 0, as they need it. Batch norms are folded into weights and bias, as one would for inference.

Each gives two functions: maps made in every run, and maps made once. The libraries reuse maps of submanifold layers only, so that a
network's strided maps are made in every run of the second too.
"""

import importlib
import os
import sys

import run
import sparse_data


class Peers:
    """The peers that are there."""

    LIBRARIES = {"spconv-triton": "spconv_triton.pytorch", "spconv": "spconv.pytorch"}

    def __init__(self, folder=None):
        self.libraries, self.why = {}, {}
        if folder:
            sys.path.insert(0, os.path.abspath(folder))
        for name, module in self.LIBRARIES.items():
            try:
                self.libraries[name] = importlib.import_module(module)
            except Exception as error:  # a wheel for another torch or CUDA fails in many ways
                self.why[name] = run.first_line(error)

    def of(self, network, coords, features, weights):
        """({name: function}, {name: why not}) for a network; functions take a set's index and give features."""
        makers = {"torch": lambda: TorchNetwork(network, coords, features, weights)}
        for name, library in self.libraries.items():
            makers[name] = lambda library=library: LibraryNetwork(library, network, coords, features, weights)
        made, why = {}, {}
        for name, maker in makers.items():
            for maps in ("maps made", "maps kept"):
                try:
                    peer = maker()
                    function = peer.charged if maps == "maps made" else peer.kept
                    function(0)
                    made[f"{name}, {maps}"] = function
                except Exception as error:  # an unsupported layer, a compiler that is missing
                    import torch

                    if isinstance(error, torch.cuda.OutOfMemoryError):
                        torch.cuda.empty_cache()
                    why[f"{name}, {maps}"] = run.first_line(error)
        return made, why


class TorchKeys:
    """Rows of coordinates by key, on the GPU."""

    def __init__(self, coords):
        import torch

        self.low = coords.amin(0) - 8
        self.span = coords.amax(0) + 9 - self.low
        self.sorted, self.order = torch.sort(self.of(coords)[0])

    def of(self, coords):
        at = coords - self.low
        inside = ((at >= 0) & (at < self.span)).all(-1)
        key = at[..., 0]
        for axis in (1, 2, 3):
            key = key * self.span[axis] + at[..., axis]
        return key, inside

    def find(self, coords):
        import torch

        key, inside = self.of(coords)
        at = torch.searchsorted(self.sorted, key).clamp_(max=len(self.sorted) - 1)
        return torch.where(inside & (self.sorted[at] == key), self.order[at], -1)


def torch_outputs(g, coords):
    """Voxels of a strided layer, in any order."""
    import torch

    stride, padding, dilation = (torch.tensor(v, device=coords.device) for v in (g.stride, g.padding, g.dilation))
    found = []
    for o in torch.from_numpy(g.offsets()).to(coords.device):
        scaled = coords[:, 1:] + padding - dilation * o
        whole = (scaled % stride == 0).all(-1)
        found.append(torch.cat([coords[whole, :1], torch.div(scaled[whole], stride, rounding_mode="floor")], 1))
    return torch.unique(torch.cat(found), dim=0)


def torch_pairs(g, fine, coarse):
    """(fine rows, coarse rows) of each tap."""
    import torch

    keys = TorchKeys(fine)
    stride, padding, dilation = (torch.tensor(v, device=fine.device) for v in (g.stride, g.padding, g.dilation))
    list_of = []
    for o in torch.from_numpy(g.offsets()).to(fine.device):
        rows = keys.find(torch.cat([coarse[:, :1], coarse[:, 1:] * stride - padding + dilation * o], 1))
        there = (rows >= 0).nonzero().flatten()
        list_of.append((rows[there], there))
    return list_of


class TorchNetwork:
    """Gather, GEMM, scatter: three operations a tap."""

    def __init__(self, network, coords, features, weights):
        import torch

        self.network, self.features, self.weights = network, features, weights
        self.coords = [torch.from_numpy(c).to(features[0].device) for c in coords]
        self.maps = {}

    def build(self, coords):
        levels, pairs = [coords], []
        for mode, g, fine, coarse in self.network.groups:
            if coarse != fine:
                levels.append(torch_outputs(g, levels[fine]))
            pairs.append(torch_pairs(g, levels[fine], levels[coarse]))
        return [len(level) for level in levels], pairs

    def charged(self, index):
        return self.forward(index, *self.build(self.coords[index]))

    def kept(self, index):
        if index not in self.maps:
            self.maps[index] = self.build(self.coords[index])
        return self.forward(index, *self.maps[index])

    def forward(self, index, rows, pairs):
        import torch

        given = []
        feed = lambda at: self.features[index] if at < 0 else given[at]
        for layer in self.network.layers:
            x = feed(layer.first)
            if layer.second is not None:
                given.append(torch.cat([x, feed(layer.second)], 1))
                continue
            weight, bias = self.weights[layer.name]
            sums = torch.zeros(rows[layer.level], layer.cout, device=x.device, dtype=torch.float32)
            for tap, (fine, coarse) in enumerate(pairs[layer.group]):
                source, target = (coarse, fine) if layer.up else (fine, coarse)
                sums.index_add_(0, target, (x[source] @ weight[tap]).float())
            sums += bias
            if layer.residual is not None:
                sums += feed(layer.residual)
            given.append(activated(sums, layer.act).to(x.dtype))
        return given[-1]


def activated(x, act):
    import torch.nn.functional as F

    return {"none": lambda v: v, "relu": F.relu, "silu": F.silu, "gelu": lambda v: F.gelu(v, approximate="tanh")}[act](x)


class LibraryNetwork:
    """A network of modules of a library with spconv's interface."""

    def __init__(self, library, network, coords, features, weights):
        import torch

        self.library, self.network, self.features = library, network, features
        self.indices, self.shapes, self.saved, self.layers = [], [], {}, []
        for c in coords:
            moved = c.copy()
            moved[:, 1:] -= moved[:, 1:].min(0)
            self.indices.append(torch.from_numpy(moved.astype("int32")).to(features[0].device))
            self.shapes.append([int(v) + 1 for v in moved[:, 1:].max(0)])
        for layer in network.layers:
            self.layers.append(None if layer.second is not None else self.module(layer, weights[layer.name]))

    def module(self, layer, weights):
        import torch

        mode, g, *_ = self.network.groups[layer.group]
        key, lists = f"group{layer.group}", [list(v) for v in (g.kernel, g.stride, g.padding, g.dilation)]
        kernel, stride, padding, dilation = lists
        if layer.up:
            module = self.library.SparseInverseConv3d(layer.cin, layer.cout, kernel, indice_key=key, bias=True)
        elif mode == "submanifold":
            module = self.library.SubMConv3d(layer.cin, layer.cout, kernel, padding=padding, dilation=dilation, bias=True, indice_key=key)
        else:
            module = self.library.SparseConv3d(layer.cin, layer.cout, kernel, stride, padding, dilation, bias=True, indice_key=key)
        weight, bias = weights
        module = module.to(weight.device, weight.dtype).eval()
        # [taps, cin, cout] to [cout, kx, ky, kz, cin].
        with torch.no_grad():
            module.weight.copy_(weight.permute(2, 0, 1).reshape(module.weight.shape))
            module.bias.copy_(bias)
        return module

    def charged(self, index):
        return self.forward(index, {})[0]

    def kept(self, index):
        if index not in self.saved:
            made = self.forward(index, {})[1]
            self.saved[index] = {key: data for key, data in made.items() if getattr(data, "is_subm", False)}
        return self.forward(index, dict(self.saved[index]))[0]

    def forward(self, index, known):
        import torch

        with torch.no_grad():
            shape = self.shapes[index]
            batch = int(self.indices[index][:, 0].max()) + 1 if not hasattr(self, "batch") else self.batch
            self.batch = batch  # asked once: the answer comes from the GPU
            start = self.library.SparseConvTensor(self.features[index], self.indices[index], shape, batch, indice_dict=known)
            given = []
            feed = lambda at: start if at < 0 else given[at]
            for layer, module in zip(self.network.layers, self.layers):
                x = feed(layer.first)
                if layer.second is not None:
                    given.append(x.replace_feature(torch.cat([x.features, feed(layer.second).features], 1)))
                    continue
                y = module(x)
                values = y.features if layer.residual is None else y.features + feed(layer.residual).features
                given.append(y.replace_feature(activated(values, layer.act)))
            return given[-1].features, given[-1].indice_dict


def one_layer(mode, g, cin, cout):
    """A network of one convolution with batch norm and relu."""
    network = sparse_data.Network.__new__(sparse_data.Network)
    network.name, network.channels, network.layers, network.levels, network.groups, network.names = "layer", cin, [], [None], [], {"input": -1}
    group = network.group_of(mode, g, 0)
    network.add(sparse_data.Layer("conv", -1, network.groups[group][3], cin, cout, group=group, act="relu"))
    return network
