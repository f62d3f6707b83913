import json

import pytest

from worldmodel.training.launch import launch


def test_a_local_run_leaves_its_scores(tmp_path):
    assert launch(lambda: {"total": 0.5}, tmp_path) == {"total": 0.5}
    assert json.loads((tmp_path / "scores.json").read_text()) == {"total": 0.5}


@pytest.mark.parametrize(("launcher", "workers", "message"), [("local", 2, "torchrun"), ("ray", 0, "at least 1")])
def test_impossible_numbers_of_workers_are_refused(tmp_path, launcher, workers, message):
    with pytest.raises(ValueError, match=message):
        launch(dict, tmp_path, launcher, workers)


@pytest.mark.slow
@pytest.mark.rllib
@pytest.mark.filterwarnings("ignore")  # Ray warns of itself
def test_ray_runs_the_same_function_on_its_workers(tmp_path):
    import ray

    def train() -> dict[str, float]:
        from worldmodel.training import distributed

        return {"workers": float(distributed.size()), "rank": float(distributed.rank())}

    try:
        assert launch(train, tmp_path, "ray", 2) == {"workers": 2.0, "rank": 0.0}
    finally:
        ray.shutdown()
