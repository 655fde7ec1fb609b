"""Random worlds: a street, and a furnished room."""

from __future__ import annotations

import numpy as np

from tests.problems.scenes.casting import World
from tests.problems.scenes.scene import Float64

CAR = np.array([2.2, 0.9, 0.7])  # half sizes, m


def street(rng: np.random.Generator, time: float = 0.0) -> World:
    """A street along x with houses, side streets, parked and moving cars, poles and trees. Its road is at z = 0.

    Two calls with equal generators and different times (s) differ only by where the moving cars are.
    """
    boxes, cylinders, crowns = [], [], []
    for side in (-1, 1):
        x = -90.0
        front = rng.uniform(9, 13)
        while x < 90:
            width, depth, height = rng.uniform([7, 8, 5], [20, 14, 16])
            y = front + rng.uniform(0, 2)
            boxes.append([x + width / 2, side * (y + depth / 2), height / 2, width / 2, depth / 2, height / 2, 0])
            for door in rng.uniform(x + 1, x + width - 1, rng.integers(1, 4)):  # porches and balconies
                low = rng.choice([0.0, 3.0, 6.0])
                out = rng.uniform(0.3, 1.2)
                boxes.append([door, side * (y - out / 2), low + 1, rng.uniform(0.5, 1.5), out / 2, rng.uniform(0.6, 1.2), 0])
            x += width + rng.choice([0, 0, 3, 9])
        boxes.append([0, side * (front + 10) - side * 3, 0.07, 100, 10, 0.07, 0])  # the pavement
        for x in rng.uniform(-60, 60, 9):
            boxes.append([x, side * 6.2, 0.8, *CAR, rng.normal(0, 0.03)])
        for x in np.arange(-70, 70, rng.uniform(14, 24)):
            cylinders.append([x + rng.uniform(-2, 2), side * 7.6, rng.uniform(0.06, 0.14), 0, rng.uniform(4, 8)])
        for x in rng.uniform(-60, 60, 8):
            radius, stem = rng.uniform(1.2, 2.6), rng.uniform(2.0, 3.0)
            cylinders.append([x, side * 8.2, rng.uniform(0.12, 0.3), 0, stem + 0.5 * radius])
            crowns.append([x, side * 8.2, stem + radius, radius, rng.uniform(0.4, 1.2)])
        for x in rng.uniform(-40, 40, 3):
            crowns.append([x, side * rng.uniform(9, 10), 0.7, rng.uniform(0.5, 0.8), 0.15])  # bushes
    for side in (-1, 1):
        for x, speed in zip(rng.uniform(-50, 50, 3), rng.uniform(6, 14, 3), strict=True):
            boxes.append([x + side * speed * time, side * 2.4, 0.8, *CAR, 0])
    return World(np.array(boxes), np.array(cylinders), crowns=np.array(crowns), ground=0.0)


def room(rng: np.random.Generator) -> World:
    """A room about the origin, its floor at z = 0, with furniture along its walls and on its floor."""
    length, width, height = rng.uniform([5, 4, 2.4], [7, 5.5, 3])
    boxes = [[0, 0, height / 2, length / 2, width / 2, height / 2, 0]]
    cylinders, spheres = [], []
    for wall in range(4):
        along, across = (length, width) if wall % 2 == 0 else (width, length)
        for place in np.arange(-along / 2 + 0.8, along / 2 - 0.8, 1.5):
            if rng.uniform() < 0.3:
                continue
            half = rng.uniform([0.25, 0.15, 0.2], [0.6, 0.35, 1.0])
            boxes.append(_at_wall(wall, place + rng.uniform(-0.2, 0.2), across / 2 - half[1], half))
            if half[2] < 0.5:  # things on low furniture
                spot = boxes[-1][:2] + rng.uniform(-0.1, 0.1, 2)
                spheres.append([*spot, 2 * half[2] + 0.12, 0.12])
    for _ in range(2):  # tables with four legs
        x, y, yaw = rng.uniform([-length / 4, -width / 5, 0], [length / 4, width / 5, np.pi])
        top = rng.uniform([0.5, 0.3], [0.8, 0.5])
        boxes.append([x, y, 0.73, *top, 0.02, yaw])
        boxes.append([x, y, 0.82, 0.15, 0.1, 0.07, rng.uniform(0, np.pi)])
        c, s = np.cos(yaw), np.sin(yaw)
        for u, v in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            cylinders.append([x + 0.9 * (c * u * top[0] - s * v * top[1]), y + 0.9 * (s * u * top[0] + c * v * top[1]), 0.03, 0, 0.71])
    for _ in range(3):  # stools and lamps
        x, y = rng.uniform([-length / 3, -width / 3], [length / 3, width / 3])
        cylinders.append([x, y, rng.uniform(0.04, 0.2), 0, (high := rng.uniform(0.4, 1.5))])
        spheres.append([x, y, high + 0.15, rng.uniform(0.12, 0.25)])
    return World(np.array(boxes, float), np.array(cylinders), np.array(spheres))


def _at_wall(wall: int, along: float, out: float, half: Float64) -> Float64:
    """A box whose back stands at one of the four walls."""
    spot = {0: (along, out), 1: (out, along), 2: (along, -out), 3: (-out, along)}[wall]
    return np.array([*spot, half[2], *half, np.pi / 2 if wall % 2 else 0.0])
