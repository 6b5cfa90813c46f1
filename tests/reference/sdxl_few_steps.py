"""
Draws sdxl-mini as SDXL-Turbo and children of latent consistency are drawn: one to four steps, guidance off, trailing timesteps; and, as "distilled", a UNet
that is conditioned on the guidance scale, here 8.

    python tests/reference/sdxl_few_steps.py

Writes sdxl_few_steps.safetensors in this folder: the latents of diffusers 0.23.1 after NAME.STEPS steps, from the seed 7, and each scheduler's
configuration in the metadata.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
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


def draw(name, guidance):
    for steps in [1, 2, 4]:
        latents[f"{name}.{steps}"] = pipe(
            "a rose",
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=32,
            width=32,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images.contiguous()


for name, scheduler in schedulers.items():
    pipe.scheduler = scheduler
    configs[name] = {**dict(scheduler.config), "_class_name": type(scheduler).__name__}
    draw(name, 0.0)

# A UNet that is conditioned on the guidance scale.
torch.manual_seed(11)
distilled = UNet2DConditionModel.from_config({**pipe.unet.config, "time_cond_proj_dim": 10})
own = distilled.state_dict()
key = "time_embedding.cond_proj.weight"
latents[key] = own[key].clone()
distilled.load_state_dict({**pipe.unet.state_dict(), key: own[key]})
pipe.register_modules(unet=distilled.eval())
draw("distilled", 8.0)
note = {"schedulers": {name: {k: v for k, v in config.items() if not isinstance(v, tuple)} for name, config in configs.items()}}
save_file(latents, here / "sdxl_few_steps.safetensors", metadata={"note": json.dumps(note)})
print(", ".join(sorted(latents)))
