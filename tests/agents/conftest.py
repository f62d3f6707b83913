import pytest

from tests.agents.trained import META, small
from tests.toy_game import toys


@pytest.fixture
def trained(tmp_path):
    """A model, its config, and the folder it was saved to."""
    from worldmodel.agents.sb3.train import train_ppo  # slow to import, and most tests here go without

    config = small(frame_stack=3)
    return train_ppo(toys(), config, tmp_path / "run", META), config, tmp_path / "run" / "agent"
