"""Runs diffusers' schedulers in configurations that tests/goldens/schedulers.safetensors does not contain, such as LCM.

    python tests/reference/schedulers.py              (torch 2.13 on the CPU, diffusers 0.23.1, safetensors, numpy < 2)
    python tests/reference/schedulers.py newer        (diffusers 0.42.1, and scipy)

Writes tests/goldens/reference/schedulers.safetensors, or schedulers_newer.safetensors for the keys that 0.23.1 does not have: per
KIND.STEPS the timesteps, the model outputs (seeded noise), the first sample, and the sample after each call (all calls in one
tensor). The note holds classes, configurations, overrides and the generator's seed. Samples are [2, 4, 2, 2]: two images, because
thresholding treats each image separately.
"""

import inspect
import json
import pathlib
import sys

import diffusers
import torch
from safetensors.torch import save_file

F32 = torch.float32
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
    "ddpm": ("DDPMScheduler", dict(**SD, clip_sample=False, steps_offset=1)),
    "ddpm_large_v": ("DDPMScheduler", dict(**SD, **V, clip_sample=False, variance_type="fixed_large", timestep_spacing="trailing")),
    "ddpm_log_clip": ("DDPMScheduler", dict(**SD, variance_type="fixed_small_log", timestep_spacing="linspace", clip_sample_range=2.0)),
    "ddpm_threshold_sample": ("DDPMScheduler", dict(**SD, **SAMPLE, **THRESHOLD)),
    "ddpm_sigmoid": ("DDPMScheduler", dict(beta_schedule="sigmoid", clip_sample=False)),
    "deis": ("DEISMultistepScheduler", dict(**SD)),
    "deis_1_trailing": ("DEISMultistepScheduler", dict(**SD, solver_order=1, timestep_spacing="trailing")),
    "deis_threshold_sample": ("DEISMultistepScheduler", dict(**SD, **SAMPLE, **THRESHOLD)),
    "deis_from_dpm": ("DEISMultistepScheduler", dict(_from="DPMSolverMultistepScheduler", **SD, solver_type="heun")),
    "k_dpm_2": ("KDPM2DiscreteScheduler", dict(**SD)),
    "k_dpm_2_karras_v": ("KDPM2DiscreteScheduler", dict(**SD, **V, use_karras_sigmas=True)),
    "k_dpm_2_leading": ("KDPM2DiscreteScheduler", dict(**SD, timestep_spacing="leading", steps_offset=1)),
    "k_dpm_2_a": ("KDPM2AncestralDiscreteScheduler", dict(**SD)),
    "k_dpm_2_a_karras_v": ("KDPM2AncestralDiscreteScheduler", dict(**SD, **V, use_karras_sigmas=True)),
    "k_dpm_2_a_trailing": ("KDPM2AncestralDiscreteScheduler", dict(**SD, timestep_spacing="trailing")),
    "singlestep": ("DPMSolverSinglestepScheduler", dict(**SD)),
    "singlestep_1_sample": ("DPMSolverSinglestepScheduler", dict(**SD, **SAMPLE, solver_order=1)),
    "singlestep_3": ("DPMSolverSinglestepScheduler", dict(**SD, solver_order=3)),
    "singlestep_3_heun_v": ("DPMSolverSinglestepScheduler", dict(**SD, **V, solver_order=3, solver_type="heun", lower_order_final=False)),
    "singlestep_2_heun_karras": ("DPMSolverSinglestepScheduler", dict(**SD, solver_type="heun", use_karras_sigmas=True)),
    "singlestep_3_noise": ("DPMSolverSinglestepScheduler", dict(**SD, solver_order=3, algorithm_type="dpmsolver")),
    "singlestep_3_noise_heun": ("DPMSolverSinglestepScheduler", dict(**SD, **V, solver_order=3, algorithm_type="dpmsolver", solver_type="heun")),
    "singlestep_threshold": ("DPMSolverSinglestepScheduler", dict(**SD, **THRESHOLD, lower_order_final=False)),
    "singlestep_cosine": ("DPMSolverSinglestepScheduler", dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)),
    # A configuration that another class wrote: what it left at its defaults is not handed on.
    "euler_from_pndm": ("EulerDiscreteScheduler", dict(_from="PNDMScheduler", **SD, skip_prk_steps=True, steps_offset=1)),
    "dpm_from_unipc": ("DPMSolverMultistepScheduler", dict(_from="UniPCMultistepScheduler", **SD, solver_type="bh1", solver_order=3)),
}

