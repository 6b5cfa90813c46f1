"""
Makes LoRAs and a textual inversion for sdxl-mini, and draws with them by diffusers 0.23.1:

    python tests/reference/sdxl_adapters.py

Writes into tests/reference/sdxl_adapters:
- kohya.safetensors: updates of the UNet and both text encoders by kohya's names (`lora_unet_`, `lora_te1_`, `lora_te2_`), with alpha;
- kohya_sgm.safetensors: the same, with the UNet's layers by the names of the original layout (`input_blocks_…`);
- diffusers.safetensors: the same by diffusers' names (`unet.`, `text_encoder.`, `text_encoder_2.`), alpha / rank in the second factors;
- swirl.safetensors: a textual inversion of two vectors, `clip_l` and `clip_g`;
- expected.safetensors: the embeddings and latents that the pipeline makes with each of them. The three LoRAs are one, so their pictures must agree.
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

here = Path(__file__).parent
out = here / "sdxl_adapters"
out.mkdir(exist_ok=True)
folder = here.parent / "goldens" / "sdxl-mini"
rank, alpha, steps, seed = 3, 6.0, 3, 7
prompt, negative = "a rose in a vase", "blue"
generator = torch.Generator().manual_seed(23)


def load():
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, text=prompt, **options):
    return pipe(
        text,
        negative_prompt=negative,
        num_inference_steps=steps,
        guidance_scale=5.0,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
        **options,
    ).images.contiguous()


pipe = load()
block = "down_blocks.1.attentions.0"
unet_layers = [
    f"{block}.proj_in",
    f"{block}.transformer_blocks.0.attn1.to_q",
    f"{block}.transformer_blocks.1.attn2.to_k",
    f"{block}.transformer_blocks.1.attn2.to_out.0",
    f"{block}.transformer_blocks.1.ff.net.0.proj",
    "mid_block.attentions.0.transformer_blocks.2.attn2.to_v",
    "up_blocks.0.attentions.2.transformer_blocks.1.attn1.to_v",
    "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2",
    "up_blocks.1.attentions.1.proj_out",
]
# diffusers reads the rank of every layer, so none may be left out.
text_names = [f"self_attn.{name}" for name in ["q_proj", "k_proj", "v_proj", "out_proj"]] + ["mlp.fc1", "mlp.fc2"]


def text_layers(encoder):
    layers = range(encoder.config.num_hidden_layers)
    return [f"text_model.encoder.layers.{layer}.{name}" for layer in layers for name in text_names]


sgm = {
    "down_blocks.1.attentions.0": "input_blocks.4.1",
    "mid_block.attentions.0": "middle_block.1",
    "up_blocks.0.attentions.2": "output_blocks.2.1",
    "up_blocks.1.attentions.1": "output_blocks.4.1",
}
models = {"unet": pipe.unet, "te1": pipe.text_encoder, "te2": pipe.text_encoder_2}
components = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
kohya, kohya_sgm, diffusers = {}, {}, {}
for model, module in models.items():
    for path in unet_layers if model == "unet" else text_layers(module):
        outputs, inputs = module.get_submodule(path).weight.shape
        down = torch.randn(rank, inputs, generator=generator) * 0.2
        up = torch.randn(outputs, rank, generator=generator) * 0.2
        other = path
        for ours, theirs in sgm.items():
            other = other.replace(ours, theirs) if model == "unet" else other
        for file, name in [(kohya, path), (kohya_sgm, other)]:
            key = f"lora_{model}_{name.replace('.', '_')}"
            file.update({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)})
        key = f"{components[model]}.{path}"
        ending = "lora" if model == "unet" else "lora_linear_layer"
        diffusers.update({f"{key}.{ending}.down.weight": down, f"{key}.{ending}.up.weight": up * alpha / rank})

expected = {"plain": draw(pipe)}
for name, tensors in [("kohya", kohya), ("kohya_sgm", kohya_sgm), ("diffusers", diffusers)]:
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{name}.safetensors")
    pipe = load()
    pipe.load_lora_weights(out, weight_name=f"{name}.safetensors")
    if name == "kohya":
        states, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        expected |= {"kohya.prompt_embeds": states, "kohya.pooled_prompt_embeds": pooled}
    expected[name] = draw(pipe)
    expected[f"{name}.half"] = draw(pipe, cross_attention_kwargs={"scale": 0.5})
    print(name, [float((expected[key] - expected[other]).norm() / expected[other].norm())
                 for key, other in [(name, "plain"), (name, "kohya"), (f"{name}.half", "kohya.half")]])

pipe = load()
swirl = {
    "clip_l": torch.randn(2, pipe.text_encoder.config.hidden_size, generator=generator) * 0.5,
    "clip_g": torch.randn(2, pipe.text_encoder_2.config.hidden_size, generator=generator) * 0.5,
}
save_file(swirl, out / "swirl.safetensors")
pipe.load_textual_inversion(swirl["clip_l"], token="swirl", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
pipe.load_textual_inversion(swirl["clip_g"], token="swirl", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
text = "a swirl rose"
states, _, pooled, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
expected |= {"swirl.prompt_embeds": states, "swirl.pooled_prompt_embeds": pooled, "swirl": draw(pipe, text)}
save_file({key: value.detach().contiguous() for key, value in expected.items()}, out / "expected.safetensors")
