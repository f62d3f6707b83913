"""Tests for worldmodel/errors.py."""

import pytest

from worldmodel.errors import check_known, did_you_mean, refuse_unknown


def test_the_closest_name_is_offered_and_all_are_listed_in_order():
    assert did_you_mean("dom-hgs", ["doom-hgs", "bair"]) == " Did you mean 'doom-hgs'? Valid: bair, doom-hgs."


def test_case_does_not_matter_and_the_valid_spelling_is_offered():
    assert "'TakeCover'" in did_you_mean("takecover", ["Basic", "TakeCover"])


def test_nothing_is_offered_when_nothing_is_close():
    assert did_you_mean("zzzzzz", ["doom-hgs", "bair"]) == " Valid: bair, doom-hgs."


def test_an_empty_list_says_none():
    assert did_you_mean("doom", []) == " Valid: none."


def test_a_name_that_is_no_string_still_gets_an_answer():
    assert did_you_mean(3, ["doom"]) == " Valid: doom."  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_nearest_and_a_known_one_passes():
    check_known("reward", "dense", {"dense": 1, "sparse": 2})
    with pytest.raises(ValueError, match=r"unknown reward 'dens'\. Did you mean 'dense'\? Valid: dense, sparse\."):
        check_known("reward", "dens", {"dense": 1, "sparse": 2})


def test_an_unknown_option_gives_the_nearest_that_the_function_takes():
    def dream(horizon: int = 3, temperature: float = 1.0, **unknown: object) -> None:
        refuse_unknown(unknown, dream)

    dream(horizon=4)
    with pytest.raises(
        TypeError,
        match=r"dream\(\) got an unexpected keyword argument 'horizn'\. Did you mean 'horizon'\? Valid: horizon, t",
    ):
        dream(horizn=3)
