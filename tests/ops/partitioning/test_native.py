"""The C++ launchers against the reference: dtypes, tiles, layouts, threads, instruction sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from equikernels.ops import _native
from equikernels.ops.partitioning import native
from equikernels.ops.partitioning.reference import (
    consistency_reference,
    masked_rotate_reference,
    split_reference,
)
from equikernels.ops.rotation import native as rotation
from equikernels.ops.rotation.reference import compute_dtype
from tests.ops.rotation.samples import DTYPES, compute_epsilon, random_case, value_tolerance

ESTIMATORS = ("ste", "counterfactual")
# Narrow and wide, more and fewer channels than a vector holds, one tile and several, long either way.
SHAPES = (
    (3, 5, 7, 9),
    (2, 1, 9, 6),
    (1, 1, 70, 40),
    (2, 37, 7, 7),
    (1, 4, 70, 68),
    (2, 3, 150, 33),
    (1, 6, 3, 130),
    (1, 6, 130, 3),
    (2, 7, 1, 1),
    (2, 9, 33, 65),
    (9, 12, 2, 3),
)


def case(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    """z, theta, mask, target and gradients of the output and of the two losses."""
    z, theta, grad = random_case(shape, dtype, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    target = (torch.rand(shape, generator=generator, dtype=torch.float64) * 4 - 2).to(dtype)
    mask = (torch.rand(shape[:2], generator=generator) < 0.5).to(theta.dtype)
    mask[0, 0] = 1
    grad_i, grad_v = torch.rand(2, shape[0], generator=generator, dtype=theta.dtype) * 2 - 1
    names = ("z", "theta", "mask", "target", "grad", "grad_i", "grad_v")
    return dict(zip(names, (z, theta, mask, target, grad, grad_i, grad_v), strict=True))


def results(c: dict[str, Tensor], *needs: bool) -> dict[str, Tensor]:
    """All launchers; gradients only where needed."""
    z, theta, mask, target, grad, grad_i, grad_v = c.values()
    found: dict[str, Tensor] = {"turned": native.masked_rotate(z, theta, mask)}
    found |= zip(("out", "loss_i", "loss_v"), native.consistency(z, theta, mask, target), strict=True)
    for name, grads in (
        ("masked_rotate", native.masked_rotate_backward(grad, z, theta, mask, *needs)),
        *(
            (e, native.consistency_backward(grad, grad_i, grad_v, z, theta, mask, target, e, *needs))
            for e in ESTIMATORS
        ),
    ):
        found |= zip((f"{name} d{x}" for x in ("z", "theta", "mask")), grads, strict=True)
    found |= zip(("z_v", "z_i"), native.split(z, mask), strict=True)
    found |= zip(
        ("split dz", "split dmask"),
        native.split_backward(grad, target, z, mask, *(needs[:1] + needs[2:])),
        strict=True,
    )
    return found


def expected(c: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same of the reference, in float64, by autograd."""
    z, theta, mask, target, grad, grad_i, grad_v = (x.double() for x in c.values())
    for x in (z, theta, mask):
        x.requires_grad_()
    out = masked_rotate_reference(z, theta, mask)
    found: dict[str, Tensor] = {"turned": out}
    names = ("z", "theta", "mask")
    grads = torch.autograd.grad(out, (z, theta, mask), grad)
    found |= zip((f"masked_rotate d{x}" for x in names), grads, strict=True)
    for e in ESTIMATORS:
        values = consistency_reference(z, theta, mask, target, e)
        found |= zip(("out", "loss_i", "loss_v"), values, strict=True)
        grads = torch.autograd.grad(values, (z, theta, mask), (grad, grad_i, grad_v))
        found |= zip((f"{e} d{x}" for x in names), grads, strict=True)
    parts = split_reference(z.flatten(2), mask)
    found |= zip(("z_v", "z_i"), (x.view(z.shape) for x in parts), strict=True)
    grads = torch.autograd.grad(parts, (z, mask), (grad.flatten(2), target.flatten(2)))
    found |= zip(("split dz", "split dmask"), grads, strict=True)
    return {name: x.detach() for name, x in found.items()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_in_double_precision(shape: tuple[int, ...]) -> None:
    c = case(shape, torch.float64)
    ours = results(c)
    # Coordinates are good to a few ulp of the extent, values are at most 2, gradients to images 2 + 2 * 4.
    one = 4 * value_tolerance(torch.float64, shape, 10)
    pixels, extent = shape[2] * shape[3], max(shape[2:])
    # A sum has as many terms, products of three such numbers; the angle's have a radius and a slope too.
    per_channel = 20 * one * pixels
    atol = {"loss_i": per_channel * shape[1], "loss_v": per_channel * shape[1]}
    for name, there in expected(c).items():
        kind = name.split()[-1]
        bound = {"dtheta": per_channel * shape[1] * extent, "dmask": per_channel}.get(
            kind, atol.get(name, one)
        )
        torch.testing.assert_close(ours[name], there, rtol=0, atol=bound, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("shape", SHAPES[:6], ids=str)
def test_values_and_gradients_of_shorter_dtypes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    c = case(shape, dtype)
    # At a half turn no pixel of the odd sides falls on the border of a cell, where derivatives jump.
    c["theta"] = torch.linspace(0.3, 2.9, shape[0])
    ours, there = results(c), expected(c)
    one = value_tolerance(dtype, shape, 10)
    pixels = shape[2] * shape[3]
    # Sums are taken in double of terms in float32, of at most 10 * 10 * 10 before they cancel.
    terms = 1000 * 64 * compute_epsilon(dtype) * max(shape[2:]) * pixels
    for name, x in there.items():
        found = ours[name]
        if name.endswith("theta"):
            continue  # cells of float32 and float64 differ; see the agreement with the rotation's own below
        summed = name.startswith("loss") or name.endswith("dmask")
        assert found.dtype == (compute_dtype(dtype) if summed else dtype), name
        bound = terms * (shape[1] if name.startswith("loss") else 1) if summed else 4 * one
        torch.testing.assert_close(found.double(), x, rtol=0, atol=bound, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_turned_as_by_the_rotation_and_copied_bit_for_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    c = case(shape, dtype)
    z, theta, mask, target, grad = (c[x] for x in ("z", "theta", "mask", "target", "grad"))
    varies = mask[:, :, None, None] != 0
    there = torch.where(varies, rotation.apply(z, theta, 0), z)
    assert torch.equal(native.masked_rotate(z, theta, mask), there)
    assert torch.equal(native.consistency(z, theta, mask, target)[0], there)
    z_grad, theta_grad, _ = native.masked_rotate_backward(grad, z, theta, mask)
    assert torch.equal(z_grad, torch.where(varies, rotation.adjoint(grad, theta, 0), grad))
    selected = torch.where(varies, grad, 0)
    angle = rotation.angle_grad(selected, z, theta, 0)
    # Two orders of summation of as many products of a slope (4 at most), a radius and a gradient.
    scale = 4 * 2 * 2 * max(shape[2:]) * z[0].numel()
    torch.testing.assert_close(theta_grad, angle, rtol=0, atol=scale * 8 * compute_epsilon(dtype))
    z_v, z_i = native.split(z, mask)
    assert torch.equal(z_v, torch.where(varies, z, 0))
    assert torch.equal(z_i, torch.where(varies, 0, z))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_every_bit_of_a_copied_channel(dtype: torch.dtype) -> None:
    """NaN with their payloads, infinities, subnormal numbers."""
    integers = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    bits = (torch.arange(2**16, dtype=torch.int64) * 65537 % 2 ** (8 * dtype.itemsize)).to(integers)
    z = bits.view(dtype).view(1, 4, 128, 128)
    mask, theta = torch.zeros(1, 4), torch.zeros(1)
    for copied in (
        native.masked_rotate(z, theta, mask),
        native.consistency(z, theta, mask, z)[0],
        native.masked_rotate_backward(z, z, theta, mask)[0],
        native.split(z, mask)[1],
        native.split_backward(z, z, z, mask)[0],
    ):
        assert torch.equal(copied.view(integers), bits.view(z.shape))


def subsets() -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=3)


@pytest.mark.parametrize("shape", [(3, 6, 7, 9), (1, 3, 70, 68), (2, 1, 9, 6)], ids=str)
def test_subsets_of_the_gradients(shape: tuple[int, ...]) -> None:
    """Each is the same whichever others are asked for, up to the rounding of another order of summation."""
    c = case(shape, torch.float64)
    everything = results(c)
    for needs in subsets():
        for name, x in results(c, *needs).items():
            kind = name.split()[-1]
            if kind.startswith("d") and not needs[("dz", "dtheta", "dmask").index(kind)]:
                assert x.shape == (0,), (needs, name)
            else:
                torch.testing.assert_close(x, everything[name], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(9, 6, 33, 35), (2, 37, 7, 70), (1, 4, 90, 68), (300, 2, 5, 5)], ids=str)
def test_bit_equal_for_every_number_of_threads(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    c = case(shape, dtype)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(c)
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            for name, x in results(c).items():
                assert torch.equal(x, one[name]), (threads, name)
    finally:
        torch.set_num_threads(before)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second column": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "sliced": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "negated lazily": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
}


def assert_same(found: dict[str, Tensor], there: dict[str, Tensor]) -> None:
    for name, x in found.items():
        if name in ("loss_i", "split dmask"):
            # Sums over pixels that are not turned follow the rows of memory, and those depend on the layout:
            # the same terms, at most 10 * 10 each and rounded in float32, in another order.
            bound = 100 * compute_epsilon(x.dtype) * there["out"][0].numel()
            torch.testing.assert_close(x, there[name], rtol=0, atol=bound, msg=lambda m, n=name: f"{n}: {m}")
        else:
            assert torch.equal(x, there[name]), name
        assert x.is_contiguous(), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 9, 9, 14), (2, 1, 11, 8), (1, 6, 90, 70)], ids=str)
