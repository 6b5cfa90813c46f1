"""
Writes LoRA files in LyCORIS' and PEFT's forms, and the changes of weights that the real libraries make of them:

    pip install torch==2.13.0 lycoris-lora==4.1.3 peft==0.21.2 safetensors   # and what they need
    python tests/reference/lora_forms.py

Each file in tests/goldens/faults is a LoRA for tests/goldens/sd1-mini. Its values are tensors `MODEL.PATH.weight` and `MODEL.PATH.bias` of
NAME_expected.safetensors: what the adapted layer adds at strength 1. They are measured: the adapted layer is run on unit inputs, in float64,
and the unadapted layer's output is taken away. `peft_config/` has an adapter_config.json with patterns beside it.
"""

import json
from pathlib import Path

import torch
from lycoris.functional.lokr import kron_weight
from lycoris.modules.full import FullModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
goldens = Path(__file__).parent.parent / "goldens"
out = goldens / "faults"
base = {
    "unet": load_file(goldens / "sd1-mini/unet/diffusion_pytorch_model.safetensors"),
    "te": load_file(goldens / "sd1-mini/text_encoder/model.safetensors"),
}
generator = torch.Generator().manual_seed(13)


def random(*shape, size=0.3):
    """Values that float32 holds."""
    return (torch.randn(*shape, generator=generator) * size).float().double()


def layer_of(model, path):
    """The layer, without padding and stride: they do not matter to its weight."""
    weight = base[model][f"{path}.weight"].double()
    bias = base[model].get(f"{path}.bias")
    if weight.ndim == 1:
        layer = nn.LayerNorm(len(weight))
    elif weight.ndim == 2:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=bias is not None)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(bias.double())
    return layer.requires_grad_(False)


def run(layer, weight):
    """What a layer does to all unit inputs, as a weight; and to zero, as a bias."""
    if weight.ndim == 2:
        zero = layer(torch.zeros(1, weight.shape[1]))
        return (layer(torch.eye(weight.shape[1])) - zero).T, zero[0]
    size = weight[0].numel()
    zero = layer(torch.zeros(1, *weight.shape[1:]))
    units = torch.eye(size).reshape(size, *weight.shape[1:])
    return (layer(units) - zero).flatten(1).T.reshape(weight.shape), zero.flatten()


file, expected = {}, {}


def add(model, path, tensors, make):
    """Adds a module under kohya's name, and what LyCORIS' module, made by `make`, adds to the layer."""
    name = f"lora_{model}_{path.replace('.', '_')}"
    layer = layer_of(model, path)
    before = run(layer, layer.weight)
    module = make(layer).double()
    module.apply_to()
    after = run(layer, layer_of(model, path).weight)
    target = "unet" if model == "unet" else "text_encoder"
    expected[f"{target}.{path}.weight"] = after[0] - before[0]
    if "diff_b" in tensors:
        expected[f"{target}.{path}.bias"] = after[1] - before[1]
    for part, tensor in tensors.items():
        file[f"{name}.{part}"] = tensor


def shape_of(model, path):
    shape = tuple(base[model][f"{path}.weight"].shape)
    return shape[0], shape[1], shape[2:]


def magnitude(model, path, axis):
    weight = base[model][f"{path}.weight"].double()
    rows = weight if axis == "out" else weight.transpose(0, 1)
    norms = rows.flatten(1).norm(dim=1) * (1 + random(len(rows)))
    rest = [1] * (weight.ndim - 1)
    return (norms.reshape(-1, *rest) if axis == "out" else norms.reshape(1, -1, *rest[1:])).float().double()


def locon(model, path, rank, alpha, mid=False, dora=None):
    o, i, k = shape_of(model, path)
    kernel = (1,) * len(k) if mid else k
    tensors = {
        "lora_up.weight": random(o, rank, *[1] * len(k)),
        "lora_down.weight": random(rank, i, *kernel),
        "alpha": torch.tensor(alpha),
    }
    if mid:
        tensors["lora_mid.weight"] = random(rank, rank, *k)
    if dora:
        tensors["dora_scale"] = magnitude(model, path, dora)

    def make(layer):
        module = LoConModule(
            "m", layer, 1, rank, alpha, use_tucker=mid, weight_decompose=dora is not None, wd_on_out=dora == "out"
        )
        fill(module, tensors)
        return module

    add(model, path, tensors, make)


