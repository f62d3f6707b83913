"""Describe a store, a world model, a tokenizer or an agent: `videogen-dream inspect`."""

import sys
from json import dumps
from pathlib import Path

from worldmodel.training.reports.inspect_model import model_facts
from worldmodel.training.reports.inspect_store import columns, facts_page, inspect_store, verify_store
from worldmodel.training.reports.markdown import strict


def inspect(what: str, /, json: bool = False, verify: bool = False) -> str:
    """Describe a store (splits, actions, rewards, ends, what is missing), a world model, a tokenizer or an agent.

    Args:
        what: folder of a store or of an agent; or a world model or tokenizer: its folder, a shipped name or a hub id.
        json: print JSON, for programs.
        verify: also check that nothing has changed since it was saved: a checkpoint's files against its SHA256SUMS
            (an error if it has none), or every value of a store.

    Returns: two columns of text, or JSON.
    """
    if not (Path(what) / "data" / "metadata.json").is_file():
        rows = model_facts(what, verify)
        return dumps(dict(rows), indent=2) if json else columns(rows)
    facts = inspect_store(what)
    if verify:
        print(f"verified: {verify_store(what)}", file=sys.stderr)
    return dumps(strict(facts), indent=2) if json else facts_page(facts)
