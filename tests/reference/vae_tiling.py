"""
Records the tiled decoding of diffusers 0.23.1 for latents larger than a tile, with sd1-mini's autoencoder (tiles of 32 pixels).

    python tests/reference/vae_tiling.py    # writes tests/goldens/reference/vae_tiling.safetensors
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

goldens = Path(__file__).parent.parent / "goldens"
vae = AutoencoderKL.from_pretrained(goldens / "sd1-mini", subfolder="vae")
vae.enable_tiling()
latents = torch.randn(2, 4, 24, 37, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    decoded = vae.decode(latents).sample
save_file({"latents": latents, "decoded": decoded.contiguous()}, goldens / "reference" / "vae_tiling.safetensors")
