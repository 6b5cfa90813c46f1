"""
Loads a single file of SDXL that this library wrote with the real `StableDiffusionXLPipeline.from_single_file` of diffusers 0.23.1, and draws:

    deno run --allow-read --allow-write tests/reference/save.ts tests/goldens/sdxl-mini /tmp/sdxl-mini.safetensors
    python tests/reference/sdxl_single_file.py /tmp/sdxl-mini.safetensors

It needs omegaconf 2.3 or later. The latents must equal the golden ones, which diffusers drew from the folder, to 1e-4. The place of each tensor
in its file, as found by this conversion, is written to sdxl_single_file.json in this folder; the tests compare the library's key tables with it.

Two things stand in for the network and for the size of the published model. The original configuration (sd_xl_base.yaml) is written here with
sdxl-mini's sizes. The tokenizers and the text encoders' configurations, which diffusers takes from the hub, are sdxl-mini's. What that
configuration cannot say (diffusers fixes the groups of normalizations at 32) is patched into what diffusers makes of it.

    sdxl-mini: latents equal the golden to 0.0e+00
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers.pipelines.stable_diffusion import convert_from_ckpt as ckpt
from safetensors.torch import load_file, safe_open, save_file

here = Path(__file__).parent
folder = here.parent / "goldens" / "sdxl-mini"
config = lambda part: json.loads((folder / part / "config.json").read_text())
unet, vae = config("unet"), config("vae")
clip, openclip = "openai/clip-vit-large-patch14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"

original = {
    "model": {
        "params": {
            "scale_factor": vae["scaling_factor"],
            "network_config": {
                "params": {
                    "adm_in_channels": unet["projection_class_embeddings_input_dim"],
                    "num_classes": "sequential",
                    "in_channels": 4,
                    "out_channels": 4,
                    "model_channels": unet["block_out_channels"][0],
                    "attention_resolutions": [4, 2],
                    "num_res_blocks": unet["layers_per_block"],
                    "channel_mult": [width // unet["block_out_channels"][0] for width in unet["block_out_channels"]],
                    "num_head_channels": unet["block_out_channels"][0] // unet["attention_head_dim"][0],
                    "use_linear_in_transformer": True,
                    "transformer_depth": unet["transformer_layers_per_block"],
                    "context_dim": 2048,  # by which diffusers recognizes SDXL
                }
            },
            "first_stage_config": {
                "params": {
                    "embed_dim": 4,
                    "ddconfig": {
                        "z_channels": 4,
                        "resolution": 256,
                        "in_channels": 3,
                        "out_ch": 3,
                        "ch": vae["block_out_channels"][0],
                        "ch_mult": [width // vae["block_out_channels"][0] for width in vae["block_out_channels"]],
                        "num_res_blocks": vae["layers_per_block"],
                    },
                }
            },
        }
    }
}


def patched(owner, name, change):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: change(real(*args, **options)))


own = {key: unet[key] for key in ["norm_num_groups", "addition_time_embed_dim", "cross_attention_dim", "sample_size"]}
patched(ckpt, "create_unet_diffusers_config", lambda made: {**made, **own})
patched(ckpt, "create_vae_diffusers_config", lambda made: {**made, "norm_num_groups": vae["norm_num_groups"]})


def local(kind, names):
    real = kind.from_pretrained
    # diffusers names the projection's width, which is the published model's.
    kind.from_pretrained = lambda name, *args, local_files_only=None, projection_dim=None, **options: real(
        str(folder / names[name]), *args, **options
    )


local(ckpt.CLIPTextConfig, {clip: "text_encoder", openclip: "text_encoder_2"})
local(ckpt.CLIPTokenizer, {clip: "tokenizer", openclip: "tokenizer_2"})


def load(path):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(original, file)  # JSON is YAML
        file.flush()
        return StableDiffusionXLPipeline.from_single_file(str(path), original_config_file=file.name)


def labeled(path):
    """The same file with values that tell by their first number which tensor they are, and which row (or column)."""
    labels = {}
    tensors = load_file(path)
    for index, (key, tensor) in enumerate(tensors.items()):
        row = torch.arange(tensor.shape[0], dtype=torch.float32).reshape([-1] + [1] * (tensor.ndim - 1))
        labels[key] = (index + row / 2**12).expand(tensor.shape).contiguous()
    return list(tensors), labels


path = Path(sys.argv[1])
pipe = load(path)
pipe.scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler")
pipe.watermark = None
pipe.set_progress_bar_config(disable=True)
file = str(folder) + ".safetensors"
goldens, note = load_file(file), json.loads(safe_open(file, "pt").metadata()["note"])
latent = pipe(
    note["prompts"],
    num_inference_steps=note["steps"],
    guidance_scale=note["guidance"],
    latents=goldens["pipe.latents"].clone(),
    output_type="latent",
).images
wanted = goldens["pipe.euler.latent"]
error = ((latent - wanted).norm() / wanted.norm()).item()
print(f"sdxl-mini: latents equal the golden to {error:.1e}")
assert error <= 1e-4

keys, labels = labeled(path)
with tempfile.NamedTemporaryFile(suffix=".safetensors") as temporary:
    save_file(labels, temporary.name)
    where = load(temporary.name)
places = {}
for part in ["unet", "vae", "text_encoder", "text_encoder_2"]:
    base = "model" if part.startswith("text") else "diffusion_pytorch_model"
    expected = load_file(folder / part / f"{base}.safetensors")
    real, found = getattr(pipe, part).state_dict(), getattr(where, part).state_dict()
    places[part] = {}
    for key, tensor in sorted(expected.items()):
        assert torch.equal(real[key], tensor), f"{part} {key}"
        label = found[key].flatten()[0].item()
        row = round(label % 1 * 2**12)
        places[part][key] = f"{keys[int(label)]} from row {row}" if row else keys[int(label)]
    print(f"sdxl-mini {part}: {len(expected)} tensors equal the folder's bit for bit")
(here / "sdxl_single_file.json").write_text(json.dumps(places, indent=0) + "\n")
