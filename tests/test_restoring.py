"""Checkpoints without sums, as older versions wrote them: which claims of their config and tensors are checked."""

import json
import resource
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_world
from worldmodel import WorldModel


@pytest.fixture
def folder(tmp_path):
    folder = tiny_world(first=4).save_pretrained(tmp_path / "world")
    (folder / "SHA256SUMS").unlink()
    return folder


def refusal(folder) -> str:
    """Loads; returns the one line of the error."""
    with pytest.raises(ValueError) as caught:
        WorldModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(folder, part, **values):
    path = folder / "config.json"
    data = json.loads(path.read_text())
    (data[part] if part else data).update(values)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.fill_(torch.nan), "holds values that are not finite, in heads.trunk.bias"),
        (lambda t: t.fill_(torch.inf), "holds values that are not finite, in heads.trunk.bias"),
        (lambda t: t.to(torch.complex64), "heads.trunk.bias is C64, wanted a float type"),
        (lambda t: t.to(torch.int64), "heads.trunk.bias is I64, wanted a float type"),
        (lambda t: t.to(torch.bool), "heads.trunk.bias is BOOL, wanted a float type"),
        (lambda t: t.to(torch.float8_e4m3fn), "heads.trunk.bias is F8_E4M3, wanted a float type"),
    ],
)
def test_weights_of_other_number_types_or_without_value_are_refused(folder, change, words):
    tensors = load_file(folder / "model.safetensors")
    tensors["heads.trunk.bias"] = change(tensors["heads.trunk.bias"])
    save_file(tensors, folder / "model.safetensors")
    message = refusal(folder)
    assert words in message and "model.safetensors" in message


def test_bounds_that_are_infinite_on_purpose_load_and_others_do_not(folder):
    tensors = load_file(folder / "model.safetensors")
    assert tensors["heads.signal_low"].isneginf().all()
    save_file(tensors | {"heads.signal_low": tensors["heads.signal_high"].clone()}, folder / "model.safetensors")
    assert "not finite, in heads.signal_low" in refusal(folder)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("dynamics", {"layers": 20_000_000}),
        ("dynamics", {"width": 2**40, "heads": 2}),
        ("dynamics", {"width": 2**70, "heads": 2}),
        ("dynamics", {"window": 2**40}),
        ("dynamics", {"position": "sine", "max_steps": 2**40, "window": 2**40}),
        ("dynamics", {"refine": 2**60}),
        ("heads", {"bins": 2**50 + 1}),
        ("heads", {"signal_layers": 2**40}),
        ("tokenizer", {"height": 2**40, "width": 2**40}),
        ("tokenizer", {"residual_layers": 20_000_000}),
        ("tokenizer", {"frames_per_step": 2**33}),
        ("action", {"n": 2**62, "names": []}),
        (None, {"signal_names": [str(i) for i in range(10_000)]}),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken(folder, part, values):
    put(folder, part, **values)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    message = refusal(folder)
    assert "config.json" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "must be an object"),
        ('"text"', "must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is not valid JSON"),
        ('{"format_version": 1, "kind": "world_model", "kind": "agent"}', "the key 'kind' is repeated"),
        ('{"format_version": 1, "kind": "world_model", "steps_per_second": NaN}', "NaN is not a finite number"),
        ('{"format_version": 1, "kind": "world_model", "steps_per_second": 1e999}', "1e999 is not a finite number"),
        ('{"format_version": 1, "kind": "world_model", "steps_per_second": 1' + "0" * 400 + "}", "is beyond 64 bits"),
        ("", "is not valid JSON"),
    ],
)
def test_json_that_is_no_settings_is_refused_in_one_line(folder, text, words):
    (folder / "config.json").write_text(text)
    message = refusal(folder)
    assert words in message and "config.json" in message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("signals", lambda t: t.fill_(torch.nan), "signals of the start segments must be finite"),
        ("signals", lambda t: t.double(), "signals of the start segments must be torch.float32"),
        ("codes", lambda t: t.float(), "codes of the start segments must be integers"),
        ("codes", lambda t: t.to(torch.complex64), "codes of the start segments must be integers"),
        ("codes", lambda t: t.flatten(), "codes of the start segments must be"),
        ("actions", lambda t: t.to(torch.bfloat16), "actions of the start segments must be torch.int64"),
        ("first_signals", lambda t: t.fill_(torch.inf), "first_signals of the start segments must be finite"),
        ("first_codes", lambda t: t.double(), "first_codes of the start segments must be integers"),
        ("first_codes", lambda t: t[:, :0], "first_codes of the start segments must be"),
        ("first_codes", lambda t: t - 99, r"first_codes of the start segments must be in [0, 16)"),
        ("first_actions", lambda t: t.float(), "first_actions of the start segments must be torch.int64"),
    ],
)
def test_starts_of_other_number_types_or_without_value_are_refused(folder, name, change, words):
    path = folder / "starts.safetensors"
    starts = load_file(path)
    save_file(starts | {name: change(starts[name]).contiguous()}, path)
    message = refusal(folder)
    assert words in message and "starts.safetensors" in message


@pytest.mark.parametrize("name", ["first_codes", "first_actions", "first_signals", "first_first_codes", "others"])
def test_starts_with_a_missing_or_an_unknown_tensor_are_refused(folder, name):
    path = folder / "starts.safetensors"
    starts = load_file(path)
    if starts.pop(name, None) is None:
        starts[name] = torch.zeros(1)
    save_file(starts, path)
    assert "differs in" in (message := refusal(folder)) and name in message
