/** The names in exported LoRAs are those under which other programs look for them. */
import { assert, assertEquals } from "@std/assert";
import { ModelEdit } from "../../../pipeline/editing/model_edit.ts";
import { openPipeline } from "../../../pipeline/open_pipeline.ts";
import { parseGoldens } from "../../goldens.ts";
import { assertClose, gpuTest } from "../../gpu.ts";
import { goldens, referenceFolder } from "../../paths.ts";

/** What the rules of names depend on, of `unet/config.json`. */
interface UNetJson {
  readonly down_block_types: readonly string[];
  readonly layers_per_block: number;
  readonly transformer_layers_per_block: number | readonly number[];
}

/** A module in diffusers' UNet and in the original layout. */
type Module = readonly [diffusers: string, original: string];

/** Linear layers of a transformer block's cross-attention that edits change. */
const projections = ["attn2.to_k", "attn2.to_v"];

/**
 * The modules that ComfyUI knows by both names: `unet_to_diffusers` in its `comfy/utils.py`, where
 * blocks of the original layout are counted through all levels. Of the rest of its table, the
 * layer of the pooled embedding.
 */
function comfyModules(config: UNetJson): Module[] {
  const { down_block_types: types, layers_per_block: layers, transformer_layers_per_block: given } = config;
  const depths = types.map((type, i) => {
    if (!type.startsWith("CrossAttn")) return 0;
    return typeof given === "number" ? given : given[i];
  });
  const transformer = (diffusers: string, original: string, depth: number) =>
    Array.from({ length: depth }, (_, t) => `transformer_blocks.${t}`).flatMap((block) =>
      projections.map((name): Module => [`${diffusers}.${block}.${name}`, `${original}.${block}.${name}`])
    );
  const down = depths.flatMap((depth, level) =>
    Array.from(
      { length: layers },
      (_, i) =>
        transformer(`down_blocks.${level}.attentions.${i}`, `input_blocks.${1 + (layers + 1) * level + i}.1`, depth),
    )
  );
  const up = depths.toReversed().flatMap((depth, level) =>
    Array.from(
      { length: layers + 1 },
      (_, i) => transformer(`up_blocks.${level}.attentions.${i}`, `output_blocks.${(layers + 1) * level + i}.1`, depth),
    )
  );
  const middle = typeof given === "number" ? given : given.at(-1)!;
  return [
    ...down.flat(),
    ...transformer("mid_block.attentions.0", "middle_block.1", middle),
    ...up.flat(),
    ["add_embedding.linear_1", "label_emb.0.0"],
  ];
}

/**
 * The module's name in sd-scripts' UNet of SDXL, which has three levels of two layers:
 * `make_unet_conversion_map` in its `library/sdxl_model_util.py`, applied by
 * `convert_diffusers_to_sai_if_needed` in `networks/lora.py`. Its other UNet has diffusers' names.
 */
function scriptsXLName(module: string): string {
  return module
    .replace(/^down_blocks\.(\d)\.attentions\.(\d)/, (_, i, j) => `input_blocks.${3 * Number(i) + Number(j) + 1}.1`)
    .replace(/^up_blocks\.(\d)\.attentions\.(\d)/, (_, i, j) => `output_blocks.${3 * Number(i) + Number(j)}.1`)
    .replace(/^mid_block\.attentions\.0/, "middle_block.1")
    .replace(/^add_embedding\.linear_1/, "label_emb.0.0");
}

const json = async (path: string) => JSON.parse(await Deno.readTextFile(path));
/** Where diffusers' conversion of single files finds each tensor of the UNet. */
const original: Record<string, Record<string, unknown>> = {
  "sd1-mini": (await json(`${referenceFolder}/single_file.json`)).unet,
  "sd2-mini": (await json(`${referenceFolder}/single_file.json`)).unet,
  "sdxl-mini": (await json(`${referenceFolder}/sdxl_single_file.json`)).unet,
};
const roses = { source: "A pack of roses", destination: "A pack of blue roses" };

for (const name of ["sd1-mini", "sd2-mini", "sdxl-mini"]) {
  gpuTest(`${name}: ComfyUI and sd-scripts find every key of an exported LoRA`, async (gpu) => {
    const isXL = name === "sdxl-mini";
    using pipe = await openPipeline(`${goldens}/${name}`, { gpu, safetyChecker: null });
    using edit = await ModelEdit.solve([roses], { withPooled: isXL }, pipe);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    const { matrices } = await edit.exportLora((chunk) => void parts.push(chunk.slice()));
    const { tensors } = parseGoldens(new Uint8Array(await new Blob(parts).arrayBuffer()));

    const table = comfyModules(await json(`${goldens}/${name}/unet/config.json`));
    // ComfyUI's model_lora_keys_unet: "lora_unet_" and the module's name with underscores.
    const byKey = new Map(table.map((names) => [`lora_unet_${names[0].replaceAll(".", "_")}`, names]));
    assertEquals(byKey.size, table.length);
    const exported = new Map(Map.groupBy(tensors.keys(), (key) => key.slice(0, key.indexOf("."))));
    assertEquals(exported.size, matrices);
    for (const [key, own] of exported) {
      assertEquals(own.map((each) => each.slice(key.length + 1)).sort(), [
        "alpha",
        "lora_down.weight",
        "lora_up.weight",
      ]);
      const [module, inOriginal] = byKey.get(key)!;
      const place = JSON.stringify(original[name][`${module}.weight`]);
      assert(place.includes(`model.diffusion_model.${inOriginal}.weight`), `${module}: ${place}`);
      if (isXL) assertEquals(scriptsXLName(module), inOriginal);
    }
    // Every cross-attention of the table is edited, and the pooled embedding's layer where asked.
    assertEquals(exported.size, table.length - (isXL ? 0 : 1));

    if (!isXL) return;
    using stack = new DisposableStack();
    const { weight } = pipe.pooledProjection!;
    pipe.edits.push(edit);
    const baked = stack.use(pipe.edits.bakePooled(weight)!);
    const [before, after] = [await weight.float64(), await baked.data()];
    const [features, width] = weight.dims(2);
    const [up, down] = ["up", "down"].map((side) =>
      tensors.get(`lora_unet_add_embedding_linear_1.lora_${side}.weight`)!
    );
    const rank = down.shape[0];
    assertEquals([up.shape, down.shape], [[features, rank], [rank, width]]);
    const product = Float64Array.from({ length: features * width }, (_, i) => {
      const [row, column] = [Math.floor(i / width), i % width];
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += Number(up.data[row * rank + r]) * Number(down.data[r * width + column]);
      return sum;
    });
    assertClose(product, before.map((value, i) => after[i] - value), 1e-5, "ΔW of the pooled embedding's layer");
  });
}
