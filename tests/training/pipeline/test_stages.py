from dataclasses import dataclass, replace

import pytest

from worldmodel.files import read_json
from worldmodel.training.pipeline import stages as module
from worldmodel.training.pipeline.stages import Stages, staged


@dataclass(frozen=True)
class Settings:
    steps: tuple[int, ...] = (3, 4)
    seed: int = 0


def nothing():
    pass


def interrupt():
    raise KeyboardInterrupt


def test_a_stage_that_failed_is_not_done(tmp_path):
    stages, done = Stages(tmp_path, Settings(), fresh=False), []
    stages("collect", lambda: done.append("collect"))
    with pytest.raises(KeyboardInterrupt):
        stages("tokenizer", interrupt)
    again = Stages(tmp_path, Settings(), fresh=False)
    for name in ("collect", "tokenizer"):
        again(name, lambda name=name: done.append(f"{name} again"))
    assert done == ["collect", "tokenizer again"]


def test_the_minutes_of_all_attempts_at_a_stage_count(tmp_path, monkeypatch):
    clock = iter([0, 120, 1000, 1060])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, Settings(), fresh=False)("tokenizer", interrupt)
    again = Stages(tmp_path, Settings(), fresh=False)
    assert again.minutes == {"tokenizer": 2.0}
    again("tokenizer", nothing)
    assert Stages(tmp_path, Settings(), fresh=False).minutes == {"tokenizer": 3.0}


def test_a_stage_says_whether_an_attempt_was_killed(tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    def die():
        monkeypatch.setattr(Stages, "_write", lambda *_: None)  # a killed process writes nothing any more
        raise KilledError

    stages, write = Stages(tmp_path, Settings(), fresh=False), Stages._write
    with pytest.raises(KilledError):
        stages("tokenizer", die)
    monkeypatch.setattr(Stages, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, Settings(), fresh=False)("dynamics", interrupt)
    again = Stages(tmp_path, Settings(), fresh=False)
    for name in ("collect", "tokenizer", "dynamics"):
        again(name, nothing)
    for stages in (again, Stages(tmp_path, Settings(), fresh=False)):
        assert [stages.was_cut(name) for name in ("collect", "tokenizer", "dynamics")] == [False, True, False]
    assert not Stages(tmp_path, Settings(), fresh=True).was_cut("tokenizer")


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    Stages(tmp_path, Settings(), fresh=False)
    with pytest.raises(ValueError, match=r"other settings \(seed is 0 there, 1 here\).*--fresh"):
        Stages(tmp_path, replace(Settings(), seed=1), fresh=False)
    Stages(tmp_path, replace(Settings(), seed=1), fresh=True)


def test_a_run_of_an_earlier_release_resumes_without_the_new_settings(tmp_path):
    @dataclass(frozen=True)
    class Newer:
        tokenizer: dict
        seed: int = 0

    Stages(tmp_path, Newer({"muon": True}), fresh=False)
    Stages(tmp_path, Newer({"muon": True, "rarity": 0.0, "rarity_limit": 31.0}), fresh=False)
    assert read_json(tmp_path / "config.json")["tokenizer"]["rarity"] == 0.0
    with pytest.raises(ValueError, match=r"tokenizer.rarity is 0\.0 there, 0\.5 here"):
        Stages(tmp_path, Newer({"muon": True, "rarity": 0.5}), fresh=False)


def test_a_free_setting_may_change_and_the_new_one_is_kept(tmp_path):
    Stages(tmp_path, Settings(), fresh=False, free=("seed",))("collect", nothing)
    Stages(tmp_path, Settings(seed=1), fresh=False, free=("seed",))("collect", interrupt)
    assert read_json(tmp_path / "config.json") == {"steps": [3, 4], "seed": 1}
    with pytest.raises(ValueError, match="other settings"):
        Stages(tmp_path, Settings(steps=(5,)), fresh=False, free=("seed",))


@pytest.mark.parametrize("file", ["stages.json", "config.json"])
@pytest.mark.parametrize(
    "content", ["[]", "null", "[" * 100_000, "{", '{"done": 3}', '{"done": ["a"], "minutes": [1]}']
)
def test_a_damaged_file_of_a_run_is_refused_in_one_line(tmp_path, file, content):
    Stages(tmp_path, Settings(), fresh=False)
    (tmp_path / file).write_text(content)
    wanted = r"stages\.json|config\.json|something other than a demo's run"
    with pytest.raises(ValueError, match=wanted) as error, staged(tmp_path, Settings(), fresh=False):
        pass
    assert "\n" not in str(error.value)
