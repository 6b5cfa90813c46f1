"""Checks that exported edits, loaded into diffusers as LoRAs, generate the same pictures as the edited model.

    deno run --allow-read --allow-write tests/reference/export_loras.ts FOLDER
    OMP_NUM_THREADS=1 python tests/reference/lora_in_diffusers.py FOLDER

Loads each LoRA into the unedited mini model, runs 7 guided DDIM steps (SDXL: 6 of its own Euler), and compares the latents with those of the
edited model in the golden file (weights edited by the authors' formula). Relative errors with torch 2.13.0, diffusers 0.23.1, transformers 4.35.2 and peft 0.6.2:

    sd1-mini   no LoRA 3.2e-1   kohya f32 2.1e-6   diffusers f32 2.1e-6   kohya f16 4.5e-4
    sd2-mini   no LoRA 4.7e-1   kohya f32 3.1e-6   diffusers f32 3.1e-6   kohya f16 6.9e-4
    sdxl-mini  no LoRA 6.1e-2   kohya f32 9.5e-7   diffusers f32 9.5e-7   kohya f16 9.5e-5

The export itself reports a rounding error of 2.1e-4 for the f16 files.

The LoRAs of an edit withPooled are compared with the folder that it is baked into:

    pooled     no LoRA 7.2e-2   diffusers f32 8.8e-7   kohya f32 1.4e-2

diffusers 0.23.1 knows no kohya name of add_embedding.linear_1, says so, and draws with the rest of the kohya file.
"""

import glob
import json
import os
import sys

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, safe_open

folder = sys.argv[1]
goldens = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "goldens")



def pooled_latent(path, lora=None):
    pipe = StableDiffusionXLPipeline.from_pretrained(path, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(lora)
    generator = torch.Generator().manual_seed(1)
    return pipe(["A field of roses"], num_inference_steps=4, output_type="latent", generator=generator).images


baked = pooled_latent(os.path.join(folder, "pooled"))
for lora in [None] + sorted(glob.glob(os.path.join(folder, "pooled.*.safetensors"))):
    latent = pooled_latent(os.path.join(goldens, "sdxl-mini"), lora)
    error = ((latent - baked).norm() / baked.norm()).item()
    print(f"pooled     {os.path.basename(lora) if lora else 'no LoRA':40} {error:.1e}", flush=True)

for name in ["sd1-mini", "sd2-mini", "sdxl-mini"]:
    is_xl = name == "sdxl-mini"
    file = os.path.join(goldens, name + ".safetensors")
    tensors = load_file(file)
    note = json.loads(safe_open(file, "pt").metadata()["note"])
    edited = tensors["pipe.euler.edited.latent" if is_xl else "pipe.ddim.edited.latent"]
    for lora in [None] + sorted(glob.glob(os.path.join(folder, name + ".*.safetensors"))):
        path = os.path.join(goldens, name)
        if is_xl:
            pipe = StableDiffusionXLPipeline.from_pretrained(path, add_watermarker=False)
        else:
            pipe = StableDiffusionPipeline.from_pretrained(path, safety_checker=None)
            pipe.scheduler = DDIMScheduler.from_config(note["schedulers"]["ddim"]["config"])
        pipe.set_progress_bar_config(disable=True)
        if lora:
            pipe.load_lora_weights(lora)
        latent = pipe(
            note["prompts"],
            num_inference_steps=note["steps"],
            guidance_scale=note["guidance"],
            latents=tensors["pipe.latents"].clone(),
            output_type="latent",
        ).images
        error = ((latent - edited).norm() / edited.norm()).item()
        print(f"{name:10} {os.path.basename(lora) if lora else 'no LoRA':40} {error:.1e}", flush=True)
