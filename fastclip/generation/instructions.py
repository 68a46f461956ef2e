"""What a chat model is asked for: four kinds of rewording, a hard negative, and a judgement.

The kinds are those of *The Hard Positive Truth* (Kamath et al., ECCV 2024); the wording is
fastclip's own.
"""

_ONLY = (
    'Answer with a JSON object alone, such as {"caption": "the new caption"}; if it cannot be '
    'done, answer {"caption": null}.'
)

INSTRUCTIONS = {
    "swap": (
        "Reword the caption of a picture by exchanging the two things that are joined by the word "
        "'and', each together with all the words that describe it. Change nothing else, so that "
        "it still describes the same picture. "
        "Example: 'a red car and an old man on a bench' becomes 'an old man on a bench and a red "
        "car'. " + _ONLY
    ),
    "replace": (
        "Reword the caption of a picture: replace one noun or adjective by another word that means "
        "the same. Keep all other words and their order, so that it describes the same picture. "
        + _ONLY
    ),
    "replace-verb": (
        "Reword the caption of a picture: replace the verb by another one that means the same. "
        "Keep all other words and their order. "
        "Example: 'a man is holding a cup' becomes 'a man is gripping a cup'. " + _ONLY
    ),
    "replace-spatial": (
        "Reword the caption of a picture: replace the word that says where something is by another "
        "one that says the same. Keep all other words and their order. "
        "Example: 'a lamp next to a bed' becomes 'a lamp beside a bed'. " + _ONLY
    ),
}
"""Instruction of each kind of hard positive."""

NEGATIVE = (
    "Change the caption of a picture by one word, an attribute, an object or a relation, so that "
    "it describes a clearly different picture but is still plausible. Keep all other words and "
    "their order. " + _ONLY
)

JUDGE = (
    "You get two captions. Could both describe the same picture, with no object, attribute, number "
    'or place differing? Answer with a JSON object alone, {"same": true} or {"same": false}.'
)
