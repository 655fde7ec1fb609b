"""The inner loops of the generator's layers on the processor, as vector instructions.

A tile is a few neighbouring pixels of a layer's output, and some or all of their channels. Its sums must stay in
registers while weights and inputs pass by, but Numba vectorises only innermost loops. The loops are therefore written
in LLVM's own terms. Their order is fixed: each sum is one chain of multiply-adds, which are fused on every processor
that can. Neither the shape of the tile nor any other image can change that order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .networks import NEGATIVE_SLOPE

_FLOAT, _LANE = ir.FloatType(), ir.IntType(32)


class Tile(NamedTuple):
    """One part of the sums of one tile: places in flat arrays, and numbers."""

    out: int
    """Place of its first output."""
    inputs: int
    """Place of the first input of its first pixel."""
    weights: int
    """Place of its weights (runs, length, channels)."""
    bias: int
    """Place of its biases (channels,)."""
    runs: int
    """Number of runs of consecutive inputs."""
    first: int
    """1 if its sums replace the stored outputs, 0 if they are added to them."""
    last: int
    """1 if the outputs are then complete: biases and LeakyReLU follow."""


def tiles_of(pixels: int, channels: int) -> Callable[..., None]:
    """A function for compiled loops that computes tiles of `pixels` x `channels`.

    For each pixel, s = Σ_run Σ_k x[run, k] w[run, k, :] in this order, from zero. The arguments of the function are

    - `tiles`, `start`, `stop`: rows of `Tile` (T, 7), int64, and the slice of them to compute, in order;
    - `out`, `out_at`, `out_step`: float32, flat; the place to which `Tile.out` is added; the distance of two pixels;
    - `inputs`, `inputs_at`, `inputs_step`: the same of the inputs;
    - `run_step`, `length`: the distance of two runs, and the number of inputs of one run;
    - `numbers`: float32, flat: weights and biases.
    """
    vector = ir.VectorType(_FLOAT, channels)
    zero = ir.Constant(vector, None)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        tiles, start, stop, out, out_at, out_step, inputs, inputs_at, inputs_step, run_step, length, numbers = values
        tiles, out, inputs, numbers = (
            context.make_array(signature.args[place])(context, builder, array).data
            for place, array in ((0, tiles), (3, out), (6, inputs), (11, numbers))
        )

        def index(value: int) -> ir.Constant:
            return ir.Constant(start.type, value)

        def at(array: Any, place: Any) -> Any:
            return builder.bitcast(builder.gep(array, [place]), vector.as_pointer())

        def repeat(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _LANE(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_LANE, channels), None))

        multiply_add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{channels}f32"
        )
        # LLVM keeps these variables in registers.
        sums = [cgutils.alloca_once(builder, vector) for _ in range(pixels)]  # type: ignore[no-untyped-call]
        slope = repeat(ir.Constant(_FLOAT, NEGATIVE_SLOPE))

        with cgutils.for_range_slice(builder, start, stop, index(1)) as (number, _):
            row = builder.mul(number, index(len(Tile._fields)))
            tile = Tile(
                *(
                    builder.load(builder.gep(tiles, [builder.add(row, index(field))]))
                    for field in range(len(Tile._fields))
                )
            )
            for one in sums:
                builder.store(zero, one)
            with cgutils.for_range(builder, tile.runs) as run:
                origin = builder.add(builder.add(inputs_at, tile.inputs), builder.mul(run.index, run_step))
                origins = [builder.add(origin, builder.mul(inputs_step, index(pixel))) for pixel in range(pixels)]
                done = builder.mul(run.index, length)
                with cgutils.for_range(builder, length) as step:
                    place = builder.mul(builder.add(done, step.index), index(channels))
                    weight = builder.load(at(numbers, builder.add(tile.weights, place)), align=4)
                    for one, origin in zip(sums, origins, strict=True):
                        signal = repeat(builder.load(builder.gep(inputs, [builder.add(origin, step.index)])))
                        builder.store(builder.call(multiply_add, [weight, signal, builder.load(one)]), one)
            bias = builder.load(at(numbers, tile.bias), align=4)
            is_first, is_last = (builder.icmp_signed("!=", flag, index(0)) for flag in (tile.first, tile.last))
            for pixel, one in enumerate(sums):
                target = at(out, builder.add(builder.add(out_at, tile.out), builder.mul(out_step, index(pixel))))
                added = builder.fadd(builder.load(target, align=4), builder.load(one))
                part = builder.select(is_first, builder.load(one), added)
                whole = builder.fadd(part, bias)
                positive = builder.fcmp_ordered(">", whole, zero)
                active = builder.select(positive, whole, builder.fmul(whole, slope))
                builder.store(builder.select(is_last, active, part), target, align=4)
        return context.get_dummy_value()

    @intrinsic
    def compute(
        typing: Any, tiles: Any, start: Any, stop: Any, out: Any, out_at: Any, out_step: Any,
        inputs: Any, inputs_at: Any, inputs_step: Any, run_step: Any, length: Any, numbers: Any,
    ) -> Any:  # fmt: skip
        place = types.intp
        arguments = tiles, place, place, out, place, place, inputs, place, place, place, place, numbers
        return types.void(*arguments), generate

    found: Callable[..., None] = compute
    return found
