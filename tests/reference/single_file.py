"""
Checks this library's single files with the conversion code of diffusers 0.23.1:

    deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/sd1-mini /tmp/sd1-mini.safetensors
    deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/sd2-mini /tmp/sd2-mini.safetensors
    python tests/reference/single_file.py /tmp/sd1-mini.safetensors /tmp/sd2-mini.safetensors

Each file is converted with the functions behind `StableDiffusionPipeline.from_single_file`. The result must equal the folder
tests/goldens/NAME bit for bit. The place of each tensor in its file, as found by this conversion, is written to single_file.json in this
folder; the tests compare the library's key tables with it.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers.pipelines.stable_diffusion import convert_from_ckpt as ckpt
from safetensors.torch import load_file

here = Path(__file__).parent


class TellsWidth(dict):
    """The converter takes the text encoder's width, where it is not 1024, from a tensor that it then has no use for."""

    projection = "cond_stage_model.model.text_projection"

    def __contains__(self, key):
        return key == self.projection or super().__contains__(key)

    def __missing__(self, key):
        assert key == self.projection
        return self["cond_stage_model.model.token_embedding.weight"].T


def convert(checkpoint, folder):
    """All parts of a checkpoint under their keys in a folder."""
    config = lambda part: json.loads((folder / part / "config.json").read_text())
    if any(key.startswith("cond_stage_model.model.") for key in checkpoint):
        text = ckpt.convert_open_clip_checkpoint(TellsWidth(checkpoint), str(folder / "text_encoder"))
    else:
        from transformers import CLIPTextConfig, CLIPTextModel

        model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
        if next(iter(checkpoint.values())).dtype == torch.float64:
            model = model.double()
        text = ckpt.convert_ldm_clip_checkpoint(dict(checkpoint), text_encoder=model)
    return {
        # The converter takes the mere presence of this key for an upscaler.
        "unet": ckpt.convert_ldm_unet_checkpoint(
            dict(checkpoint), {key: value for key, value in config("unet").items() if key != "num_class_embeds"}
        ),
        "vae": ckpt.convert_ldm_vae_checkpoint(dict(checkpoint), config("vae")),
        "text_encoder": text.state_dict(),
    }


def labeled(checkpoint):
    """Tensors of the same shapes that tell by their first number which they are, and which row."""
    labels = {}
    for index, (key, tensor) in enumerate(checkpoint.items()):
        rows = tensor.shape[0] if tensor.ndim else 1
        row = torch.arange(rows, dtype=torch.float64).reshape([-1] + [1] * max(tensor.ndim - 1, 0))
        labels[key] = (index + row / 2**16).expand(tensor.shape if tensor.ndim else (1,)).clone()
    return labels


places = {}
for path in map(Path, sys.argv[1:]):
    folder = here.parent / "goldens" / path.stem
    checkpoint = load_file(path)
    keys = list(checkpoint)
    parts = convert(checkpoint, folder)
    where = convert(labeled(checkpoint), folder)
    for part, tensors in parts.items():
        base = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        expected = load_file(folder / part / f"{base}.safetensors")
        assert set(tensors) - set(expected) <= {"text_model.embeddings.position_ids"}, set(tensors) ^ set(expected)
        found = {}
        for key, tensor in sorted(expected.items()):
            assert torch.equal(tensors[key], tensor), f"{part} {key}"
            label = where[part][key].flatten()[0].item()
            row = round(label % 1 * 2**16)
            found[key] = f"{keys[int(label)]} from row {row}" if row else keys[int(label)]
        print(f"{path.stem} {part}: {len(expected)} tensors equal the folder's bit for bit")
        # UNets and autoencoders are laid out the same in 1.x and 2.x.
        name = f"{part} of {path.stem}" if part == "text_encoder" else part
        assert places.setdefault(name, found) == found, name

(here / "single_file.json").write_text(json.dumps(places, indent=0) + "\n")
