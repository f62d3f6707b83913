"""Contrast of objects relative to their surroundings."""

import numpy as np
import pytest

from worldmodel.evaluation.object_contrasts import gains, grow, object_contrasts


def scene(*objects, size=(12, 12), ground=100):
    """A gray picture (H, W, 3) and labels (H, W, 2), with objects (rows, columns, class, number, brightness)."""
    picture, labels = np.full((*size, 3), ground, np.uint8), np.zeros((*size, 2), np.uint8)
    for rows, columns, kind, number, brightness in objects:
        picture[rows, columns] = brightness
        labels[rows, columns] = kind, number
    return picture, labels


BALL = (slice(4, 6), slice(4, 6), 2, 7, 202)


def test_contrast_is_the_object_minus_its_ring():
    picture, labels = scene(BALL)
    found = object_contrasts(picture[None], labels)
    assert found.classes.tolist() == [2] and found.sizes.tolist() == [4]
    np.testing.assert_allclose(found.contrasts, np.full((1, 1, 3), 102 / 255), atol=1e-6)


def test_distant_pixels_and_other_objects_do_not_count():
    picture, labels = scene(BALL, (slice(4, 6), slice(6, 8), 1, 9, 255))
    picture[:2], picture[8:] = 0, 0  # three rows away and more
    found = object_contrasts(picture[None], labels)
    at = found.classes.tolist().index(2)
    np.testing.assert_allclose(found.contrasts[at], 102 / 255, atol=1e-6)


def test_an_object_is_alone_if_no_other_touches_it():
    for column, alone in ((6, False), (7, True)):
        picture, labels = scene(BALL, (6, column, 1, 9, 255))
        found = object_contrasts(picture[None], labels)
        assert found.alone.tolist() == [alone, alone]


def test_objects_of_a_frame_are_distinguished_by_their_numbers():
    picture, labels = scene(BALL, (10, 10, 2, 3, 100), (10, 11, 2, 4, 100))
    found = object_contrasts(picture[None], labels)
    assert sorted(zip(found.classes.tolist(), found.sizes.tolist(), strict=True)) == [(2, 1), (2, 1), (2, 4)]


def test_each_picture_has_its_own_ring():
    picture, labels = scene(BALL)
    darker = picture // 2  # object and ground
    contrasts = object_contrasts(np.stack((picture, darker)), labels).contrasts
    share, visible = gains(contrasts)
    assert share[0, 0] == pytest.approx(0.5) and visible.all()


def test_an_object_within_another_has_no_ring_and_is_skipped():
    picture, labels = scene((slice(0, 12), slice(0, 12), 1, 1, 50), (6, 6, 2, 2, 255))
    assert object_contrasts(picture[None], labels).classes.tolist() == []
    assert object_contrasts(picture[None], np.zeros_like(labels)).classes.tolist() == []


def test_gain_is_the_share_of_the_contrast_in_its_own_direction():
    truth = np.array([[0.2, 0.1, 0.0]], np.float32)
    shown = np.stack((truth, truth, truth / 2, 0 * truth, -truth, truth + np.array([[0, 0, 5.0]])), axis=1)
    share, visible = gains(shown.astype(np.float32))
    np.testing.assert_allclose(share, [[1, 0.5, 0, -1, 1]], atol=1e-6)
    assert visible.tolist() == [True]


def test_an_object_that_is_hardly_visible_is_not_counted():
    level = 12 / 255
    contrasts = np.array([[[level] * 3], [[0.98 * level] * 3], [[1.8 * level, 0, 0]]], np.float32)
    assert gains(contrasts)[1].tolist() == [True, False, True]


def test_growing_dilates_by_that_many_pixels_and_stays_in_the_picture():
    mask = np.zeros((2, 7, 9), bool)
    mask[0, 0, 8] = mask[1, 3, 4] = True
    grown = grow(mask, 2)
    assert grown[0].sum() == 9 and grown[0, :3, 6:].all()
    assert grown[1].sum() == 25 and grown[1, 1:6, 2:7].all()
    assert mask.sum() == 2
