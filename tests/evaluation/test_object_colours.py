"""Classifying pixels by colours of objects."""

import numpy as np

from worldmodel.evaluation.object_colours import ObjectColours

WALL, RED, BLUE = (90, 80, 70), (250, 10, 10), (10, 10, 250)


def pictures(*rows):
    return np.array(rows, np.uint8)[None]  # (1, H, W, 3)


SEEN = pictures([WALL, WALL, RED, RED], [WALL, BLUE, BLUE, RED])
CLASSES = np.array([[[0, 0, 1, 1], [0, 2, 2, 0]]], np.uint8)  # a third of the red pixels belong to no object


def test_a_colour_is_assigned_to_its_most_frequent_class():
    colours = ObjectColours(SEEN, CLASSES, 2)
    assert colours.classes(SEEN).tolist() == [[[0, 0, 1, 1], [0, 2, 2, 1]]]
    near = pictures([(92, 82, 72), (253, 12, 12), (9, 9, 249), (0, 255, 0)])
    assert colours.classes(near).tolist() == [[[0, 1, 2, 0]]]  # the last one was never seen


def test_shares_are_of_each_picture():
    colours = ObjectColours(SEEN, CLASSES, 3)
    both = np.stack([SEEN, np.broadcast_to(np.array(RED, np.uint8), SEEN.shape)])
    np.testing.assert_array_equal(colours.shares(both), [[[3 / 8, 2 / 8, 0]], [[1, 0, 0]]])


def test_agreement_measures_how_reliable_the_colours_are():
    found = ObjectColours(SEEN, CLASSES, 3).agreement(SEEN, CLASSES)
    assert found[1] == {"labelled": 2, "precision": 2 / 3, "recall": 1.0}
    assert found[2] == {"labelled": 2, "precision": 1.0, "recall": 1.0}
    assert found[3] == {"labelled": 0, "precision": None, "recall": None}


def test_gray_pictures_have_levels_of_gray():
    gray = np.array([[[[10], [11], [200]]]], np.uint8)
    colours = ObjectColours(gray, np.array([[[1, 0, 2]]], np.uint8), 2)
    assert colours.classes(gray).tolist() == [[[1, 0, 2]]]
