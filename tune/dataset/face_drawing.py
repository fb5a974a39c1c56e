"""Draws one cartoon face: an expression (what a network shall learn) on a random identity, pose and light.

Knows nothing of data sets. Coordinates of the face: x to the right, y down, the eyes near y = -0.15, the face about
2 wide and 2.5 high.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from trainables.dataset.reader import Pixels

SIZE_PX: Final = 48
_OVERSAMPLING: Final = 3
_SUBPIXEL_BITS: Final = 4
_WEAKEST: Final = 0.4

Points = npt.NDArray[np.float64]

_TURN: Final = np.linspace(0, 2 * np.pi, 33)
_CIRCLE: Final = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_SPAN: Final = np.linspace(-1, 1, 9)
_PARABOLA: Final = np.stack([_SPAN, 1 - _SPAN**2], axis=1)


@dataclass(frozen=True)
class Expression:
    """Where the muscles pull; zero everywhere is the neutral face, one is strong."""

    brow_raise: float = 0.0
    brow_inner_up: float = 0.0
    eye_open: float = 0.0
    mouth_wide: float = 0.0
    mouth_smile: float = 0.0
    mouth_open: float = 0.0
    lip_raise: float = 0.0
    nose_wrinkle: float = 0.0
    cheek_raise: float = 0.0
    teeth: float = 0.0


EXPRESSIONS: Final = {
    "angry": Expression(brow_raise=-0.8, brow_inner_up=-1.1, eye_open=-0.25, mouth_wide=-0.1, mouth_smile=-0.5),
    "disgusted": Expression(
        brow_raise=-0.6, brow_inner_up=-0.3, eye_open=-0.6, mouth_wide=-0.2, mouth_smile=-0.6, lip_raise=1.0,
        nose_wrinkle=1.0, cheek_raise=0.4, mouth_open=0.25,
    ),
    "fearful": Expression(
        brow_raise=0.7, brow_inner_up=0.8, eye_open=0.8, mouth_wide=0.5, mouth_smile=-0.3, mouth_open=0.5, teeth=1.0
    ),
    "happy": Expression(
        eye_open=-0.35, mouth_wide=0.7, mouth_smile=1.1, mouth_open=0.4, cheek_raise=1.0, teeth=0.8
    ),
    "neutral": Expression(),
    "sad": Expression(brow_raise=0.1, brow_inner_up=1.0, eye_open=-0.35, mouth_wide=-0.3, mouth_smile=-0.9),
    "surprised": Expression(brow_raise=1.1, brow_inner_up=0.1, eye_open=0.8, mouth_wide=-0.6, mouth_open=1.2),
}  # fmt: skip


def draw_face(expression: str, random: np.random.Generator) -> Pixels:
    """Draws a face.

    Args:
        expression: a key of `EXPRESSIONS`.
        random: decides identity, pose, light, noise and how strong the expression is.

    Returns:
        uint8, (48, 48, 1), 0-255.
    """
    side = SIZE_PX * _OVERSAMPLING
    pen = _Pen(_background(side, random), _pose(side, random))
    _Head(pen, random).draw(_weakened(EXPRESSIONS[expression], random))
    return _photograph(pen.canvas, random)


class _Pen:
    """Draws filled shapes and lines, given in the face's coordinates, on a canvas."""

    def __init__(self, canvas: npt.NDArray[np.uint8], pose: npt.NDArray[np.float64]) -> None:
        self.canvas = canvas
        self._pose = pose
        self._scale = float(np.sqrt(abs(np.linalg.det(pose[:, :2]))))

    def fill(self, points: Points, shade: float) -> None:
        cv2.fillPoly(self.canvas, [self._place(points)], float(np.clip(shade, 0, 255)), cv2.LINE_AA, _SUBPIXEL_BITS)

    def line(self, points: Points, shade: float, width: float) -> None:
        thickness = max(1, round(width * self._scale))
        colour = float(np.clip(shade, 0, 255))
        cv2.polylines(self.canvas, [self._place(points)], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _place(self, points: Points) -> npt.NDArray[np.int32]:
        placed = points @ self._pose[:, :2].T + self._pose[:, 2]
        return np.round(placed * (1 << _SUBPIXEL_BITS)).astype(np.int32)


class _Head:
    """One person: proportions and shades are drawn at random, then any expression can be put on."""

    def __init__(self, pen: _Pen, random: np.random.Generator) -> None:
        self._pen = pen
        self._random = random
        self._skin = random.uniform(110, 225)
        self._dark = self._skin * random.uniform(0.15, 0.5)
        self._hair = random.uniform(15, 190)
        self._height = random.uniform(1.15, 1.45)
        self._jaw = random.uniform(0.0, 0.35)
        self._turn = random.uniform(-0.14, 0.14)
        self._eye_gap = random.uniform(0.37, 0.47)
        self._eye_y = random.uniform(-0.22, -0.08)
        self._eye_size = random.uniform(0.8, 1.2)
        self._brow_width = random.uniform(0.06, 0.13)
        self._nose_length = random.uniform(0.3, 0.45)
        self._mouth_y = random.uniform(0.56, 0.7)
        self._mouth_width = random.uniform(0.34, 0.46)

    def draw(self, face: Expression) -> None:
        self._skull()
        for side in (-1, 1):
            self._eye(face, side)
            self._brow(face, side)
        self._nose(face)
        self._cheeks(face)
        self._mouth(face)
        if self._random.random() < 0.12:
            self._glasses()

    def _skull(self) -> None:
        random = self._random
        long_hair = random.random() < 0.4
        if long_hair:
            self._pen.fill(_ellipse(0, -0.1, 1.22, self._height * random.uniform(1.05, 1.25)), self._hair)
        self._pen.fill(np.array([[-0.4, 0.7], [0.4, 0.7], [0.5, 2.4], [-0.5, 2.4]]), self._skin * 0.8)
        for side in (-1, 1):
            self._pen.fill(_ellipse(side * 1.0, -0.02, 0.14, 0.26), self._skin * 0.85)
        outline = _ellipse(0, 0, 1.0, self._height)
        low = np.clip(outline[:, 1] / self._height, 0, 1)
        outline[:, 0] *= 1 - self._jaw * low**2
        self._pen.fill(outline, self._skin)
        self._pen.line(outline, self._skin * 0.7, 0.03)
        if random.random() < 0.85:
            fringe = random.uniform(-0.85, -0.6) * self._height
            top = _ellipse(0, -0.05, 1.04, self._height * 1.06)
            cap = top[top[:, 1] < fringe]
            cap = cap[np.argsort(cap[:, 0])]
            x = np.linspace(cap[-1, 0], cap[0, 0], 9)
            edge = np.stack([x, fringe + random.uniform(-0.2, 0.2) * x - 0.12 * (cap[-1, 0] ** 2 - x**2)], axis=1)
            self._pen.fill(np.concatenate([cap, edge]), self._hair)
        if random.random() < 0.15:
            beard = outline[outline[:, 1] > 0.35 * self._height]
            self._pen.fill(beard, 0.55 * self._skin + 0.45 * self._hair)

    def _eye(self, face: Expression, side: int) -> None:
        x, y = side * self._eye_gap + self._turn, self._eye_y
        width, height = 0.2 * self._eye_size, 0.115 * self._eye_size * max(0.12, 1 + face.eye_open)
        white = _ellipse(x, y, width, height)
        self._pen.fill(white, min(250.0, self._skin * 1.25 + 15))
        iris = _ellipse(self._turn * 0.5, 0, 0.095, 0.11)
        reach = height * np.sqrt(np.clip(1 - (iris[:, 0] / width) ** 2, 0, 1))
        iris[:, 1] = np.clip(iris[:, 1], -reach, reach)
        self._pen.fill(iris + [x, y], self._dark * 0.5)
        self._pen.line(white[white[:, 1] <= y + 1e-9], self._dark, 0.045)
        if face.cheek_raise > 0.2:
            bag = _arc(x, y + 0.14 + height, width, -0.03 * face.cheek_raise)
            self._pen.line(bag, self._skin * 0.75, 0.03)

    def _brow(self, face: Expression, side: int) -> None:
        x = np.linspace(0.17, 0.72, 7) * self._eye_gap / 0.42
        inward = np.linspace(1, -1, 7)
        y = self._eye_y - 0.27 - 0.13 * face.brow_raise - 0.11 * face.brow_inner_up * inward
        y -= 0.04 * (1 - inward**2) * (1 + max(0.0, face.brow_raise))
        x = x - 0.03 * max(0.0, -face.brow_inner_up) * (inward + 1)
        brow = np.stack([side * x + self._turn, y], axis=1)
        self._pen.line(brow, min(self._hair, self._skin * 0.55), self._brow_width)
        if face.brow_inner_up < -0.4:
            crease = np.array(
                [[0.06 * side + self._turn, self._eye_y - 0.3], [0.05 * side + self._turn, self._eye_y - 0.12]]
            )
            self._pen.line(crease, self._skin * 0.65, 0.03)

    def _nose(self, face: Expression) -> None:
        turn, tip = self._turn * 1.5, self._eye_y + self._nose_length + 0.1 - 0.05 * face.nose_wrinkle
        bridge = np.array([[turn * 0.7, self._eye_y + 0.05], [turn + 0.1, tip - 0.03], [turn, tip]])
        self._pen.line(bridge, self._skin * 0.75, 0.035)
        width = 0.13 + 0.05 * face.nose_wrinkle
        self._pen.line(_arc(turn, tip, width, 0.05), self._skin * 0.6, 0.045)
        if face.nose_wrinkle > 0.2:
            for side in (-1, 1):
                for step in (0.0, 0.09):
                    fold = np.array([[0.05, 0.03 + step], [0.17, 0.1 + step]]) * [side, 1] + [turn, self._eye_y]
                    self._pen.line(fold, self._skin * 0.65, 0.03)

    def _cheeks(self, face: Expression) -> None:
        strength = max(face.cheek_raise, face.nose_wrinkle)
        if strength > 0.2:
            for side in (-1, 1):
                fold = np.array([[0.2, 0.3], [0.36, 0.42], [0.46 + 0.08 * face.cheek_raise, self._mouth_y]])
                self._pen.line(fold * [side, 1] + [self._turn, 0], self._skin * (0.9 - 0.2 * strength), 0.035)

    def _mouth(self, face: Expression) -> None:
        t = np.linspace(-1, 1, 15)
        bulge = 1 - t**2
        x = self._turn * 1.2 + t * self._mouth_width * (1 + 0.45 * face.mouth_wide)
        middle = self._mouth_y + 0.2 * face.mouth_smile * (0.5 - t**2)
        upper = middle - bulge * (0.12 * max(0.0, face.mouth_open) + 0.1 * face.lip_raise)
        lower = middle + bulge * 0.27 * max(0.0, face.mouth_open)
        gap = float((lower - upper).max())
        ring = np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
        if gap > 0.05:
            self._pen.fill(ring, self._dark * 0.4)
            if face.teeth > 0.35:
                teeth = np.concatenate([np.stack([x, upper], 1), np.stack([x, upper + 0.5 * (lower - upper)], 1)[::-1]])
                self._pen.fill(teeth, 235)
            self._pen.line(np.concatenate([ring, ring[:1]]), self._skin * 0.55, 0.06)
        else:
            self._pen.line(np.stack([x, (upper + lower) / 2], 1), self._dark * 0.8, 0.07)
            self._pen.line(_arc(self._turn * 1.2, self._mouth_y + 0.16, 0.15, 0.03), self._skin * 0.8, 0.04)

    def _glasses(self) -> None:
        for side in (-1, 1):
            rim = _ellipse(side * self._eye_gap + self._turn, self._eye_y + 0.02, 0.3, 0.24)
            self._pen.line(rim, self._dark * 0.6, 0.045)
        self._pen.line(_arc(self._turn, self._eye_y, self._eye_gap - 0.3, -0.03), self._dark * 0.6, 0.045)


def _weakened(expression: Expression, random: np.random.Generator) -> Expression:
    """The expression at a random strength, every pull with its own jitter."""
    strength = random.uniform(_WEAKEST, 1.1)
    pulls = {f.name: getattr(expression, f.name) for f in fields(Expression)}
    return Expression(**{name: strength * pull + random.normal(0, 0.12) for name, pull in pulls.items()})


def _pose(side: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Affine map (2, 3) from the face's coordinates to the canvas: size, tilt, stretch and position."""
    tilt = np.radians(random.normal(0, 8))
    size = side * random.uniform(0.27, 0.37)
    stretch = random.uniform(0.92, 1.08)
    rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    centre = side * (np.array([0.5, 0.51]) + random.uniform(-0.08, 0.08, 2))
    return np.column_stack([rotation @ np.diag([size * stretch, size / stretch]), centre])


def _background(side: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A blurred pattern of a few shades, (side, side)."""
    coarse = np.clip(random.uniform(30, 220) + random.normal(0, 30, (4, 4)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _photograph(canvas: npt.NDArray[np.uint8], random: np.random.Generator) -> Pixels:
    """Takes the picture: focus, light from a side, contrast, brightness and noise; (48, 48, 1)."""
    small = cv2.resize(canvas, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), random.uniform(0.2, 0.8))
    angle, fall = random.uniform(0, 2 * np.pi), random.uniform(0, 0.45)
    ramp = np.linspace(-1, 1, SIZE_PX)
    light = 1 + fall * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    contrast, brightness = random.uniform(0.55, 1.1), random.normal(0, 18)
    picture = (small * light - 128) * contrast + 128 + brightness
    picture += random.normal(0, random.uniform(2, 12), picture.shape)
    return np.asarray(np.clip(np.round(picture), 0, 255), np.uint8)[..., None]


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> Points:
    return _CIRCLE * (half_width, half_height) + (x, y)


def _arc(x: float, y: float, half_width: float, sag: float) -> Points:
    return _PARABOLA * (half_width, sag) + (x, y)
