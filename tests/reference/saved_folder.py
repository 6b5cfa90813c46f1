"""
Loads folders that this library saved with diffusers 0.23.1, and records the latents for the library's tests:

    for model in sd1-mini sd2-mini; do
      deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/$model /tmp/saved/$model.plain
      deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/$model /tmp/saved/$model.edited \
        --source "A pack of roses" --destination "A pack of blue roses"
      deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/$model /tmp/saved/$model.f16 --dtype f16 \
        --source "A pack of roses" --destination "A pack of blue roses"
    done
    python tests/reference/saved_folder.py /tmp/saved

Each folder is loaded unchanged, with its own scheduler, and run on the prompts and latents of the goldens. Writes the latents to
saved_folder.safetensors, and the contents of the folders to saved_folder.json.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import save_file

here = Path(__file__).parent
steps, guidance = 4, 5.0
latents, figures = {}, {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    model = folder.name.split(".")[0]
    with safe_open(here.parent / "goldens" / f"{model}.safetensors", "pt") as goldens:
        start = goldens.get_tensor("pipe.latents")
        prompts = json.loads(goldens.metadata()["note"])["prompts"]
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    with safe_open(next((folder / "unet").glob("*.safetensors")), "pt") as file:
        stored = {str(file.get_slice(key).get_dtype()) for key in file.keys()}
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        drawn = pipe(
            prompts, latents=start, num_inference_steps=steps, guidance_scale=guidance, output_type="latent"
        ).images
    latents[folder.name] = drawn.contiguous()
    figures[folder.name] = {
        "scheduler": type(pipe.scheduler).__name__,
        "unet_dtypes": sorted(stored),
        "norm": drawn.norm().item(),
    }

for name, drawn in latents.items():
    plain = latents[f"{name.split('.')[0]}.plain"]
    figures[name]["change from plain"] = ((drawn - plain).norm() / plain.norm()).item()
save_file(latents, here / "saved_folder.safetensors")
(here / "saved_folder.json").write_text(json.dumps({"steps": steps, "guidance": guidance, "folders": figures}, indent=2) + "\n")
print(json.dumps(figures, indent=2))
