"""
Draws sdxl-mini as SDXL-Turbo and children of latent consistency are drawn: one to four steps, guidance off, trailing timesteps.

    python tests/reference/sdxl_few_steps.py

Writes sdxl_few_steps.safetensors in this folder: the latents of diffusers 0.23.1 after NAME.STEPS steps, from the seed 7, and each scheduler's
configuration in the metadata.
"""

import json
from pathlib import Path

import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler, StableDiffusionXLPipeline
from safetensors.torch import save_file

here = Path(__file__).parent
pipe = StableDiffusionXLPipeline.from_pretrained(here.parent / "goldens" / "sdxl-mini", add_watermarker=False)
pipe.set_progress_bar_config(disable=True)
base = dict(pipe.scheduler.config)
schedulers = {
    "euler": EulerDiscreteScheduler.from_config(base, timestep_spacing="trailing"),
    "euler_ancestral": EulerAncestralDiscreteScheduler.from_config(base, timestep_spacing="trailing"),
    "lcm": LCMScheduler.from_config(base),
}
latents, configs = {}, {}
for name, scheduler in schedulers.items():
    pipe.scheduler = scheduler
    configs[name] = {**dict(scheduler.config), "_class_name": type(scheduler).__name__}
    for steps in [1, 2, 4]:
        latents[f"{name}.{steps}"] = pipe(
            "a rose",
            num_inference_steps=steps,
            guidance_scale=0.0,
            height=32,
            width=32,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images.contiguous()
note = {"schedulers": {name: {k: v for k, v in config.items() if not isinstance(v, tuple)} for name, config in configs.items()}}
save_file(latents, here / "sdxl_few_steps.safetensors", metadata={"note": json.dumps(note)})
print(", ".join(sorted(latents)))
