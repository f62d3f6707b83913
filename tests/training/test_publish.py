from tests.tiny import tiny_config
from tests.training.recorded import recorded_store
from worldmodel.model import WorldModel
from worldmodel.training.loop import LoopConfig
from worldmodel.training.publish import publish
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer


def test_a_published_world_is_smaller_loads_and_tells_how_to_repeat_it(tmp_path):
    data = tmp_path / "data"
    recorded_store(data, lengths=(40,) * 20)
    loop = LoopConfig(steps=3, batch_size=4, evaluate_every=3, save_every=3)
    config = tiny_config()
    train_tokenizer(data, tmp_path / "tokenizer", TokenizerTraining(model=config.tokenizer, loop=loop))
    parts = {"model": config.dynamics, "heads": config.heads, "loop": loop}
    train_dynamics(data, tmp_path / "tokenizer" / "best", tmp_path / "run", DynamicsTraining(num_starts=4, **parts))
    folder = publish(tmp_path / "run" / "best", data, tmp_path / "toy", notes="A toy.")
    sizes = [(f / "model.safetensors").stat().st_size for f in (folder, tmp_path / "run" / "best")]
    assert sizes[0] < 0.75 * sizes[1]
    assert len(WorldModel.from_pretrained(folder).starts.codes) == 4
    card = (folder / "README.md").read_text()
    assert card.startswith("# toy\n") and "A toy." in card
    assert "--loop.steps 3" in card and "open-loop PSNR after 16 steps" in card and "NMSE" in card
