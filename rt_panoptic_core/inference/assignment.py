"""Optimal one-to-one assignment from a sparse list of possible pairs."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence


def best_pairs(
    rows: Sequence[int], columns: Sequence[int], gains: Sequence[float]
) -> dict[int, int]:
    """Column by row of the one-to-one pairs whose gains have the largest sum.

    Shortest augmenting paths over reduced costs (Jonker and Volgenant, 1987) on the possible pairs alone:
    where few compete for the same columns this takes time in proportion to their number. Rows and columns
    may stay alone. The same input always gives the same pairs.

    Args:
        rows: row of each possible pair, from 0; a pair occurs once.
        columns: column of each, from 0.
        gains: of each, above 0.
    """
    if not rows:
        return {}
    most = max(gains)
    edges: dict[int, list[tuple[int, float]]] = {}
    for row, column, gain in zip(rows, columns, gains, strict=True):
        edges.setdefault(row, []).append((column, most - gain))
    # To stay alone is a column of the row's own, with no gain: then every row has a place.
    alone = itertools.count(max(columns) + 1)
    for pairs in edges.values():
        pairs.append((next(alone), most))
    row_price = dict.fromkeys(edges, 0.0)
    column_price: dict[int, float] = {}
    row_of: dict[int, int] = {}
    column_of: dict[int, int] = {}
    for start in edges:
        distance: dict[int, float] = {}
        came_from: dict[int, int] = {}
        settled: set[int] = set()
        heap: list[tuple[float, int]] = []
        row, walked = start, 0.0
        while True:
            base = walked - row_price[row]
            for column, cost in edges[row]:
                # Rounding can make a way back look shorter by a hair; it would close a circle.
                if column in settled:
                    continue
                length = base + cost - column_price.get(column, 0.0)
                if column not in distance or length < distance[column]:
                    distance[column] = length
                    came_from[column] = row
                    heapq.heappush(heap, (length, column))
            while True:
                walked, end = heapq.heappop(heap)
                if walked == distance[end] and end not in settled:
                    break
            if end not in row_of:
                break
            settled.add(end)
            row = row_of[end]
        row_price[start] += walked
        for column in settled:
            slack = walked - distance[column]
            row_price[row_of[column]] += slack
            column_price[column] = column_price.get(column, 0.0) - slack
        while True:
            row = came_from[end]
            row_of[end] = row
            column_of[row], end = end, column_of.get(row, -1)
            if row == start:
                break
    last = max(columns)
    return {row: column for row, column in column_of.items() if column <= last}