def fill(module, tensors):
    for name, tensor in tensors.items():
        if name != "alpha":
            owner = module
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            getattr(owner, last).data = tensor.clone()
    if isinstance(module.scalar, nn.Parameter):
        module.scalar.data.fill_(1)


def loha(model, path, rank, alpha, tucker=False, dora=None):
    o, i, k = shape_of(model, path)
    a, b = ((rank, o), (rank, i)) if tucker else ((o, rank), (rank, i * torch.Size(k).numel() if k else i))
    tensors = {"hada_w1_a": random(*a), "hada_w1_b": random(*b), "hada_w2_a": random(*a), "hada_w2_b": random(*b)}
    if tucker:
        tensors |= {"hada_t1": random(rank, rank, *k), "hada_t2": random(rank, rank, *k)}
    tensors["alpha"] = torch.tensor(alpha)
    if dora:
        tensors["dora_scale"] = magnitude(model, path, dora)

    def make(layer):
        module = LohaModule(
            "m", layer, 1, rank, alpha, use_tucker=tucker, weight_decompose=dora is not None, wd_on_out=dora == "out"
        )
        fill(module, tensors)
        return module

    add(model, path, tensors, make)


def lokr(model, path, factors, rank=None, alpha=1.0, split=(False, False), tucker=False, dora=None):
    """`factors` are the sizes [a, b] of the first matrix; `split` tells which of the two is a product."""
    o, i, k = shape_of(model, path)
    a, b = factors
    c, d = o // a, i // b
    tensors = {}
    if split[0]:
        tensors |= {"lokr_w1_a": random(a, rank), "lokr_w1_b": random(rank, b)}
    else:
        tensors["lokr_w1"] = random(a, b)
    if tucker:
        tensors |= {"lokr_t2": random(rank, rank, *k), "lokr_w2_a": random(rank, c), "lokr_w2_b": random(rank, d)}
    elif split[1]:
        tensors |= {"lokr_w2_a": random(c, rank), "lokr_w2_b": random(rank, d, *k)}
    else:
        tensors["lokr_w2"] = random(c, d, *k)
    tensors["alpha"] = torch.tensor(alpha)
    if dora:
        tensors["dora_scale"] = magnitude(model, path, dora)
    scale = alpha / rank if rank else 1.0
    delta = kron_weight(
        *[tensors.get(f"lokr_{part}") for part in ["w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2"]], scale=scale
    )

    # LokrModule reads its rank off the wrong axis of Tucker's factors, so the function behind it is called.
    def make(layer):
        if dora is None:
            return FullModule.make_module_from_state_dict("m", layer, delta.reshape(layer.weight.shape), None)
        from lycoris.functional.general import weight_decompose

        merged = weight_decompose(layer.weight + delta.reshape(layer.weight.shape), tensors["dora_scale"], 1, dora == "out")
        return FullModule.make_module_from_state_dict("m", layer, merged - layer.weight, None)

    add(model, path, tensors, make)


def full(model, path, bias=False):
    o, i, k = shape_of(model, path)
    tensors = {"diff": random(o, i, *k)}
    if bias:
        tensors["diff_b"] = random(o)
    add(
        model,
        path,
        tensors,
        lambda layer: FullModule.make_module_from_state_dict("m", layer, tensors["diff"], tensors.get("diff_b")),
    )


def norm(model, path):
    size = len(base[model][f"{path}.weight"])
    name = f"lora_{model}_{path.replace('.', '_')}"
    w, b = random(size), random(size)
    module = NormModule.make_module_from_state_dict("m", layer_of(model, path), w, b)
    weight, bias = module.make_weight(1)
    target = "unet" if model == "unet" else "text_encoder"
    expected[f"{target}.{path}.weight"] = weight - base[model][f"{path}.weight"].double()
    expected[f"{target}.{path}.bias"] = bias - base[model][f"{path}.bias"].double()
    file.update({f"{name}.w_norm": w, f"{name}.b_norm": b})


def ia3(model, path, on_input):
    o, i, k = shape_of(model, path)
    gain = random(1, i, *[1] * len(k)) if on_input else random(o)
    tensors = {"weight": gain, "on_input": torch.tensor(on_input)}

    def make(layer):
        module = IA3Module("m", layer, 1, train_on_input=on_input)
        module.weight.data = gain.clone()
        return module

    add(model, path, tensors, make)


