"""
Creates two small random models whose architectures the mini models do not cover, and records what diffusers 0.23.1 computes with them:

- tests/goldens/tiny-sd/unet: a UNet without a middle block and with one layer a block, as tiny-sd has them (weights rounded to f16)
- tests/goldens/tiny-vae: an AutoencoderTiny (TAESD) of 16 channels (weights rounded to f16)
- tests/goldens/small_models.safetensors: their outputs, and latents drawn by sd1-mini with that UNet

    python tests/reference/small_models.py
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

goldens = Path(__file__).parent.parent / "goldens"
torch.manual_seed(0)


def rounded(model: torch.nn.Module) -> torch.nn.Module:
    """Rounds weights to values that f16 represents exactly."""
    return model.half().float().eval()


def save(model, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    config = {"_class_name": type(model).__name__, "_diffusers_version": "0.23.1", **config}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


blocks = 3
unet = rounded(
    UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32, 48), layers_per_block=1, cross_attention_dim=48, attention_head_dim=4,
        norm_num_groups=8, mid_block_type=None,
        down_block_types=("CrossAttnDownBlock2D",) * blocks, up_block_types=("CrossAttnUpBlock2D",) * blocks,
    )
)
save(unet, goldens / "tiny-sd" / "unet")
tiny = rounded(
    AutoencoderTiny(
        encoder_block_out_channels=(16,) * 3, decoder_block_out_channels=(16,) * 3, num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1)
    )
)
save(tiny, goldens / "tiny-vae")

generator = torch.Generator().manual_seed(1)
out = {}
with torch.no_grad():
    for name, (height, width) in {"even": (16, 16), "odd": (12, 20)}.items():
        sample = torch.randn(2, 4, height, width, generator=generator)
        context = torch.randn(2, 9, 48, generator=generator)
        out |= {f"unet.{name}.sample": sample, f"unet.{name}.context": context, f"unet.{name}.out": unet(sample, 601, context).sample}
    pipe = StableDiffusionPipeline.from_pretrained(goldens / "sd1-mini", unet=unet, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    start = torch.randn(1, 4, 16, 16, generator=generator)
    drawn = pipe("a field of roses", latents=start.clone(), num_inference_steps=3, guidance_scale=5.0, output_type="latent").images
    out |= {"pipe.start": start, "pipe.latents": drawn}
    latents = 3 * torch.randn(2, 4, 8, 10, generator=generator)
    picture = torch.rand(1, 3, 24, 32, generator=generator) * 2 - 1
    out |= {"tiny.latents": latents, "tiny.decoded": tiny.decode(latents).sample}
    out |= {"tiny.picture": picture, "tiny.encoded": tiny.encode(picture).latents}
    # all 256 values of the 8-bit floats, as float32
    every = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for name, dtype in {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}.items():
        out[f"float8.{name}"] = every.view(dtype).float()
save_file({key: value.contiguous() for key, value in out.items()}, goldens / "small_models.safetensors", metadata={"note": json.dumps({"prompt": "a field of roses", "steps": 3, "guidance": 5})})
print({key: tuple(value.shape) for key, value in out.items()}, out["tiny.decoded"].abs().max(), out["unet.even.out"].std())