COSINE = dict(beta_schedule="squaredcos_cap_v2")
NOISE = dict(algorithm_type="dpmsolver", use_karras_sigmas=True)

# The cosine schedule has noise levels up to 2e4, by which diffusers multiplies what it has rounded to f32: its own values are up
# to 1 % off. These runs are of its formulas in f64.
# DEIS's third order takes differences of integrals, likewise.
EXACT = {
    "deis_3_v": ("DEISMultistepScheduler", dict(**SD, **V, solver_order=3, timestep_spacing="leading", steps_offset=1)),
    "deis_3_full_karras": ("DEISMultistepScheduler", dict(**SD, solver_order=3, lower_order_final=False, use_karras_sigmas=True)),
    "cosine_euler_v": ("EulerDiscreteScheduler", dict(**COSINE, **V)),
    "cosine_lms_sample": ("LMSDiscreteScheduler", dict(**COSINE, **SAMPLE, timestep_spacing="trailing")),
    "cosine_heun_sample": ("HeunDiscreteScheduler", dict(**COSINE, **SAMPLE)),
    "cosine_heun_clip_v": ("HeunDiscreteScheduler", dict(**COSINE, **V, clip_sample=True, clip_sample_range=2.0)),
    "cosine_dpm_threshold": ("DPMSolverMultistepScheduler", dict(**COSINE, **NOISE, **THRESHOLD, solver_order=1)),
    "cosine_dpm_sample": ("DPMSolverMultistepScheduler", dict(**COSINE, **NOISE, **SAMPLE, solver_order=1)),
    "cosine_unipc_sample": ("UniPCMultistepScheduler", dict(**COSINE, **SAMPLE, predict_x0=False)),
    "cosine_unipc_v": ("UniPCMultistepScheduler", dict(**COSINE, **V, predict_x0=False, solver_type="bh1")),
    "cosine_pndm_v": ("PNDMScheduler", dict(**COSINE, **V, skip_prk_steps=True)),
}

# Keys that diffusers 0.42.1 has and 0.23.1 does not.
ZERO_SNR = dict(**SD, **V, rescale_betas_zero_snr=True, timestep_spacing="trailing")
NEWER_EXACT = {
    "deis_beta": ("DEISMultistepScheduler", dict(**SD, use_beta_sigmas=True)),
    "euler_zero_snr": ("EulerDiscreteScheduler", ZERO_SNR),
    "euler_a_zero_snr": ("EulerAncestralDiscreteScheduler", ZERO_SNR),
    # 900 timesteps: later versions step to the next timestep of the run, which is a stride away where 6 divides them.
    "ddpm_zero_snr": ("DDPMScheduler", dict(**ZERO_SNR, clip_sample=False, num_train_timesteps=900)),
    "dpmpp_zero_snr": ("DPMSolverMultistepScheduler", dict(**ZERO_SNR, final_sigmas_type="sigma_min")),
    "unipc_zero_snr": ("UniPCMultistepScheduler", dict(**ZERO_SNR, final_sigmas_type="sigma_min")),
}
NEWER = {
    "euler_exponential": ("EulerDiscreteScheduler", dict(**SD, use_exponential_sigmas=True)),
    "euler_beta": ("EulerDiscreteScheduler", dict(**SD, use_beta_sigmas=True, final_sigmas_type="sigma_min")),
    "euler_bounds": ("EulerDiscreteScheduler", dict(**SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=10.0)),
    "euler_continuous": ("EulerDiscreteScheduler", dict(**SD, **V, timestep_type="continuous", use_karras_sigmas=True)),
    "heun_beta": ("HeunDiscreteScheduler", dict(**SD, use_beta_sigmas=True)),
    "lms_exponential": ("LMSDiscreteScheduler", dict(**SD, use_exponential_sigmas=True)),
    "k_dpm_2_beta": ("KDPM2DiscreteScheduler", dict(**SD, use_beta_sigmas=True)),
    "k_dpm_2_exponential": ("KDPM2DiscreteScheduler", dict(**SD, use_exponential_sigmas=True)),
    "dpmpp_final_zero": ("DPMSolverMultistepScheduler", dict(**SD, final_sigmas_type="zero", solver_order=3)),
    "dpmpp_exponential": ("DPMSolverMultistepScheduler", dict(**SD, use_exponential_sigmas=True, final_sigmas_type="zero")),
    "sde_dpmpp_beta": ("DPMSolverMultistepScheduler", dict(**SD, use_beta_sigmas=True, algorithm_type="sde-dpmsolver++", final_sigmas_type="zero")),
    "singlestep_final_zero": ("DPMSolverSinglestepScheduler", dict(**SD, final_sigmas_type="zero", lower_order_final=True)),
    "singlestep_3_beta": ("DPMSolverSinglestepScheduler", dict(**SD, use_beta_sigmas=True, final_sigmas_type="zero", solver_order=3, lower_order_final=True)),
    "unipc_final_zero": ("UniPCMultistepScheduler", dict(**SD, final_sigmas_type="zero")),
    "unipc_beta": ("UniPCMultistepScheduler", dict(**SD, use_beta_sigmas=True, final_sigmas_type="zero")),
}


