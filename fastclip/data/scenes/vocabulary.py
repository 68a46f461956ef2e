"""Which of Unicode's pictures are things with a name, and what they are called."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Signs, letters, flags and people who differ by sex or skin alone: no drawing tells their names.
_SUBGROUPS_LEFT_OUT = {
    "family", "person-symbol", "skin-tone", "hair-style", "transport-sign", "arrow", "religion",
    "zodiac", "av-symbol", "gender", "math", "punctuation", "currency", "keycap", "alphanum",
    "flag", "country-flag", "subdivision-flag", "place-religious",
}  # fmt: skip
_LABELS_LEFT_OUT = re.compile(
    r"o\u2019clock|-thirty|facing|pointing|quarter|waxing|waning|new moon|button|"
    r"^(man|woman|men|women|boy|girl|people) |^mx |: |^zzz$|^person (in|with|getting|kneeling)"
)
_HELD_OUT = 0.15


@dataclass(frozen=True)
class Word:
    """A name with what Unicode's tables say of it."""

    name: str
    group: str  # subgroup of Unicode, such as "food-fruit"
    tags: tuple[str, ...]
    hexcode: str
    slugs: tuple[str, ...]  # what artwork sets may call it, the most certain first


def is_held_out(name: str) -> bool:
    """Whether no drawing of ``name`` is trained on: 15 % of all names, for ever the same."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT * 2**32


def plain(text: str) -> str:
    """Lower-case words of letters and digits, one space between them."""
    text = text.lower().replace("\u2019", "").replace("'", "").replace("ñ", "n")
    return " ".join(re.findall(r"[a-z0-9]+", text))


def read_vocabulary(folder: Path) -> list[Word]:
    """Read the names from an unpacked emojibase-data package."""
    subgroups = json.loads((folder / "meta/groups.json").read_text("utf-8"))["subgroups"]
    entries = json.loads((folder / "en/data.json").read_text("utf-8"))
    presets = [
        json.loads((folder / f"en/shortcodes/{name}.json").read_text("utf-8"))
        for name in ("cldr", "joypixels", "github", "iamcal", "emojibase")
    ]
    words: dict[str, Word] = {}
    for entry in entries:
        group = subgroups.get(str(entry.get("subgroup")))
        label = entry["label"].lower()
        if group is None or group in _SUBGROUPS_LEFT_OUT or "gender" in entry:
            continue
        name = plain(label)
        if _LABELS_LEFT_OUT.search(label) or name in words:
            continue
        tags = (plain(tag) for tag in entry.get("tags", ()))
        words[name] = Word(
            name=name,
            group=group,
            tags=tuple(dict.fromkeys(t for t in tags if t and t != name)),
            hexcode=entry["hexcode"].lower(),
            slugs=_slugs(name, entry["hexcode"], presets),
        )
    return list(words.values())


def _slugs(
    name: str, hexcode: str, presets: list[Mapping[str, str | list[str]]]
) -> tuple[str, ...]:
    slugs = [name.replace(" ", "-")]
    for preset in presets:
        codes = preset.get(hexcode, [])
        slugs += [c.replace("_", "-") for c in ([codes] if isinstance(codes, str) else codes)]
    return tuple(dict.fromkeys(slugs))
