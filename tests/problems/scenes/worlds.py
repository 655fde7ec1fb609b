"""Random worlds: a street, and a furnished room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.problems.scenes.casting import World
from tests.problems.scenes.scene import Float64

Row = Sequence[float] | Float64  # one of the rows that World describes

CAR = np.array([2.2, 0.9, 0.7])  # half sizes, m


def street(rng: np.random.Generator, time: float = 0.0) -> World:
    """A street along x with houses, side streets, parked and moving cars, poles and trees. Its road is at z = 0.

    Two calls with equal generators and different times (s) differ only by where the moving cars are.
    """
    boxes: list[Row] = []
    cylinders: list[Row] = []
    crowns: list[Row] = []
    for side in (-1, 1):
        front = rng.uniform(9, 13)
        boxes += _houses(side, front, rng)
        boxes.append([0, side * (front + 7), 0.07, 100, 10, 0.07, 0])  # the pavement
        boxes += [[x, side * 6.2, 0.8, *CAR, rng.normal(0, 0.03)] for x in rng.uniform(-60, 60, 9)]
        cylinders += [
            [x + rng.uniform(-2, 2), side * 7.6, rng.uniform(0.06, 0.14), 0, rng.uniform(4, 8)]
            for x in np.arange(-70, 70, rng.uniform(14, 24))
        ]
        for x in rng.uniform(-60, 60, 8):  # trees
            radius, stem = rng.uniform(1.2, 2.6), rng.uniform(2.0, 3.0)
            cylinders.append([x, side * 8.2, rng.uniform(0.12, 0.3), 0, stem + 0.5 * radius])
            crowns.append([x, side * 8.2, stem + radius, radius, rng.uniform(0.4, 1.2)])
        crowns += [  # bushes
            [x, side * rng.uniform(9, 10), 0.7, rng.uniform(0.5, 0.8), 0.15] for x in rng.uniform(-40, 40, 3)
        ]
        speeds = side * rng.uniform(6, 14, 3)
        boxes += [[x, side * 2.4, 0.8, *CAR, 0] for x in rng.uniform(-50, 50, 3) + speeds * time]
    return World(np.array(boxes), np.array(cylinders), crowns=np.array(crowns), ground=0.0)


def _houses(side: int, front: float, rng: np.random.Generator) -> list[Row]:
    boxes: list[Row] = []
    x = -90.0
    while x < 90:
        width, depth, height = rng.uniform([7, 8, 5], [20, 14, 16])
        y = front + rng.uniform(0, 2)
        boxes.append([x + width / 2, side * (y + depth / 2), height / 2, width / 2, depth / 2, height / 2, 0])
        for middle in rng.uniform(x + 1, x + width - 1, rng.integers(1, 4)):  # porches and balconies
            low, out, half = rng.choice([0.0, 3.0, 6.0]), rng.uniform(0.3, 1.2), rng.uniform([0.5, 0.6], [1.5, 1.2])
            boxes.append([middle, side * (y - out / 2), low + 1, half[0], out / 2, half[1], 0])
        x += width + rng.choice([0, 0, 3, 9])
    return boxes


def room(rng: np.random.Generator) -> World:
    """A room about the origin, its floor at z = 0, with furniture along its walls and on its floor."""
    length, width, height = rng.uniform([5, 4, 2.4], [7, 5.5, 3])
    boxes: list[Row] = [[0, 0, height / 2, length / 2, width / 2, height / 2, 0]]
    cylinders: list[Row] = []
    spheres: list[Row] = []
    for wall in range(4):
        along, across = (length, width) if wall % 2 == 0 else (width, length)
        for place in np.arange(-along / 2 + 0.8, along / 2 - 0.8, 1.5):
            if rng.uniform() < 0.3:
                continue
            half = rng.uniform([0.25, 0.15, 0.2], [0.6, 0.35, 1.0])
            box = _at_wall(wall, place + rng.uniform(-0.2, 0.2), across / 2 - half[1], half)
            boxes.append(box)
            if half[2] < 0.5:  # things on low furniture
                x, y = box[:2] + rng.uniform(-0.1, 0.1, 2)
                spheres.append([x, y, 2 * half[2] + 0.12, 0.12])
    for _ in range(2):  # tables with four legs, and a box on each
        x, y, yaw = rng.uniform([-length / 4, -width / 5, 0], [length / 4, width / 5, np.pi])
        top = rng.uniform([0.5, 0.3], [0.8, 0.5])
        boxes += [[x, y, 0.73, *top, 0.02, yaw], [x, y, 0.82, 0.15, 0.1, 0.07, rng.uniform(0, np.pi)]]
        turned = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        legs = 0.9 * top * [[-1, -1], [-1, 1], [1, -1], [1, 1]] @ turned.T + [x, y]
        cylinders += [[*leg, 0.03, 0, 0.71] for leg in legs]
    for _ in range(3):  # stools and lamps
        x, y = rng.uniform([-length / 3, -width / 3], [length / 3, width / 3])
        high = rng.uniform(0.4, 1.5)
        cylinders.append([x, y, rng.uniform(0.04, 0.2), 0, high])
        spheres.append([x, y, high + 0.15, rng.uniform(0.12, 0.25)])
    return World(np.array(boxes), np.array(cylinders), np.array(spheres))


def _at_wall(wall: int, along: float, out: float, half: Float64) -> Float64:
    """A box whose back stands at one of the four walls."""
    spot = {0: (along, out), 1: (out, along), 2: (along, -out), 3: (-out, along)}[wall]
    return np.array([*spot, half[2], *half, np.pi / 2 if wall % 2 else 0.0])
