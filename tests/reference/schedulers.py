"""Runs diffusers' schedulers in configurations that tests/goldens/schedulers.safetensors does not contain, such as LCM.

    python tests/reference/schedulers.py        (torch 2.13 on the CPU, diffusers 0.23.1, safetensors, numpy < 2)

Writes tests/goldens/reference/schedulers.safetensors: per KIND.STEPS the timesteps, the model outputs (seeded noise), the
first sample, and the sample after each call (all calls in one tensor). The note holds classes, configurations, overrides and the
generator's seed. Samples are [2, 4, 2, 2]: two images, because thresholding treats each image separately.
"""

import inspect
import json
import pathlib

import diffusers
import torch
from safetensors.torch import save_file

SHAPE = (2, 4, 2, 2)
NOISE_SEED = 11
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
V = dict(prediction_type="v_prediction")
SAMPLE = dict(prediction_type="sample")
THRESHOLD = dict(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)

KINDS = {
    "lcm": ("LCMScheduler", dict()),
    "lcm_v": ("LCMScheduler", dict(**V, original_inference_steps=100, timestep_scaling=5.0)),
    "lcm_clip": ("LCMScheduler", dict(clip_sample=True)),
    "ddim_linspace_cosine": ("DDIMScheduler", dict(beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace", clip_sample=False)),
    "ddim_zero_snr": ("DDIMScheduler", dict(**SD, **V, clip_sample=False, timestep_spacing="trailing", rescale_betas_zero_snr=True)),
    "ddim_threshold": ("DDIMScheduler", dict(**SD, **THRESHOLD)),
    "ddim_sample": ("DDIMScheduler", dict(**SD, **SAMPLE, clip_sample=False)),
    "pndm_v": ("PNDMScheduler", dict(**SD, **V, skip_prk_steps=True, steps_offset=1)),
    "pndm_prk_trailing_v": ("PNDMScheduler", dict(**SD, **V, timestep_spacing="trailing", set_alpha_to_one=True)),
    "lms_v_leading": ("LMSDiscreteScheduler", dict(**SD, **V, timestep_spacing="leading", steps_offset=1)),
    "lms_sample": ("LMSDiscreteScheduler", dict(**SD, **SAMPLE)),
    "euler_trailing": ("EulerDiscreteScheduler", dict(**SD, timestep_spacing="trailing")),
    "euler_leading_sample": ("EulerDiscreteScheduler", dict(**SD, **SAMPLE, timestep_spacing="leading")),
    "euler_log_linear": ("EulerDiscreteScheduler", dict(**SD, interpolation_type="log_linear")),
    "euler_a_v": ("EulerAncestralDiscreteScheduler", dict(**SD, **V, timestep_spacing="trailing")),
    "heun_karras_v": ("HeunDiscreteScheduler", dict(**SD, **V, use_karras_sigmas=True)),
    "heun_clip": ("HeunDiscreteScheduler", dict(clip_sample=True)),
    "heun_sample_leading": ("HeunDiscreteScheduler", dict(**SD, **SAMPLE, timestep_spacing="leading")),
    "heun_exp": ("HeunDiscreteScheduler", dict(beta_schedule="exp")),
    "dpmpp_1": ("DPMSolverMultistepScheduler", dict(**SD, solver_order=1)),
    "dpmpp_3": ("DPMSolverMultistepScheduler", dict(**SD, solver_order=3)),
    "dpmpp_heun_leading": ("DPMSolverMultistepScheduler", dict(**SD, solver_type="heun", timestep_spacing="leading", steps_offset=1)),
    "dpmpp_threshold": ("DPMSolverMultistepScheduler", dict(**SD, **THRESHOLD)),
    "dpmpp_euler_final": ("DPMSolverMultistepScheduler", dict(**SD, lower_order_final=False, euler_at_final=True, timestep_spacing="trailing")),
    "dpmpp_lu": ("DPMSolverMultistepScheduler", dict(**SD, use_lu_lambdas=True)),
    "dpmpp_cosine": ("DPMSolverMultistepScheduler", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)),
    "dpm_2": ("DPMSolverMultistepScheduler", dict(**SD, algorithm_type="dpmsolver")),
    "dpm_2_heun_sample": ("DPMSolverMultistepScheduler", dict(**SD, **SAMPLE, algorithm_type="dpmsolver", solver_type="heun")),
    "dpm_3_v": ("DPMSolverMultistepScheduler", dict(**SD, **V, algorithm_type="dpmsolver", solver_order=3)),
    "dpm_threshold": ("DPMSolverMultistepScheduler", dict(**SD, **THRESHOLD, algorithm_type="dpmsolver")),
    "sde_dpmpp": ("DPMSolverMultistepScheduler", dict(**SD, algorithm_type="sde-dpmsolver++")),
    "sde_dpmpp_heun": ("DPMSolverMultistepScheduler", dict(**SD, algorithm_type="sde-dpmsolver++", solver_type="heun")),
    "sde_dpm": ("DPMSolverMultistepScheduler", dict(**SD, algorithm_type="sde-dpmsolver")),
    "sde_dpm_heun": ("DPMSolverMultistepScheduler", dict(**SD, algorithm_type="sde-dpmsolver", solver_type="heun")),
    "unipc_bh1": ("UniPCMultistepScheduler", dict(**SD, solver_type="bh1")),
    "unipc_3": ("UniPCMultistepScheduler", dict(**SD, solver_order=3, disable_corrector=[0, 2])),
    "unipc_noise_v": ("UniPCMultistepScheduler", dict(**SD, **V, predict_x0=False, timestep_spacing="trailing")),
    "unipc_noise_3": ("UniPCMultistepScheduler", dict(**SD, predict_x0=False, solver_order=3, lower_order_final=False)),
    "unipc_karras": ("UniPCMultistepScheduler", dict(**SD, use_karras_sigmas=True)),
    "unipc_threshold": ("UniPCMultistepScheduler", dict(**SD, **THRESHOLD, timestep_spacing="leading")),
    # A configuration that another class wrote: what it left at its defaults is not handed on.
    "euler_from_pndm": ("EulerDiscreteScheduler", dict(_from="PNDMScheduler", **SD, skip_prk_steps=True, steps_offset=1)),
    "dpm_from_unipc": ("DPMSolverMultistepScheduler", dict(_from="UniPCMultistepScheduler", **SD, solver_type="bh1", solver_order=3)),
}


def build(name, config):
    config = dict(config)
    origin = config.pop("_from", None)
    if origin:
        config = getattr(diffusers, origin).from_config(config).config
    return getattr(diffusers, name).from_config(config)


def run(tensors, note, kind, name, config, steps):
    scheduler = build(name, config)
    scheduler.set_timesteps(steps)
    draws = torch.Generator().manual_seed(steps)
    sample = torch.randn(SHAPE, generator=draws) * scheduler.init_noise_sigma
    generator = torch.Generator().manual_seed(NOISE_SEED)
    takes = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}

    key = f"{kind}.{steps}"
    tensors[f"{key}.sample"] = sample.clone()
    outputs, samples = [], []
    scaled = []
    for timestep in scheduler.timesteps:
        scaled.append(scheduler.scale_model_input(sample, timestep).clone())
        outputs.append(torch.randn(SHAPE, generator=draws))
        sample = scheduler.step(outputs[-1], timestep, sample, **takes).prev_sample
        samples.append(sample.clone())
    assert all(torch.isfinite(sample).all() for sample in samples), key
    tensors[f"{key}.timesteps"] = scheduler.timesteps.double()
    tensors[f"{key}.model_outputs"] = torch.stack(outputs)
    tensors[f"{key}.scaled_input"] = scaled[-1]
    tensors[f"{key}.prev"] = torch.stack(samples)
    note[key] = {
        "class": name,
        "config": config,
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "noise_seed": NOISE_SEED if takes else None,
    }


def main():
    tensors, note = {}, {}
    for kind, (name, config) in KINDS.items():
        # Solvers of log-SNR end runs of fewer than 15 steps in another way than longer ones.
        for steps in (4, 16) if "DPM" in name or "UniPC" in name else (6,):
            run(tensors, note, kind, name, config, steps)
    path = pathlib.Path(__file__).parent.parent / "goldens" / "reference" / "schedulers.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata={"note": json.dumps(note)})
    print(f"{path}: {path.stat().st_size} bytes, {len(note)} runs")


main()
