"""Numbers with their nouns, in the plural where there are several."""


def counted(number: int, noun: str) -> str:
    """Such as "1 episode" and "1,200 steps"; for nouns whose plural takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