def write(name, tensors, values, metadata=None):
    as_float = lambda t: t.float().contiguous() if t.is_floating_point() else t
    save_file({key: as_float(value.detach()) for key, value in tensors.items()}, out / f"{name}.safetensors", metadata)
    save_file({key: as_float(value.detach()) for key, value in values.items()}, out / f"{name}_expected.safetensors")


def lycoris():
    block = "transformer_blocks.0"
    locon("unet", "down_blocks.0.resnets.0.conv1", 4, 2.0, mid=True)
    locon("unet", "down_blocks.0.resnets.1.conv1", 2, 3.0)
    loha("unet", f"down_blocks.0.attentions.0.{block}.attn1.to_k", 2, 1.0)
    loha("unet", f"down_blocks.1.attentions.0.{block}.attn2.to_v", 8, 4.0)
    loha("unet", "down_blocks.1.resnets.0.conv1", 2, 2.0)
    loha("unet", "down_blocks.1.resnets.0.conv2", 2, 1.0, tucker=True)
    loha("unet", "mid_block.attentions.0.proj_in", 3, 1.5)
    loha("te", "text_model.encoder.layers.0.mlp.fc1", 4, 2.0)
    lokr("unet", f"down_blocks.0.attentions.0.{block}.attn1.to_q", (4, 4), alpha=7.0)
    lokr("unet", f"up_blocks.1.attentions.0.{block}.ff.net.0.proj", (8, 4), 2, 1.0, split=(False, True))
    lokr("unet", f"up_blocks.1.attentions.0.{block}.ff.net.2", (4, 8), 2, 3.0, split=(True, True))
    lokr("unet", f"up_blocks.1.attentions.1.{block}.ff.net.2", (4, 8), 2, 3.0, split=(True, False))
    lokr("unet", "down_blocks.0.downsamplers.0.conv", (2, 4))
    lokr("unet", "up_blocks.0.upsamplers.0.conv", (4, 3), 2, 1.0, split=(False, True))
    lokr("unet", "mid_block.resnets.0.conv1", (4, 2), 3, 1.0, split=(False, True), tucker=True)
    full("unet", "conv_in", bias=True)
    full("unet", "time_embedding.linear_1", bias=True)
    full("unet", f"mid_block.attentions.0.{block}.attn1.to_k")
    norm("unet", "down_blocks.0.resnets.0.norm1")
    norm("unet", f"mid_block.attentions.0.{block}.norm2")
    norm("te", "text_model.final_layer_norm")
    ia3("unet", f"mid_block.attentions.0.{block}.attn1.to_v", False)
    ia3("unet", f"mid_block.attentions.0.{block}.ff.net.2", True)
    ia3("unet", "mid_block.resnets.1.conv2", True)
    locon("unet", f"mid_block.attentions.0.{block}.attn1.to_q", 4, 2.0, dora="out")
    locon("unet", f"mid_block.attentions.0.{block}.attn2.to_q", 4, 2.0, dora="in")
    locon("unet", "mid_block.resnets.1.conv1", 4, 2.0, dora="in")
    locon("unet", "up_blocks.1.resnets.0.conv1", 4, 2.0, dora="out")
    loha("unet", f"mid_block.attentions.0.{block}.attn2.to_k", 2, 1.0, dora="in")
    lokr("unet", f"mid_block.attentions.0.{block}.attn2.to_v", (4, 4), 2, 1.0, split=(False, True), dora="out")
    locon("te", "text_model.encoder.layers.1.self_attn.q_proj", 2, 2.0, dora="out")
    write("lycoris", file, expected)


class Tree(nn.Module):
    """Layers at their paths in a UNet."""

    def __init__(self, paths):
        super().__init__()
        for path in paths:
            owner, (*parents, last) = self, path.split(".")
            for parent in parents:
                if not hasattr(owner, parent):
                    owner.add_module(parent, nn.Module())
                owner = getattr(owner, parent)
            owner.add_module(last, layer_of("unet", path))


