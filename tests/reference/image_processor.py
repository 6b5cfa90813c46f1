"""Records the results of PIL's bicubic filter and transformers' CLIPImageProcessor on synthetic pictures, as SHA-256 digests.

    python tests/reference/image_processor.py    # writes tests/reference/image_processor.json

Made with Pillow 13.0.0 and transformers 4.35.2.
"""

import hashlib
import json
import pathlib

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor


def picture(width: int, height: int, stark: bool) -> np.ndarray:
    """Noise from a linear congruential generator. `stark` noise is only black and white, so that the filter overshoots."""
    state, values = width * 1000 + height, []
    for _ in range(height * width * 3):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((255 if state >> 31 else 0) if stark else state >> 24)
    return np.array(values, dtype=np.uint8).reshape(height, width, 3)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


sizes = [
    ((1, 1), (5, 7)), ((2, 3), (9, 4)), ((16, 16), (16, 16)), ((16, 16), (31, 16)), ((16, 16), (16, 5)), ((13, 29), (64, 64)),
    ((64, 48), (7, 5)), ((97, 31), (32, 33)), ((128, 33), (33, 128)), ((50, 71), (1, 1)), ((40, 200), (24, 120)), ((257, 129), (224, 112)),
    # the order of the passes changes where the height loses more than twice what the width loses
    ((40, 80), (30, 60)), ((40, 81), (30, 60)), ((40, 20), (41, 22)), ((40, 90), (44, 89)), ((3, 400), (2, 399)),
]
resized = [
    {"from": source, "to": target, "stark": stark,
     "sha256": digest(np.array(Image.fromarray(picture(*source, stark)).resize(target, Image.Resampling.BICUBIC)))}
    for source, target in sizes
    for stark in (False, True)
]

configs = [
    {},
    {"size": 32, "crop_size": 24},
    {"size": {"shortest_edge": 31}, "crop_size": {"height": 30, "width": 17}},
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 28, "width": 26}},  # padded
    {"do_resize": False, "crop_size": {"height": 64, "width": 40}},  # cut and padded
    {"size": 24, "use_square_size": False, "do_center_crop": False},
    {"size": {"shortest_edge": 24}, "use_square_size": True, "crop_size": 24},
    {"size": 32, "crop_size": 32, "rescale_factor": 0.01, "image_mean": 0.5, "image_std": [0.1, 0.2, 0.3]},
    {"size": 32, "crop_size": 32, "do_normalize": False},
]
shapes = [(40, 56), (57, 38), (90, 90)]
processed = []
for config in configs:
    for width, height in shapes:
        values = CLIPImageProcessor(**config)(Image.fromarray(picture(width, height, False)), return_tensors="np")["pixel_values"]
        assert values.dtype == np.float32
        processed.append({"config": config, "from": (width, height), "shape": values.shape, "sha256": digest(values)})

path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"resized": resized, "processed": processed}, indent=1) + "\n")
