"""Mask construction, fusion and label maps: from the network's output and the queries to pixels.

Nothing of [queries × locations] is ever stored. A pass over the stride-4 grid takes every location through
all queries in registers; it is made twice, because which instances are kept is known after the first, and
computing the masks again is faster than reading them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.end_to_end import Labels
from rt_panoptic_core.inference.fused.bilinear import between, mixed
from rt_panoptic_core.inference.fused.boxes import corners, intersection_union
from rt_panoptic_core.inference.query_selection import Detected
from rt_panoptic_core.network.panoptic_head import LEVELNESS_STRIDE, NetworkOutput
from rt_panoptic_core.taxonomy import Taxonomy

_MASKS = 64 * 128
"""Locations times queries of a program: more do not fit into the registers of four warps."""

_LOCATIONS = 64
"""Of the grid in a program, at most."""

_TILE = (8, 64)
"""Pixels of a program that writes labels, (rows, columns)."""


@triton.jit
def _locate(
    offsets, table, levelness, logits, rows,
    dense, probability, highest, semantic,
    all_offsets, height, width, logit_height, logit_width,
    LEVELS: tl.constexpr, CLASSES: tl.constexpr, CLASS_BLOCK: tl.constexpr,
    STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Dense boxes, P_sem of the things and the best class of every location of the grid."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    count = height * width
    real = place < count
    y, x = place // width, place % width
    # The level with the highest levelness; channel 0 is the background.
    most = tl.load(levelness + count + place, mask=real, other=0.0)
    level = tl.zeros([BLOCK], tl.int32)
    for index in tl.static_range(1, LEVELS):
        value = tl.load(levelness + (index + 1) * count + place, mask=real, other=0.0)
        level = tl.where(value > most, index, level)
        most = tl.maximum(most, value)
    start = tl.load(table + 3 * level)
    level_height, level_width = tl.load(table + 3 * level + 1), tl.load(table + 3 * level + 2)
    top, bottom, below = between(y, level_height / height, level_height)
    left, right, aside = between(x, level_width / width, level_width)
    top, bottom = start + top * level_width, start + bottom * level_width
    for side in tl.static_range(4):
        source = offsets + side * all_offsets
        distance = mixed(
            tl.load(source + top + left, mask=real, other=0.0),
            tl.load(source + top + right, mask=real, other=0.0),
            tl.load(source + bottom + left, mask=real, other=0.0),
            tl.load(source + bottom + right, mask=real, other=0.0),
            aside,
            below,
        )
        along = x if side % 2 == 0 else y
        point = (along * STRIDE + STRIDE // 2).to(tl.float32)
        edge = point - distance if side < 2 else point + distance
        tl.store(dense + side * count + place, edge, mask=real)

    class_id = tl.arange(0, CLASS_BLOCK)
    known = class_id < CLASSES
    top, bottom, below = between(y, logit_height / height, logit_height)
    left, right, aside = between(x, logit_width / width, logit_width)
    source = logits + (class_id * (logit_height * logit_width))[None, :]
    valid = real[:, None] & known[None, :]
    value = mixed(
        tl.load(source + (top * logit_width + left)[:, None], mask=valid, other=0.0),
        tl.load(source + (top * logit_width + right)[:, None], mask=valid, other=0.0),
        tl.load(source + (bottom * logit_width + left)[:, None], mask=valid, other=0.0),
        tl.load(source + (bottom * logit_width + right)[:, None], mask=valid, other=0.0),
        aside[:, None],
        below[:, None],
    )
    value = tl.where(known[None, :], value, float("-inf"))
    top_value, best = tl.max(value, axis=1, return_indices=True)
    share = tl.exp(value - top_value[:, None])
    total = tl.sum(share, axis=1)
    tl.store(highest + place, 1.0 / total, mask=real)
    tl.store(semantic + place, best, mask=real)
    row = tl.load(rows + class_id, mask=known, other=-1)
    target = probability + row[None, :] * count + place[:, None]
    tl.store(target, share / total[:, None], mask=valid & (row >= 0)[None, :])


@triton.jit
def _masks(
    dense, probability, boxes, things, scores, thresholds, place, real, count,
    GIOU: tl.constexpr, QUERIES: tl.constexpr, QUERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """M [locations, queries] (eq. 5): 0 of queries that are no instances, below all others of padding."""
    query = tl.arange(0, QUERY_BLOCK)
    is_query = query < QUERIES
    score = tl.load(scores + query, mask=is_query, other=0.0)
    alive = (score > 0.0) & (score >= tl.load(thresholds))
    ax1, ay1, ax2, ay2 = corners(boxes, query[None, :], is_query[None, :])
    bx1 = tl.load(dense + place, mask=real, other=0.0)[:, None]
    by1 = tl.load(dense + count + place, mask=real, other=0.0)[:, None]
    bx2 = tl.load(dense + 2 * count + place, mask=real, other=0.0)[:, None]
    by2 = tl.load(dense + 3 * count + place, mask=real, other=0.0)[:, None]
    shared, union = intersection_union(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2)
    if GIOU:
        wide = tl.maximum(ax2, bx2) - tl.minimum(ax1, bx1)
        high = tl.maximum(ay2, by2) - tl.minimum(ay1, by1)
        enclosing = wide * high + 1e-7
        guarded = union + 1.0
        correlation = ((shared + 1.0) * enclosing + union * guarded) / (guarded * enclosing) - 1.0
    else:
        correlation = shared / tl.maximum(union, 1e-7)
    thing = tl.load(things + query, mask=is_query, other=0).to(tl.int32)
    used = real[:, None] & alive[None, :]
    source = probability + (thing * count)[None, :] + place[:, None]
    mask = tl.where(used, correlation * tl.load(source, mask=used, other=0.0), 0.0)
    return tl.where(is_query[None, :] & real[:, None], mask, -4.0)


@triton.jit
def _winners(masks, sigma, BY_SCORE: tl.constexpr, QUERY_BLOCK: tl.constexpr):
    """(winner, its M) by location."""
    query = tl.arange(0, QUERY_BLOCK)[None, :]
    if BY_SCORE:
        # Queries come by falling score: the first whose mask holds the location has the best.
        first = tl.min(tl.where(masks > sigma, query, QUERY_BLOCK), axis=1)
        winner = tl.where(first == QUERY_BLOCK, 0, first)
        best = tl.sum(tl.where(query == winner[:, None], masks, 0.0), axis=1)
    else:
        best, winner = tl.max(masks, axis=1, return_indices=True)
    return winner, best


@triton.jit
def _count(target, matches, index):
    """Add the number of ``matches`` [locations, n] of each column to ``target`` [n]."""
    number = tl.sum(matches.to(tl.int32), axis=0)
    tl.atomic_add(target + index, number, mask=number > 0, sem="relaxed")


@triton.jit
def _claim(
    dense, probability, boxes, things, scores, thresholds, whole, areas, count,
    GIOU: tl.constexpr, BY_SCORE: tl.constexpr,
    QUERIES: tl.constexpr, QUERY_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Locations in each query's mask, and those of them that it wins."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sigma = tl.load(thresholds + 1)
    masks = _masks(
        dense, probability, boxes, things, scores, thresholds, place, place < count, count,
        GIOU, QUERIES, QUERY_BLOCK,
    )  # fmt: skip
    query = tl.arange(0, QUERY_BLOCK)
    _count(whole, masks > sigma, query)
    winner, best = _winners(masks, sigma, BY_SCORE, QUERY_BLOCK)
    _count(areas, (winner[:, None] == query[None, :]) & (best > sigma)[:, None], query)


@triton.jit
def _assign(
    dense, probability, semantic, boxes, things, scores, thresholds, whole, first_areas,
    winners, bests, areas, stuff, count,
    GIOU: tl.constexpr, BY_SCORE: tl.constexpr, QUERIES: tl.constexpr,
    QUERY_BLOCK: tl.constexpr, CLASS_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Winners among the queries that keep enough of their masks; areas of these and of stuff classes."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = place < count
    sigma, overlap = tl.load(thresholds + 1), tl.load(thresholds + 2)
    query = tl.arange(0, QUERY_BLOCK)
    won = tl.load(first_areas + query).to(tl.float32)
    kept = (won >= overlap * tl.load(whole + query).to(tl.float32)) & (won > 0)
    masks = _masks(
        dense, probability, boxes, things, scores, thresholds, place, real, count,
        GIOU, QUERIES, QUERY_BLOCK,
    )  # fmt: skip
    masks = tl.where(kept[None, :] | (masks < -3.0), masks, 0.0)
    winner, best = _winners(masks, sigma, BY_SCORE, QUERY_BLOCK)
    taken = best > sigma
    tl.store(winners + place, winner, mask=real)
    tl.store(bests + place, best, mask=real)
    _count(areas, (winner[:, None] == query[None, :]) & taken[:, None], query)
    class_id = tl.arange(0, CLASS_BLOCK)
    own = tl.load(semantic + place, mask=real, other=-1)
    free = real & ~taken
    _count(stuff, (own[:, None] == class_id[None, :]) & free[:, None], class_id)


@triton.jit
def _label(
    logits, highest, winners, bests, stuff, rows, things, thing_ids, thresholds,
    semantic, instance, confidence,
    height, width, grid_height, grid_width, logit_height, logit_width, logit_factor,
    QUERIES: tl.constexpr, CLASSES: tl.constexpr, STRIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The three maps at full size."""
    pixel = tl.arange(0, ROWS * COLUMNS)
    y = tl.program_id(1) * ROWS + pixel // COLUMNS
    x = tl.program_id(0) * COLUMNS + pixel % COLUMNS
    real = (y < height) & (x < width)
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    sigma, limit = tl.load(thresholds + 1), tl.load(thresholds + 3)

    scale = 1.0 / logit_factor
    top, bottom, below = between(y, scale, logit_height)
    left, right, aside = between(x, scale, logit_width)
    a, b = logits + top * logit_width + left, logits + top * logit_width + right
    c, d = logits + bottom * logit_width + left, logits + bottom * logit_width + right
    plane = logit_height * logit_width
    most = mixed(tl.load(a), tl.load(b), tl.load(c), tl.load(d), aside, below)
    class_id = tl.zeros([ROWS * COLUMNS], tl.int32)
    for index in range(1, CLASSES):
        a, b, c, d = a + plane, b + plane, c + plane, d + plane
        value = mixed(tl.load(a), tl.load(b), tl.load(c), tl.load(d), aside, below)
        class_id = tl.where(value > most, index, class_id)
        most = tl.maximum(most, value)
    area = tl.load(stuff + class_id) * (STRIDE * STRIDE)
    dropped = (tl.load(rows + class_id) < 0) & (area.to(tl.float32) < limit)
    class_id = tl.where(dropped, 255, class_id)

    top, bottom, below = between(y, 1.0 / STRIDE, grid_height)
    left, right, aside = between(x, 1.0 / STRIDE, grid_width)
    a, b = top * grid_width + left, top * grid_width + right
    c, d = bottom * grid_width + left, bottom * grid_width + right
    of_a, of_b, of_c, of_d = (
        tl.load(bests + a), tl.load(bests + b), tl.load(bests + c), tl.load(bests + d)
    )  # fmt: skip
    inside = mixed(of_a, of_b, of_c, of_d, aside, below) > sigma
    # A pixel's own location holds it if it is taken, else the best of those that it lies between.
    rank_a = tl.where(of_a > sigma, QUERIES - tl.load(winners + a), 0)
    rank_b = tl.where(of_b > sigma, QUERIES - tl.load(winners + b), 0)
    rank_c = tl.where(of_c > sigma, QUERIES - tl.load(winners + c), 0)
    rank_d = tl.where(of_d > sigma, QUERIES - tl.load(winners + d), 0)
    own_left, own_top = x // STRIDE == left, y // STRIDE == top
    own = tl.where(own_top, tl.where(own_left, rank_a, rank_b), tl.where(own_left, rank_c, rank_d))
    around = tl.maximum(tl.maximum(rank_a, rank_b), tl.maximum(rank_c, rank_d))
    row = tl.minimum(QUERIES - tl.where(own > 0, own, around), QUERIES - 1)
    thing = tl.load(thing_ids + tl.load(things + row)).to(tl.int32)

    sure = mixed(
        tl.where(of_a > sigma, tl.minimum(of_a, 1.0), tl.load(highest + a)),
        tl.where(of_b > sigma, tl.minimum(of_b, 1.0), tl.load(highest + b)),
        tl.where(of_c > sigma, tl.minimum(of_c, 1.0), tl.load(highest + c)),
        tl.where(of_d > sigma, tl.minimum(of_d, 1.0), tl.load(highest + d)),
        aside,
        below,
    )
    target = y * width + x
    tl.store(semantic + target, tl.where(inside, thing, class_id).to(tl.uint8), mask=real)
    tl.store(instance + target, tl.where(inside, row + 1, 0).to(tl.uint8), mask=real)
    tl.store(confidence + target, (sure * 255.0 + 0.5).to(tl.uint8), mask=real)


