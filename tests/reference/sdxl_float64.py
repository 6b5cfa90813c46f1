"""Writes tests/goldens/reference/sdxl_unet_float64.safetensors: what sdxl-mini's UNet computes in
float64 for the inputs of sdxl-mini.safetensors, and the outputs of its middle block.

The weights are random, and amplify rounding: diffusers' own float32 outputs, which are the goldens,
differ from these by 5.3e-5 (a) and 2.2e-5 (b).
"""

import pathlib

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

goldens = pathlib.Path(__file__).parent.parent / "goldens"
tensors = load_file(goldens / "sdxl-mini.safetensors")
unet = UNet2DConditionModel.from_pretrained(goldens / "sdxl-mini" / "unet").double()
made = {}
for letter in "ab":
    given = {name: tensors[f"unet.{letter}.{name}"] for name in ["sample", "context", "text_embeds", "time_ids"]}
    wide = {name: tensor.double() for name, tensor in given.items()}
    middle = []
    hook = unet.mid_block.register_forward_hook(lambda module, inputs, output: middle.append(output))
    with torch.no_grad():
        made[f"{letter}.out"] = unet(
            wide["sample"],
            tensors[f"unet.{letter}.timestep"][0],
            wide["context"],
            added_cond_kwargs={"text_embeds": wide["text_embeds"], "time_ids": wide["time_ids"]},
        ).sample
    hook.remove()
    made[f"{letter}.mid_block"] = middle[0]
save_file({key: value.contiguous() for key, value in made.items()}, goldens / "reference" / "sdxl_unet_float64.safetensors")