def test_layouts(shape: tuple[int, ...], layout: str) -> None:
    c = case(shape, torch.float32)
    expected_results = results(c)
    other = {
        name: LAYOUTS[layout](x) if x.dim() == 4 else x.repeat_interleave(2, 0)[::2] for name, x in c.items()
    }
    other["mask"] = c["mask"].T.contiguous().T
    assert_same(results(other), expected_results)


@pytest.mark.parametrize("shape", [(3, 9, 9, 14), (1, 6, 90, 70)], ids=str)
def test_expanded(shape: tuple[int, ...]) -> None:
    """One mask for all samples, one number for all losses, what sum().backward() sends."""
    c = case(shape, torch.float32)
    expanded = c | {
        "mask": c["mask"][:1].expand(shape[:2]),
        "theta": c["theta"][:1].expand(shape[0]),
        "grad": torch.ones(()).expand(shape),
        "grad_i": torch.ones(()).expand(shape[0]),
        "target": c["target"][:1, :1].expand(shape),
    }
    there = results({name: x.contiguous() for name, x in expanded.items()})
    assert_same(results(expanded), there)


def test_split_of_vectors_and_large_planes() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 5, 1), (2, 3, 70001), (1, 2, 40, 3000), (4, 300, 2)):
        z, grad_v, grad_i = torch.randint(-8, 9, (3, *shape), generator=generator).double()
        mask = (torch.rand(shape[:2], generator=generator) < 0.5).double()
        chosen = mask.view(*shape[:2], *(1,) * (len(shape) - 2)) == 1
        z_v, z_i = native.split(z, mask)
        assert torch.equal(z_v, torch.where(chosen, z, 0))
        assert torch.equal(z_i, torch.where(chosen, 0, z))
        z_grad, mask_grad = native.split_backward(grad_v, grad_i, z, mask)
        assert torch.equal(z_grad, torch.where(chosen, grad_v, grad_i))
        # Sums of small integers are exact.
        assert torch.equal(mask_grad, ((grad_v - grad_i) * z).flatten(2).sum(2))


