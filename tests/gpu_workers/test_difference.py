from __future__ import annotations

import numpy as np
import pytest

from gpu_workers import golden
from gpu_workers.difference import cells, delta_e, lab, orientation_of, psnr


@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [  # Bruce Lindbloom's calculator, sRGB, D65
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], wanted: tuple[float, float, float]) -> None:
    assert lab(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(wanted, abs=0.02)


def test_a_difference_is_where_it_is() -> None:
    one = np.full((80, 160, 3), 128, np.uint8)
    other = one.copy()
    other[70:, 140:] = (20, 200, 20)  # the last cell
    found = cells(delta_e(one, other))
    assert found.shape == (8, 8)
    assert found[-1, -1] > 50
    assert found.sum() == found[-1, -1]
    assert delta_e(one, other).mean() < 2  # which the whole picture hides


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_every_turn_of_the_golden_picture_is_told_apart(quarters: int, mirrored: bool) -> None:
    picture = golden.picture((384, 256))
    turned = np.rot90(picture[:, ::-1] if mirrored else picture, -quarters)
    assert orientation_of(np.ascontiguousarray(turned), picture) == (quarters, mirrored)


def test_noise_is_measured_against_the_peak() -> None:
    one = np.zeros((10, 10), np.uint8)
    assert psnr(one, one, 255) == float("inf")
    assert psnr(one, one + 1, 255) == pytest.approx(48.13, abs=0.01)


def test_the_golden_patches_are_as_many_as_places_and_all_different() -> None:
    assert len(set(golden.PATCHES)) == golden.COLUMNS * golden.ROWS
    assert golden.middles(golden.picture((768, 540)))[:, 0].tolist() == [list(patch) for patch in golden.PATCHES]