def build(name, config):
    config = dict(config)
    origin = config.pop("_from", None)
    if origin:
        config = getattr(diffusers, origin).from_config(config).config
    return getattr(diffusers, name).from_config(config)


def drawn_in_f32(shape, generator=None, device=None, dtype=None, layout=None):
    return torch.randn(shape, generator=generator, dtype=F32).to(dtype)


def widen(scheduler):
    """Makes a scheduler compute in f64 on the schedule that it computed in f32, with the noise that it draws in f32."""
    for key, value in vars(scheduler).items():
        if torch.is_tensor(value) and value.dtype == F32 and key != "timesteps":
            setattr(scheduler, key, value.double())
    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = drawn_in_f32


def run(tensors, note, kind, name, config, steps, exact=False):
    """Runs a scheduler; where `exact`, in f64, for runs whose values diffusers' own rounding to f32 decides."""
    scheduler = build(name, config)
    scheduler.set_timesteps(steps)
    module = sys.modules[type(scheduler).__module__]
    was = getattr(module, "randn_tensor", None)
    dtype = torch.float64 if exact else F32
    if exact:
        widen(scheduler)
        torch.set_default_dtype(dtype)
        torch.float32 = dtype  # to which later versions cast samples
    try:
        trajectory(tensors, note, kind, name, config, steps, scheduler, dtype)
    finally:
        torch.float32 = F32
        torch.set_default_dtype(F32)
        if was:
            module.randn_tensor = was


def trajectory(tensors, note, kind, name, config, steps, scheduler, dtype):
    draws = torch.Generator().manual_seed(steps)
    def randn():
        return torch.randn(SHAPE, generator=draws, dtype=F32).to(dtype)

    sample = (randn() * scheduler.init_noise_sigma).float().to(dtype)
    generator = torch.Generator().manual_seed(NOISE_SEED)
    takes = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}

    key = f"{kind}.{steps}"
    tensors[f"{key}.sample"] = sample.float().clone()
    outputs, samples = [], []
    scaled = []
    for timestep in scheduler.timesteps:
        scaled.append(scheduler.scale_model_input(sample, timestep).float().clone())
        outputs.append(randn())
        sample = scheduler.step(outputs[-1], timestep, sample, **takes).prev_sample
        samples.append(sample.clone())
    assert all(torch.isfinite(sample).all() for sample in samples), key
    tensors[f"{key}.timesteps"] = scheduler.timesteps.double()
    tensors[f"{key}.model_outputs"] = torch.stack(outputs).float()
    tensors[f"{key}.scaled_input"] = scaled[-1]
    tensors[f"{key}.prev"] = torch.stack(samples).float()
    note[key] = {
        "class": name,
        "config": config,
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "noise_seed": NOISE_SEED if takes else None,
    }


def write(path, kinds, exact_kinds={}):
    tensors, note = {}, {}
    for kind, (name, config) in {**kinds, **exact_kinds}.items():
        # Solvers of log-SNR end runs of fewer than 15 steps in another way than longer ones. (Longer runs of Karras levels of
        # the cosine schedule repeat timesteps, from which diffusers loses its place.)
        solves = "DPMSolver" in name or "Multistep" in name
        for steps in (6,) if not solves else (4,) if kind.startswith("cosine") else (4, 16):
            run(tensors, note, kind, name, config, steps, exact=kind in exact_kinds)
    save_file(tensors, path, metadata={"note": json.dumps(note)})
    print(f"{path}: {path.stat().st_size} bytes, {len(note)} runs")


def main():
    folder = pathlib.Path(__file__).parent.parent / "goldens" / "reference"
    if "newer" in sys.argv:
        write(folder / "schedulers_newer.safetensors", NEWER, NEWER_EXACT)
    else:
        write(folder / "schedulers.safetensors", KINDS, EXACT)


if __name__ == "__main__":
    main()
