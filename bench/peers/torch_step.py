"""A guided UNet step of a diffusers folder in PyTorch (diffusers and transformers), beside the bench's own."""

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from torch_places import place, serve, timed_ms

unet = embeddings = run = noise = None
folder = settings = None


def relative_difference(ours, reference):
    reference = reference.float().cpu()
    return ((ours.view(reference.shape) - reference).norm() / reference.norm()).item()


def answer(question, floats):
    global folder, settings, unet, embeddings, noise, run
    if "folder" in question:
        folder, settings = question["folder"], place(question)
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=settings["dtype"])
        unet.to(settings["device"])
        encoder = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", torch_dtype=settings["dtype"])
        encoder.to(settings["device"])
        embeddings = encoder(torch.tensor(question["ids"], device=settings["device"])).last_hidden_state
        return {"difference": relative_difference(floats[0], embeddings)}
    if "timestep" in question:
        side = question["side"]
        latents = floats[0].view(1, 4, side, side).to(**settings)

        def step():
            global noise
            noise = unet(torch.cat([latents] * 2), question["timestep"], embeddings).sample

        run = step
        return {}
    if "runs" in question:
        return {"ms": timed_ms(run, question["runs"])}
    return {"difference": relative_difference(floats[0], noise)}


serve(answer)