@pytest.mark.parametrize("shape", [(2, 6, 8, 9), (2, 3, 70, 68)], ids=str)
def test_an_undefined_mask_makes_its_channel_undefined(shape: tuple[int, ...]) -> None:
    c = case(shape, torch.float64)
    plain = results(c)
    c["mask"][1, 2] = torch.nan
    found = results(c)
    for name in (
        "turned",
        "out",
        "z_v",
        "z_i",
        "masked_rotate dz",
        "ste dz",
        "counterfactual dz",
        "split dz",
    ):
        assert found[name][1, 2].isnan().all(), name
        kept = torch.ones(shape[:2], dtype=torch.bool)
        kept[1, 2] = False
        torch.testing.assert_close(found[name][kept], plain[name][kept], rtol=1e-12, atol=1e-12)
    for name in ("loss_i", "loss_v", "masked_rotate dtheta", "ste dtheta", "counterfactual dtheta"):
        assert found[name].isnan().tolist() == [False, True], name
    assert found["ste dmask"].isnan().sum() == 1
    assert found["ste dmask"][1, 2].isnan()


@pytest.mark.parametrize("angle", [torch.nan, torch.inf])
@pytest.mark.parametrize("shape", [(2, 6, 8, 9), (2, 3, 70, 68)], ids=str)
def test_an_undefined_angle_makes_turned_channels_undefined(shape: tuple[int, ...], angle: float) -> None:
    c = case(shape, torch.float32)
    c["theta"][0] = angle
    c["mask"][0] = torch.arange(shape[1]) % 2
    varies = c["mask"][0] != 0
    found = results(c)
    assert torch.equal(found["out"][0].isnan().all(-1).all(-1), varies)
    assert torch.equal(found["out"][0, ~varies], c["z"][0, ~varies])
    for name in ("masked_rotate", *ESTIMATORS):
        assert torch.equal(found[f"{name} dz"][0].isnan().all(-1).all(-1), varies)
        assert found[f"{name} dtheta"][0].isnan()
    assert found["loss_v"][0].isnan()
    assert found["loss_i"].isfinite().all()
    for name, x in found.items():
        assert x[1].isfinite().all(), name
    # Where nothing turns, the angle does not matter.
    c["mask"][0] = 0
    still = results(c)
    assert torch.equal(still["out"][0], c["z"][0])
    assert still["loss_v"][0] == 0
    assert all(still[f"{name} dtheta"][0] == 0 for name in ("masked_rotate", *ESTIMATORS))


