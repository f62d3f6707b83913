"""The commands: which library function each one calls, what it is for, and an example of it."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

_RESUMED = "run the same command again to resume from the last complete state"
_NOTHING = "nothing was written; run the same command again"

# Options that the configs have and a command would ignore, and why.
_MEASURED = "it is measured from the data"
_OF_A_TOKENIZER = dict.fromkeys(("--model.data-mean", "--model.data-variance"), _MEASURED)
_OF_A_WHOLE_RUN = dict.fromkeys(
    ("--tokenizer.loop.seed", "--dynamics.loop.seed", "--agent.agent.seed"), "--seed sets that of every stage"
) | dict.fromkeys(("--tokenizer.model.data-mean", "--tokenizer.model.data-variance"), _MEASURED)


def _print_scores(scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        print(f"{name:24} {value:.4f}")


def _print_lines(lines: list[Any]) -> None:
    for line in lines:
        print(line)


class Command(NamedTuple):
    """A library function on the command line: its arguments are the options, its docstring is their help."""

    function: str  # module:function below `worldmodel`
    what: str  # for the list of all commands
    example: str  # words after the command's name
    show: Callable[[Any], object] | None = None  # prints the result, where the function itself does not
    names: Mapping[str, str] = {}  # options that have another name than their argument
    refused: Mapping[str, str] = {}  # options that would be ignored, and why
    after_stop: str = _RESUMED  # what to do after Ctrl-C

    def load(self) -> Callable[..., Any]:
        """The function; imports what it needs only now."""
        module, _, name = self.function.partition(":")
        function: Callable[..., Any] = getattr(import_module(f"worldmodel.{module}"), name)
        return function


COMMANDS = {
    "demo": Command(
        "training.pipeline.demo:demo",
        "the whole path on health_gathering: collect, train the world model, train an agent in it, evaluate the agent",
        "--seed 1 --out runs/demo-1",
        refused=_OF_A_WHOLE_RUN,
    ),
    "loop": Command(
        "training.pipeline.loop:iterate",
        "rounds of collecting, training the world model, and training the agent that collects in the next round",
        "--env-id VideoGenReal-Doom --rounds 5 --out runs/loop",
        refused=_OF_A_WHOLE_RUN,
    ),
    "collect": Command(
        "training.collect.collect:collect",
        "record episodes of a real game into a store",
        "--env VideoGenReal-Doom --steps 100000 --out runs/data",
        names={"env_id": "env"},
    ),
    "import-bair": Command(
        "data.bair.importer:import_bair",
        "convert the BAIR robot pushing archive to a store",
        "downloads/bair --out runs/bair --download",
    ),
    "import-video": Command(
        "data.user_video.importer:import_video",
        "convert your own videos and their actions to a store",
        "films --actions actions --out runs/data",
    ),
    "import-lerobot": Command(
        "data.lerobot.importer:import_lerobot",
        "convert a LeRobot data set to a store",
        "datasets/pusht --out runs/pusht --size 64 64",
    ),
    "inspect": Command(
        "training.reports.inspect:inspect",
        "describe a store, a world model, a tokenizer or an agent",
        "doom-hg --verify",
        show=print,
        after_stop=_NOTHING,
    ),
    "worlds": Command(
        "training.reports.shipped_worlds:worlds",
        "list the shipped worlds with their scores",
        "--json",
        show=print,
        after_stop=_NOTHING,
    ),
    "mirror": Command(
        "data.mirror:mirror",
        "double a store with mirrored copies of its episodes",
        "runs/data --out runs/mirrored --swap turn_left=turn_right move_left=move_right",
        after_stop=_NOTHING,
    ),
    "export-bair": Command(
        "data.bair.exporter:export_bair",
        "write a store of robot pushing as BAIR's TFRecord files",
        "runs/push --out runs/push-tfrecords",
        after_stop=_NOTHING,
    ),
    "export-lerobot": Command(
        "data.lerobot.exporter:export_lerobot",
        "write a store as a LeRobot data set",
        "runs/push --out runs/push-lerobot",
        after_stop=_NOTHING,
    ),
    "train-policy": Command(
        "agents.sb3.train:train_policy",
        "train an agent with PPO on the real game",
        "--env VideoGenReal-DoomHealthGathering --steps 80000 --out runs/policy",
        show=print,
        names={"env_id": "env"},
    ),
    "train-tokenizer": Command(
        "training.train_tokenizer:train_tokenizer",
        "train a VQ-VAE on a store",
        "--data runs/data --preset doom-small --loop.steps 3000 --out runs/tokenizer",
        show=_print_scores,
        refused=_OF_A_TOKENIZER,
    ),
    "train-dynamics": Command(
        "training.train_dynamics:train_dynamics",
        "train dynamics and heads on a store's codes; the result is a world model",
        "--data runs/data --tokenizer runs/tokenizer/best --preset doom-small --out runs/dynamics",
        show=_print_scores,
    ),
    "train-agent": Command(
        "training.train_agent:train_agent",
        "train an agent with PPO in a world model's dream",
        "--world runs/dynamics/best --agent.steps 200000 --out runs/agent",
        show=print,
    ),
    "publish": Command(
        "training.publish:publish",
        "package a trained world model for sharing, with a model card; optionally upload it",
        "runs/dynamics/best runs/data my-world --push me/my-world",
    ),
    "sample": Command(
        "training.show.sample:sample_videos",
        "generate videos with a world model: from nothing, first frames, actions or both",
        "runs/dynamics/best --data runs/data --steps 32 --out samples.mp4",
        show=print,
        after_stop=_NOTHING,
    ),
    "show": Command(
        "training.show.show:show",
        "draw a world's dreams beside real play, several futures, or players in both: a picture or a film",
        "doom-take-cover --out sheet.png",
        show=print,
        after_stop=_NOTHING,
    ),
    "show-codes": Command(
        "training.show.codes:show_codes",
        "draw the codes of a tokenizer or a world model, and where they change, below the frames",
        "runs/tokenizer/best --data runs/data --out codes.png",
        show=print,
        after_stop=_NOTHING,
    ),
    "compare": Command(
        "training.show.compare:compare",
        "a page of pairs of videos by two worlds, for people to choose from; --tally counts their votes",
        "runs/a/best runs/b/best --data runs/data --out runs/compare",
        show=print,
        after_stop=_NOTHING,
    ),
    "evaluate-model": Command(
        "training.cli.evaluate:evaluate_model",
        "measure a world model on held-out episodes: frames, codes, dreams, control, distances",
        "runs/dynamics/best --data runs/data --out runs/evaluation",
        after_stop=_NOTHING,
    ),
    "ablate": Command(
        "training.ablations.run:ablate",
        "rerun a comparison of the three papers on a store, beside the paper's figures",
        "codes --data runs/data --preset smoke",
    ),
    "benchmark": Command(
        "training.transfer.table:benchmark",
        "fill a table of results: random, blind, model-free and dream-trained players of every game",
        "transfer --games VideoGenReal-Doom --world VideoGenReal-Doom=doom-hgs",
    ),
    "evaluate": Command(
        "training.cli.evaluate:evaluate",
        "play a saved agent or the best blind policy; with --dream and --real, report how far to trust a dream",
        "runs/agent/agent --env VideoGenReal-Doom --episodes 100",
        after_stop=_NOTHING,
    ),
    "watch": Command(
        "training.show.watch:watch",
        "write a video of an agent or a blind policy, in a real game or in a dream",
        "runs/agent/agent --env VideoGenReal-Doom --out agent.mp4",
        show=_print_lines,
        after_stop=_NOTHING,
    ),
    "play": Command(
        "training.show.play.command:play",
        "play dreams and real games yourself, in a browser",
        "VideoGenReal-Doom VideoGenDream-Doom --agent runs/agent/agent",
        after_stop=_NOTHING,
    ),
    "export-web": Command(
        "training.show.web.export:export_web",
        "export a world as a folder of static files, in which it dreams in the visitor's browser",
        "doom-hg --out site",
        after_stop=_NOTHING,
    ),
    "fetch-battle2": Command(
        "envs.vizdoom.battle2:fetch_battle2",
        "download the battle2 map, which ViZDoom does not ship",
        "--target maps",
        show=print,
        after_stop=_NOTHING,
    ),
}
