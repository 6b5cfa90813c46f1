"""
Holds one guided UNet step of a full-size model, as bench/full_size_step.ts wrote it down, against PyTorch: the same weights in float32,
on the CPU, by diffusers 0.23.1 and transformers 4.35.2.

    python tests/reference/full_size_step.py MODEL_DIRECTORY STEP.safetensors

Fails if a relative error exceeds 1e-3.
"""

import sys
import time

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel

folder, step = sys.argv[1:]
with safe_open(step, "pt") as file:
    ours = {key: file.get_tensor(key) for key in file.keys()}
    timestep, guidance = int(file.metadata()["timestep"]), float(file.metadata()["guidance"])

worst = 0.0


def compare(name, reference):
    global worst
    error = ((ours[name] - reference).norm() / reference.norm()).item()
    worst = max(worst, error)
    print(f"{name:<12} relative error {error:.2e}, standard deviation {reference.std().item():.3f}")


with torch.no_grad():
    encoder = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", torch_dtype=torch.float32)
    embeddings = encoder(ours["input_ids"].long()).last_hidden_state
    compare("embeddings", embeddings)
    del encoder
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32)
    started = time.time()
    noise = unet(torch.cat([ours["latents"]] * 2), timestep, embeddings).sample
    print(f"PyTorch's UNet on {torch.get_num_threads()} threads: {time.time() - started:.1f} s")
    compare("noise", noise)
    unconditional, conditional = noise.chunk(2)
    compare("guided", unconditional + guidance * (conditional - unconditional))

sys.exit(worst > 1e-3)
