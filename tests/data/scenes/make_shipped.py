"""Make the drawings that ship: ``python tests/data/scenes/make_shipped.py DRAWINGS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fastclip.data.scenes import load_drawings

NAMES = """
cat, dog, tiger face, horse, pig face, rabbit face, panda, koala, elephant, fox, monkey face, cow
face, rooster, penguin, owl, duck, parrot, frog, turtle, snake, octopus, crab, butterfly, lady
beetle, rose, sunflower, tulip, cactus, palm tree, mushroom, red apple, green apple, banana,
grapes, pineapple, strawberry, carrot, broccoli, ear of corn, pizza, hamburger, bread, cheese
wedge, doughnut, birthday cake, ice cream, lollipop, beer mug, house, castle, tent, ferris wheel,
airplane, rocket, sailboat, bicycle, tractor, fire engine, ambulance, locomotive, sun, cloud,
snowman, umbrella, rainbow, star, soccer ball, basketball, balloon, kite, teddy bear, puzzle
piece, guitar, drum, trumpet, violin, telephone, laptop, camera, light bulb, books, scissors, key,
hammer, top hat, crown, dress, jeans, running shoe, glasses, watch, chair, toilet, skull, robot
"""
COLUMNS = 12


def main(source: Path, target: Path) -> None:
    drawings = load_drawings(source).select(["noto"])
    row_of = {drawings.names[name]: row for row, name in enumerate(drawings.name_index.tolist())}
    wanted = [name.strip() for name in NAMES.replace("\n", " ").split(",")]
    names = [name for name in wanted if name in row_of]
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise SystemExit(f"no drawing of {missing}")
    index = [drawings.name_index[row_of[name]] for name in names]
    pixels = drawings.mips[0][[row_of[name] for name in names]].float()
    pixels[:, :3] *= 255 / pixels[:, 3:].clamp(
        min=1
    )  # a file holds colours that alpha did not scale
    tiles = pixels.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, *tiles.shape[1:]), dtype=np.uint8)
    sheet[: len(tiles)] = tiles
    side = tiles.shape[1]
    sheet = sheet.reshape(rows, COLUMNS, side, side, 4).swapaxes(1, 2)
    Image.fromarray(sheet.reshape(rows * side, COLUMNS * side, 4)).save(
        target / "drawings.webp", lossless=True, quality=100, method=6, exact=True
    )
    tables = {
        "names": names,
        "groups": [drawings.groups[i] for i in index],
        "tags": [drawings.tags[i] for i in index],
        "sets": ["noto"],
        "sources": ["noto"],
    }
    (target / "drawings.json").write_text(json.dumps(tables, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    import fastclip.data.scenes

    main(Path(sys.argv[1]), Path(fastclip.data.scenes.__file__).parent / "shipped")
