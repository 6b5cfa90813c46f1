"""Draws latents with sd1-mini and scheduler configurations of its model folder that are new or outdated.

    python tests/reference/scheduler_pipelines.py        (as schedulers.py)

Writes tests/goldens/reference/scheduler_pipelines.safetensors: per case the latents [1, 4, h, w] after 4 steps with guidance 5 and
Generator(7). The note holds each case's scheduler class (of model_index.json), scheduler_config.json, how many configurations were
repaired, and what the pipeline's scheduler then has.
"""

import json
import pathlib
import shutil
import tempfile
import warnings

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
GOOD = dict(**SD, steps_offset=1, clip_sample=False)

CASES = {
    "ddpm": ("DDPMScheduler", GOOD),
    "deis": ("DEISMultistepScheduler", GOOD),
    "k_dpm_2": ("KDPM2DiscreteScheduler", GOOD),
    "k_dpm_2_ancestral": ("KDPM2AncestralDiscreteScheduler", GOOD),
    "singlestep": ("DPMSolverSinglestepScheduler", GOOD),
    "clip_sample_missing": ("DDIMScheduler", dict(_class_name="DDIMScheduler", **SD)),
    "clip_sample_true": ("DDPMScheduler", dict(_class_name="DDPMScheduler", **SD, clip_sample=True, steps_offset=1)),
    "steps_offset_0": ("PNDMScheduler", dict(_class_name="PNDMScheduler", **SD, skip_prk_steps=True, steps_offset=0)),
    "steps_offset_missing": ("PNDMScheduler", dict(_class_name="PNDMScheduler", **SD, skip_prk_steps=True)),
    "class_of_index": ("DDIMScheduler", dict(_class_name="PNDMScheduler", **GOOD, set_alpha_to_one=False, skip_prk_steps=True)),
    "keys_of_others": ("EulerDiscreteScheduler", dict(_class_name="DDIMScheduler", **SD, clip_sample=True, steps_offset=0)),
    "lcm_defaults": ("LCMScheduler", dict(_class_name="LCMScheduler", **SD)),
}


def main():
    tensors, note = {}, {}
    for name, (class_name, config) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model"
            shutil.copytree(GOLDENS / "sd1-mini", model)
            index = json.loads((model / "model_index.json").read_text())
            index["scheduler"] = ["diffusers", class_name]
            (model / "model_index.json").write_text(json.dumps(index))
            (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pipe = StableDiffusionPipeline.from_pretrained(model)
            pipe.set_progress_bar_config(disable=True)
            result = pipe(
                "a field of roses",
                num_inference_steps=4,
                guidance_scale=5.0,
                generator=torch.Generator().manual_seed(7),
                output_type="latent",
            )
        tensors[name] = result.images.contiguous()
        note[name] = {
            "class": class_name,
            "config": config,
            "repaired": sum("configuration file of this scheduler" in str(one.message) for one in caught),
            "has": {key: pipe.scheduler.config[key] for key in ("clip_sample", "steps_offset") if key in pipe.scheduler.config},
        }
    path = GOLDENS / "reference" / "scheduler_pipelines.safetensors"
    save_file(tensors, path, metadata={"note": json.dumps(note)})
    print(f"{path}: {path.stat().st_size} bytes, {len(note)} cases")


if __name__ == "__main__":
    main()
