/**
 * The golden tests of text encoder, UNet, VAE and edit. `deno test` runs them on Deno's WebGPU
 * (`goldens_test.ts` beside this, `../editing/model_edit_test.ts`), and `../../browser/chromium.ts`
 * in a page, so that this file names no runtime: what it reads comes from {@linkcode GoldenPlace}.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Tensor } from "../../engine/tensor.ts";
import { EditStack } from "../../pipeline/editing/edit_stack.ts";
import { ModelEdit } from "../../pipeline/editing/model_edit.ts";
import { CLIPTextModel } from "../../pipeline/models/clip_text.ts";
import { UNet2DConditionModel } from "../../pipeline/models/unet.ts";
import { AutoencoderKL } from "../../pipeline/models/vae.ts";
import { assertClose } from "../close.ts";
import { type GoldenTensor, parseGoldens } from "../goldens.ts";
import { openEditable } from "./editing/models.ts";

/** Where the goldens and the models are. */
export interface GoldenPlace {
  /** A model's folder, "sd1-mini", "sd2-mini" or "pocket", or one inside it. */
  folder(path: string): string | URL;
  /** The bytes of tests/goldens/NAME.safetensors. */
  goldens(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** A golden test: it fails by throwing. */
export interface GoldenCase {
  readonly name: string;
  run(gpu: Gpu, place: GoldenPlace): Promise<void>;
}

/**
 * Largest relative error against the reference models: f32 rounding through some hundred layers.
 */
const tolerance = 2e-5;

const upload = (gpu: Gpu, { data, shape }: GoldenTensor) => Tensor.from(gpu, Float32Array.from(data), shape);

/** The models of a golden checkpoint. */
export function modelGoldens(name: string): GoldenCase[] {
  return [
    {
      name: `CLIPTextModel computes the golden hidden states, pooled rows and clip skips of ${name}`,
      async run(gpu, place) {
        const { tensors } = parseGoldens(await place.goldens(name));
        const { data, shape: [rows, length] } = tensors.get("text.input_ids")!;
        const ids = Array.from({ length: rows }, (_, row) => [...data.subarray(row * length, (row + 1) * length)]);
        using model = await CLIPTextModel.fromPretrained(place.folder(`${name}/text_encoder`), { gpu });
        for (const [clipSkip, key] of ["last_hidden_state", "clip_skip_1", "clip_skip_2"].entries()) {
          const { lastHiddenState, poolerOutput } = model.forward(ids, { clipSkip });
          using states = lastHiddenState;
          using pooled = poolerOutput;
          assertClose(await states.data(), tensors.get(`text.${key}`)!.data, tolerance, key);
          assertClose(await pooled.data(), tensors.get("text.pooler_output")!.data, tolerance, "pooler_output");
        }
      },
    },
    {
      name: `UNet2DConditionModel computes the golden noise and activations of ${name}`,
      async run(gpu, place) {
        const { tensors } = parseGoldens(await place.goldens(name));
        using unet = await UNet2DConditionModel.fromPretrained(place.folder(`${name}/unet`), { gpu });
        const observed: { path: string; output: Tensor }[] = [];
        for (const letter of ["a", "b", "c"]) {
          using sample = upload(gpu, tensors.get(`unet.${letter}.sample`)!);
          using context = upload(gpu, tensors.get(`unet.${letter}.context`)!);
          const timestep = tensors.get(`unet.${letter}.timestep`)!.data[0];
          const observe = (path: string, output: Tensor) => {
            if (letter === "a" && tensors.has(`unet.a.act.${path}`)) {
              observed.push({ path, output: output.reshape(output.shape).keep() });
            }
          };
          using noise = unet.forward(sample, timestep, context, { observe });
          assertClose(await noise.data(), tensors.get(`unet.${letter}.out`)!.data, tolerance, letter);
          using prepared = unet.prepareContext(context);
          using again = unet.forward(sample, timestep, prepared);
          assertEquals(await again.data(), await noise.data());
        }
        const wanted = [...tensors.keys()].filter((key) => key.startsWith("unet.a.act.")).map((key) =>
          key.slice("unet.a.act.".length)
        );
        assertEquals(observed.map(({ path }) => path).sort(), wanted.sort());
        for (const { path, output } of observed) {
          assertClose(await output.data(), tensors.get(`unet.a.act.${path}`)!.data, tolerance, path);
          output[Symbol.dispose]();
        }
      },
    },
    {
      name: `AutoencoderKL encodes and decodes as the goldens of ${name}`,
      async run(gpu, place) {
        const { tensors } = parseGoldens(await place.goldens(name));
        using vae = await AutoencoderKL.fromPretrained(place.folder(`${name}/vae`), { gpu });
        using image = upload(gpu, tensors.get("vae.image")!);
        const { mean, logvar } = vae.encode(image);
        using mu = mean;
        using log = logvar;
        assertClose(await mu.data(), tensors.get("vae.mean")!.data, tolerance, "mean");
        assertClose(await log.data(), tensors.get("vae.logvar")!.data, tolerance, "logvar");
        using latents = upload(gpu, tensors.get("vae.latents")!);
        using decoded = vae.decode(latents);
        assertClose(await decoded.data(), tensors.get("vae.decoded")!.data, tolerance, "decoded");
      },
    },
  ];
}

/** The pair of the pocket model's golden edit. */
const roses = { source: "A pack of roses", destination: "A pack of blue roses" };
const banana = { source: "A banana", destination: "A blue banana" };

/** Edits of the golden checkpoints. */
export const editGoldens: readonly GoldenCase[] = [
  {
    name: "an edit from text equals the reference's operator and weight to 2e-4",
    async run(gpu, place) {
      for (const name of ["sd1-mini", "sd2-mini"]) {
        using model = await openEditable(gpu, (part) => place.folder(`${name}/${part}`));
        const { tensors } = parseGoldens(await place.goldens(name));
        for (const [index, pair] of [roses, banana].entries()) {
          using edit = await ModelEdit.solve([pair], { lamb: 0.1 }, model);
          const golden = lessIdentity(Float64Array.from(tensors.get(`edit.${index}.0.1.operator`)!.data));
          assertClose(lessIdentity(await edit.operator.dense()), golden, 2e-4, `${name}, edit ${index}`);
          const key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2";
          const layer = model.crossAttentions.find(({ path }) => path === key)!;
          using baked = new EditStack().push(edit).bake(layer.toK.weight, key, "keys");
          const weight = tensors.get(`edit.${index}.0.1.weight.${key}.to_k.weight`)!;
          assertClose(await baked.data(), weight.data, 2e-4, `${name}, edit ${index}: weight`);
        }
      }
    },
  },
  {
    name: "the pocket model's edit equals the golden operator to 2e-4",
    async run(gpu, place) {
      using model = await openEditable(gpu, (part) => place.folder(`pocket/${part}`));
      const { tensors } = parseGoldens(await place.goldens("pocket"));
      using edit = await ModelEdit.solve([roses], { lamb: 0.1 }, model);
      const golden = lessIdentity(Float64Array.from(tensors.get("edit.operator")!.data));
      assertClose(lessIdentity(await edit.operator.dense()), golden, 2e-4);
    },
  },
];

function lessIdentity(e: Float64Array): Float64Array {
  const side = Math.sqrt(e.length);
  return e.map((value, i) => i % (side + 1) === 0 ? value - 1 : value);
}

/** All golden tests. */
export const goldenCases: readonly GoldenCase[] = [
  ...["sd1-mini", "sd2-mini"].flatMap(modelGoldens),
  ...editGoldens,
];