@dataclass(frozen=True)
class LabelSettings:
    """What is fixed when an engine is built.

    Attributes:
        grid, image: (h, w) of the stride-4 grid and of the image.
        config: correlation, order, number of queries.
        levels: int32 [L, 3], start, height and width of every level in the offsets one after the other.
        thing_rows: see :func:`thing_rows`.
        thing_ids: int64 [T].
    """

    grid: tuple[int, int]
    image: tuple[int, int]
    config: InferenceConfig
    levels: Tensor
    thing_rows: Tensor
    thing_ids: Tensor


def thing_rows(taxonomy: Taxonomy) -> Tensor:
    """int32 [C]: index into the taxonomy's ``thing_ids`` of every class, -1 for stuff."""
    rows = torch.full((len(taxonomy),), -1, dtype=torch.int32)
    rows[list(taxonomy.thing_ids)] = torch.arange(len(taxonomy.thing_ids), dtype=torch.int32)
    return rows


def make_labels(
    output: NetworkOutput, queries: Detected, thresholds: Tensor, settings: LabelSettings
) -> Labels:
    """Label maps and areas.

    The same as :func:`~rt_panoptic_core.inference.fusion.construct_instances`,
    :func:`~rt_panoptic_core.inference.fusion.stuff_to_drop` and
    :func:`~rt_panoptic_core.inference.fusion.full_size_labels`, up to rounding. On the current stream of the
    current device, which must be the tensors'; of fixed shapes inside, so that it can be captured.

    Args:
        output: of one image, float32, with levelness.
        queries: by falling score.
        thresholds: float32 [4].
        settings: on the output's device.
    """
    assert output.levelness is not None
    height, width = settings.grid
    count = height * width
    config = settings.config
    boxes, things, scores = (part.contiguous() for part in queries)
    device = boxes.device
    offsets = torch.cat([level.flatten(2) for level in output.box_offsets], dim=2).contiguous()
    logits, levelness = output.semantics.contiguous(), output.levelness.contiguous()
    classes = logits.shape[1]
    logit_size = logits.shape[-2:]
    class_block = triton.next_power_of_2(classes)
    rows = len(boxes)
    query_block = triton.next_power_of_2(rows)

    dense = torch.empty((4, count), device=device)
    probability = torch.empty((len(settings.thing_ids), count), device=device)
    highest = torch.empty(count, device=device)
    best_class = torch.empty(count, dtype=torch.int32, device=device)
    block = max(1, min(_LOCATIONS, 4096 // class_block))
    _locate[(triton.cdiv(count, block),)](
        offsets, settings.levels, levelness, logits, settings.thing_rows,
        dense, probability, highest, best_class,
        offsets.shape[2], height, width, *logit_size,
        LEVELS=len(output.box_offsets), CLASSES=classes, CLASS_BLOCK=class_block,
        STRIDE=LEVELNESS_STRIDE, BLOCK=block,
    )  # fmt: skip

    counters = torch.zeros(3 * query_block + class_block, dtype=torch.int32, device=device)
    whole, first_areas, areas, stuff = counters.split(
        [query_block, query_block, query_block, class_block]
    )
    winners = torch.empty(count, dtype=torch.int32, device=device)
    bests = torch.empty(count, device=device)
    constants = {
        "GIOU": config.correlation == "giou",
        "BY_SCORE": config.fusion_order == "score",
        "QUERIES": rows,
        "QUERY_BLOCK": query_block,
        "BLOCK": min(_LOCATIONS, _MASKS // query_block),
    }
    programs = (triton.cdiv(count, constants["BLOCK"]),)
    _claim[programs](
        dense, probability, boxes, things, scores, thresholds, whole, first_areas, count,
        **constants,
    )  # fmt: skip
    _assign[programs](
        dense, probability, best_class, boxes, things, scores, thresholds, whole, first_areas,
        winners, bests, areas, stuff, count,
        CLASS_BLOCK=class_block, **constants,
    )  # fmt: skip

    image_height, image_width = settings.image
    semantic, instance, confidence = torch.empty(
        (3, 1, image_height, image_width), dtype=torch.uint8, device=device
    ).unbind(0)
    tile_height, tile_width = _TILE
    tiles = triton.cdiv(image_width, tile_width), triton.cdiv(image_height, tile_height)
    _label[tiles](
        logits, highest, winners, bests, stuff, settings.thing_rows, things, settings.thing_ids,
        thresholds, semantic, instance, confidence,
        image_height, image_width, height, width, *logit_size, height * LEVELNESS_STRIDE // logit_size[0],
        QUERIES=rows, CLASSES=classes, STRIDE=LEVELNESS_STRIDE, ROWS=tile_height, COLUMNS=tile_width,
    )  # fmt: skip
    cell = LEVELNESS_STRIDE * LEVELNESS_STRIDE
    return Labels(semantic, instance, confidence, areas[:rows].float() * cell)
