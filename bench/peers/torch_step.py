"""A guided UNet step of a diffusers folder in PyTorch (diffusers and transformers), beside the bench's own."""

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from torch_places import place, serve, timed_ms

unet = embeddings = pooled = run = noise = None
folder = settings = None


def relative_difference(ours, reference):
    reference = reference.float().cpu()
    return ((ours.view(reference.shape) - reference).norm() / reference.norm()).item()


def encode(folder, part, ids, settings, model=CLIPTextModel):
    """The last states, the penultimate ones and the pooled embedding; the encoder is freed."""
    encoder = model.from_pretrained(f"{folder}/{part}", torch_dtype=settings["dtype"]).to(settings["device"])
    out = encoder(torch.tensor(ids, device=settings["device"]), output_hidden_states=True)
    return out.last_hidden_state, out.hidden_states[-2], out[0]


def answer(question, floats):
    global folder, settings, unet, embeddings, pooled, noise, run
    if "folder" in question:
        folder, settings = question["folder"], place(question)
        embeddings, penultimate, _ = encode(folder, "text_encoder", question["ids"], settings)
        if "ids2" in question:
            model = CLIPTextModelWithProjection
            _, second, pooled = encode(folder, "text_encoder_2", question["ids2"], settings, model)
            embeddings = torch.cat([penultimate, second], -1)
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=settings["dtype"])
        unet.to(settings["device"])
        return {"difference": max(map(relative_difference, floats, [embeddings, pooled]))}
    if "timestep" in question:
        side = question["side"]
        latents = floats[0].view(1, 4, side, side).to(**settings)
        added = None
        if "timeIds" in question:
            added = {"text_embeds": pooled, "time_ids": torch.tensor([question["timeIds"]] * 2, **settings)}

        def step():
            global noise
            both = torch.cat([latents] * 2)
            noise = unet(both, question["timestep"], embeddings, added_cond_kwargs=added).sample

        run = step
        return {}
    if "runs" in question:
        return {"ms": timed_ms(run, question["runs"])}
    return {"difference": relative_difference(floats[0], noise)}


serve(answer)