def test_what_is_not_selected_is_not_seen() -> None:
    """Infinite channels that are copied do not touch those that are turned, nor the other way round."""
    c = case((2, 8, 9, 10), torch.float64)
    c["mask"][:] = torch.arange(8) % 2
    for value in (torch.inf, torch.nan):
        for which in (0, 1):
            z = c["z"].clone()
            z[:, which::2] = value
            out, loss_i, loss_v = native.consistency(z, c["theta"], c["mask"], c["target"])
            there = native.consistency(c["z"], c["theta"], c["mask"], c["target"])
            assert torch.equal(out[:, 1 - which :: 2], there[0][:, 1 - which :: 2])
            assert torch.equal((loss_v, loss_i)[which], (there[2], there[1])[which])
            z_v, z_i = native.split(z, c["mask"])
            assert (z_v[:, 0::2] == 0).all()
            assert (z_i[:, 1::2] == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    mask = torch.ones(shape[:2])
    z, theta = torch.zeros(shape), torch.zeros(shape[0])
    out, loss_i, loss_v = native.consistency(z, theta, mask, z)
    assert out.shape == shape
    assert not loss_i.any()
    assert not loss_v.any()
    for grads in (
        native.masked_rotate_backward(z, z, theta, mask),
        native.consistency_backward(z, theta, theta, z, theta, mask, z, "ste"),
    ):
        assert [x.shape for x in grads] == [shape, theta.shape, mask.shape]
        assert not any(x.any() for x in grads)


RUN_WITH_ISA = """
import sys
import numpy as np
from equikernels.ops import _native
from tests.ops.partitioning.test_native import SHAPES, case, results
import torch
assert _native.selected_isa() == sys.argv[1], _native.selected_isa()
found = {}
for shape in SHAPES:
    for name, x in results(case(shape, torch.float64)).items():
        found[f"{shape} {name}"] = x.numpy()
np.savez(sys.argv[2], **found)
"""


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_sets(isa: str, tmp_path: Path) -> None:
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    path = tmp_path / "results.npz"
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", RUN_WITH_ISA, isa, str(path)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    there = np.load(path)
    for shape in SHAPES:
        for name, x in results(case(shape, torch.float64)).items():
            scale = 1e-11 * max(1.0, float(x.abs().max()) * max(shape))
            np.testing.assert_allclose(there[f"{shape} {name}"], x.numpy(), rtol=0, atol=scale, err_msg=name)