def peft(name, paths, prefix, **options):
    """A LoRA of PEFT, as `adapter_model.safetensors` spells it, or with diffusers' prefix."""
    model = get_peft_model(Tree(paths), LoraConfig(target_modules=list(paths), **options))
    tensors, values = {}, {}
    for path in paths:
        layer = model.base_model.model.get_submodule(path)
        for part, factor in [("lora_A", layer.lora_A.default), ("lora_B", layer.lora_B.default)]:
            factor.weight.data = random(*factor.weight.shape)
            tensors[f"{prefix}{path}.{part}.weight"] = factor.weight
            if factor.bias is not None:
                factor.bias.data = random(*factor.bias.shape)
                tensors[f"{prefix}{path}.{part}.bias"] = factor.bias
        if options.get("use_dora"):
            vector = layer.lora_magnitude_vector.default
            vector.weight.data = (vector.weight * (1 + random(*vector.weight.shape))).float().double()
            tensors[f"{prefix}{path}.lora_magnitude_vector"] = vector.weight
        before = run(layer_of("unet", path), layer_of("unet", path).weight)
        after = run(layer, layer_of("unet", path).weight)
        values[f"unet.{path}.weight"] = after[0] - before[0]
        if options.get("lora_bias"):
            values[f"unet.{path}.bias"] = after[1] - before[1]
    return tensors, values, model.peft_config["default"]


def peft_lycoris(name, config_class, paths, **options):
    """A LoHa or LoKr of PEFT, in a folder with its configuration."""
    model = get_peft_model(Tree(paths), config_class(target_modules=list(paths), **options))
    tensors, values = {}, {}
    for path in paths:
        layer = model.base_model.model.get_submodule(path)
        for part, parameter in layer.named_parameters():
            if "base_layer" in part:
                continue
            parameter.data = random(*parameter.shape)
            tensors[f"base_model.model.{path}.{part.removesuffix('.default')}"] = parameter
        before = run(layer_of("unet", path), layer_of("unet", path).weight)
        after = run(layer, layer_of("unet", path).weight)
        values[f"unet.{path}.weight"] = after[0] - before[0]
    folder = out / name
    folder.mkdir(exist_ok=True)
    write(f"{name}/adapter_model", tensors, values)
    config = config_json(model.peft_config["default"])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")


def config_json(config):
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}


def pefts():
    block = "transformer_blocks.0"
    paths = [
        f"down_blocks.0.attentions.0.{block}.attn1.to_q",
        f"down_blocks.0.attentions.0.{block}.attn2.to_k",
        f"down_blocks.1.attentions.0.{block}.attn1.to_q",
        f"mid_block.attentions.0.{block}.attn1.to_out.0",
        f"mid_block.attentions.0.{block}.ff.net.2",
        "mid_block.resnets.0.conv1",
    ]
    patterns = {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {"attn1.to_q": 2, r"mid_block\.resnets\.\d+\.conv1": 3},
        "alpha_pattern": {"attn1.to_q": 5, r"^mid_block.*ff\.net\.2": 9, "o_q": 1, "conv1": 10},
        "use_rslora": True,
    }
    tensors, values, config = peft("config", paths, "base_model.model.", **patterns)
    folder = out / "peft_config"
    folder.mkdir(exist_ok=True)
    write("peft_config/adapter_model", tensors, values)
    (folder / "adapter_config.json").write_text(json.dumps(config_json(config), indent=2, sort_keys=True, default=str) + "\n")

    biased = [path for path in paths if f"{path}.bias" in base["unet"]]
    tensors, values, config = peft("metadata", biased, "unet.", **patterns | {"use_rslora": False, "lora_bias": True})
    metadata = {f"unet.{key}": value for key, value in config_json(config).items()}
    text = json.dumps(metadata, indent=2, sort_keys=True, default=str)
    write("lora_metadata", tensors, values, {"format": "pt", "lora_adapter_metadata": text})

    few = [f"down_blocks.0.attentions.0.{block}.attn1.to_q", f"mid_block.attentions.0.{block}.ff.net.2", "mid_block.resnets.0.conv1"]
    options = {"r": 2, "alpha": 3, "alpha_pattern": {"attn1.to_q": 5}, "use_effective_conv2d": True}
    peft_lycoris("peft_loha", LoHaConfig, few, **options)
    peft_lycoris("peft_lokr", LoKrConfig, few, **options)

    tensors, values, config = peft("dora", paths, "unet.", r=4, lora_alpha=4, use_dora=True)
    write("dora_peft", tensors, values)


lycoris()
pefts()
