"""Runs diffusers' schedulers in random configurations, for tests/fuzz/schedulers.ts to compare with.

    python tests/reference/scheduler_fuzz.py OUT.safetensors [COUNT] [SEED]        (as schedulers.py, also with diffusers 0.42.1)

COUNT (default 400) configurations are drawn from SEED (default 0). Configurations that diffusers itself refuses, or runs into
NaN with, are left out and counted.
"""

import inspect
import json
import random
import sys

import diffusers
import torch
from safetensors.torch import save_file
from schedulers import run

CLASSES = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
]

RANGES = {"linear": [(0.0001, 0.02), (0.00085, 0.012)], "scaled_linear": [(0.00085, 0.012)]}

OPTIONS = {
    "num_train_timesteps": [1000, 1000, 1000, 500],
    "prediction_type": ["epsilon", "epsilon", "v_prediction", "sample"],
    "timestep_spacing": ["leading", "trailing", "linspace"],
    "steps_offset": [0, 1],
    "clip_sample": [False, False, True],
    "clip_sample_range": [1.0, 2.0],
    "set_alpha_to_one": [False, True],
    "skip_prk_steps": [False, True],
    "thresholding": [False, False, True],
    "sample_max_value": [1.0, 1.5],
    "rescale_betas_zero_snr": [False, False, True],
    "interpolation_type": ["linear", "log_linear"],
    "use_karras_sigmas": [False, True],
    "use_lu_lambdas": [False, False, True],
    "solver_order": [1, 2, 3],
    "lower_order_final": [True, False],
    "euler_at_final": [False, True],
    "lambda_min_clipped": [-float("inf"), -5.1],
    "predict_x0": [True, False],
    "disable_corrector": [[], [0], [1, 2]],
    "original_inference_steps": [50, 100],
}

# Classes that later versions run otherwise: they draw less noise, step to the next timestep of the run, or end it otherwise.
OLDER = {
    "DDPMScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
}

BY_CLASS = {
    "DPMSolverMultistepScheduler": {
        "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"],
        "solver_type": ["midpoint", "heun"],
    },
    "DPMSolverSinglestepScheduler": {
        "algorithm_type": ["dpmsolver++", "dpmsolver"],
        "solver_type": ["midpoint", "heun"],
    },
    "UniPCMultistepScheduler": {"solver_type": ["bh1", "bh2"]},
    "DDPMScheduler": {"variance_type": ["fixed_small", "fixed_small_log", "fixed_large"]},
}


def draw(choose, name):
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    config = {"beta_schedule": choose.choice(["linear", "scaled_linear", "squaredcos_cap_v2"])}
    if config["beta_schedule"] in RANGES:
        config["beta_start"], config["beta_end"] = choose.choice(RANGES[config["beta_schedule"]])
    options = {**OPTIONS, **BY_CLASS.get(name, {})}
    for key, values in options.items():
        if key in known:
            config[key] = choose.choice(values)
    if "use_beta_sigmas" in known:  # diffusers 0.42.1
        spacing = choose.choice([None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])
        config = {key: value for key, value in config.items() if key not in ("use_karras_sigmas", "use_lu_lambdas")}
        config.update({spacing: True} if spacing else {})
        if "final_sigmas_type" in known:
            noisy = config.get("algorithm_type", "").endswith("dpmsolver")
            config["final_sigmas_type"] = "sigma_min" if noisy else choose.choice(["zero", "sigma_min"])
        if "timestep_type" in known:
            config["timestep_type"] = choose.choice(["discrete", "continuous"])
    if config.get("algorithm_type", "").startswith("sde-"):
        config["solver_order"] = min(config["solver_order"], 2)
    if config.get("rescale_betas_zero_snr") and config["prediction_type"] == "epsilon":
        config["prediction_type"] = "v_prediction"
    return config


def exact_root(values):
    return torch.sqrt(values.double()).to(values.dtype)


def main(path, count=400, seed=0):
    choose = random.Random(seed)
    is_older = diffusers.__version__ == "0.23.1"
    classes = [name for name in CLASSES if is_older or name not in OLDER]
    tensors, note, skipped = {}, {}, {}
    for i in range(count):
        name = classes[i % len(classes)]
        config = draw(choose, name)
        steps = choose.choice([1, 2, 3, 4, 5, 8, 13, 16, 20, 25, 30])
        try:
            run(tensors, note, f"{i}", name, config, steps)
            exact = {}
            run(exact, {}, f"{i}", name, config, steps, exact=True)
            tensors[f"{i}.{steps}.exact"] = exact[f"{i}.{steps}.prev"]
        except (AssertionError, ValueError, NotImplementedError, IndexError, RuntimeError, UnboundLocalError, KeyError) as error:
            reason = f"{name}: {type(error).__name__}"
            skipped[reason] = skipped.get(reason, 0) + 1
            for key in [key for key in tensors if key.startswith(f"{i}.")]:
                del tensors[key]
    save_file(tensors, path, metadata={"note": json.dumps(note)})
    print(f"{path}: {len(note)} runs")
    for reason, times in sorted(skipped.items()):
        print(f"left out {times}: {reason}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    # MKL's square root is off by one unit in the last place for one value in five. Rescaling to zero terminal SNR takes it of
    # values next to 1, and 1 − ᾱ of the first timesteps is then off by 0.1 %; σ_down of ancestral samplers cancels likewise.
    torch.Tensor.sqrt = exact_root
    power = torch.Tensor.__pow__
    torch.Tensor.__pow__ = lambda values, exponent: exact_root(values) if exponent == 0.5 else power(values, exponent)
    main(sys.argv[1], *map(int, sys.argv[2:]))
