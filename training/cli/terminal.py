"""What commands print survives any terminal: other encodings than UTF-8, and readers that leave early (`| head`)."""

import codecs
import io
import os
import select
import sys
import unicodedata

_SPELLED = {"±": "+/-", "×": "x", "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "−": "-", "–": "-", "—": "-", "·": "."}
_SPELLED |= dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+") | dict.fromkeys("─━", "-") | dict.fromkeys("│┃", "|")
_HANDLER = "videogen_dream.spelled"


def spell(text: str) -> str:
    """The text in ASCII: ± as +/-, é as e; what has no such form as \\xNN or \\uNNNN."""
    return "".join(map(_spell, text))


def _spell(character: str) -> str:
    if character in _SPELLED:
        return _SPELLED[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or character.encode("ascii", "backslashreplace").decode()


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return spell(error.object[error.start : error.end]), error.end


def prepare_terminal() -> None:
    """Let stdout and stderr spell out what their encoding lacks; also half characters of foreign file names."""
    codecs.register_error(_HANDLER, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def reader_is_gone() -> bool:
    """Whether the reader of stdout or stderr has closed it; from then on output there is discarded."""
    return any([_hung_up(stream) for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)])


def _hung_up(stream: io.TextIOWrapper) -> bool:
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # a notebook's, or a test's
        return False
    try:
        stream.flush()
        if not hasattr(select, "poll"):  # Windows
            return False
        # Asked of the system, because a stream that could not write drops the text and then flushes well.
        poll = select.poll()
        poll.register(number, 0)
        if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            return False
    except BrokenPipeError:
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return True
