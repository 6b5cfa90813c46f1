"""
Draws the picture that `bluerose doctor` compares with, by diffusers 0.23.1 on the CPU in float32: bench/doctor/rose.png.

    python tests/reference/doctor.py
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

root = Path(__file__).parent.parent.parent
pipe = StableDiffusionPipeline.from_pretrained(root / "models" / "pocket", torch_dtype=torch.float32, safety_checker=None)
generator = torch.Generator().manual_seed(1)
# prompt, steps, guidance and seed as bench/doctor/picture.ts has them
[image] = pipe("a field of roses", num_inference_steps=8, guidance_scale=5.0, generator=generator, output_type="np").images
Image.fromarray((image * 255).round().astype("uint8")).save(root / "bench" / "doctor" / "rose.png", optimize=True)
