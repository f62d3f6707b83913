"""Mutates files at random and reads them, in a child process, within limits of memory and time."""

import copy
import json
import multiprocessing
import resource
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import torch

SECONDS, BYTES = 20, 6 * 2**30
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    7,
    2**31,
    20_000_000,
    2**64,
    10**400,
    -1.5,
    0.5,
    1e300,
    "",
    "4",
    "x:y",
    [],
    [1],
    {},
]
VALUES += [{"a": 1}, [[[]]], float("nan"), float("inf")]


def one(rng, things):
    things = list(things)
    return things[rng.integers(len(things))]


def mutate_bytes(path, rng):
    data = bytearray(path.read_bytes())
    kind = rng.integers(5)
    if kind == 0:
        data = data[: rng.integers(len(data))]
    elif kind == 1:
        data += bytes(rng.integers(256, size=9).tolist())
    else:  # in the header, or anywhere
        end = min(len(data), 3000) if kind == 2 else len(data)
        for place in rng.integers(end, size=rng.integers(1, 4)).tolist():
            data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def mutate_field(path, rng):
    data = json.loads(path.read_text())
    places, waiting = [], [data]
    while waiting:
        here = waiting.pop()
        for key, value in here.items() if isinstance(here, dict) else enumerate(here):
            places.append((here, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    here, key = places[rng.integers(len(places))]
    if rng.integers(6) == 0 and isinstance(here, dict):
        here[f"{key}s"] = here.pop(key)
    elif rng.integers(6) == 0:
        del here[key]
    else:
        here[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    path.write_text(json.dumps(data))


def mutate_json(path, rng):
    text = path.read_text()
    cut = int(rng.integers(len(text)))
    deep = int(rng.integers(10, 200_000))
    texts = [
        text[:cut],
        text[:cut] + text[cut + 3 :],
        "[" * deep,
        f"[{text}]",
        "",
        text.replace("{", '{"kind": 1, ', 1),
    ]
    texts += [
        text[:cut] + "\x00" + text[cut:],
        text + text,
        "null",
        '"world"',
        '{"a": ' * deep,
        text.replace(": 1,", ": 1e999,"),
    ]
    path.write_text(texts[rng.integers(len(texts))])


# --- how it ends


def outcome(load, path, whole) -> str:
    """In a word or two; anything that does not begin with "equal" or "refused" is a failure."""
    signal.alarm(SECONDS)
    try:
        found = load(path)
    except (ValueError, TypeError, OSError) as error:
        text = str(error)
        named = path.name in text or any(file.name in text for file in path.rglob("*"))
        if "\n" in text or not named:
            return f"unhelpful {type(error).__name__}: {text[:300]}"
        return "refused"
    except BaseException as error:
        return f"wrong {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return "equal" if found == whole else "silently another value"


def trial(source, load, mutate, numbers, seed, scratch, send, sums):
    """Runs in the child: sends the number and the outcome of each, then None."""

    def too_long(*_):
        raise TooLongError

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, too_long)
    whole = load(source)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES + resident(), resource.RLIM_INFINITY))
    for number in numbers:
        target = scratch / source.name
        remove(target)  # of a child that died
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        if not sums:
            (target / "SHA256SUMS").unlink()
        mutate(target, np.random.default_rng((seed, number)))
        send.send((number, outcome(load, target, whole)))
        remove(target)
    send.send(None)


class TooLongError(BaseException):
    """Not an OSError, as TimeoutError is."""


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run_trial(source, load, mutate, count, seed, scratch, sums=True) -> Counter:
    """How often each outcome came; what is wrong has the number of its case, which with `seed` makes it again.

    A child that dies or hangs is replaced by one that starts with the next case.
    """
    context = multiprocessing.get_context("spawn")
    found, first = Counter(), 0
    while first < count:
        receive, send = context.Pipe(duplex=False)
        rest = range(first, count)
        child = context.Process(target=trial, args=(source, load, mutate, rest, seed, scratch, send, sums))
        child.start()
        send.close()
        word = "hangs"
        try:
            while receive.poll(4 * SECONDS + 60):  # within a C library no alarm is heard
                said = receive.recv()
                if said is None:
                    child.join(SECONDS)
                    return found
                first, word = said[0] + 1, said[1]
                found[word if word in ("equal", "refused") else f"{said[0]}: {word}"] += 1
                word = "hangs"
        except EOFError:
            word = "the process died"
        finally:
            child.kill()
            child.join()
            receive.close()
        found[f"{first}: {word}"] += 1
        first += 1
    return found


def check(found: Counter, count: int) -> None:
    wrong = [word for word in found if word not in ("equal", "refused")]
    assert not wrong, "\n".join(wrong)
    assert found["refused"] > count / 2 and found.total() == count


def check_unvouched(found: Counter) -> None:
    """Without checksums other values are not noticed; everything else is."""
    wrong = [word for word in found if word not in ("equal", "refused") and "silently" not in word]
    assert not wrong, "\n".join(wrong)
