import { DrawingPipeline } from "./drawing_pipeline.ts";
import type { CLIPTextModel } from "./models/clip_text.ts";
import type { CLIPTextModelWithProjection } from "./models/clip_text_projection.ts";
import type { CLIPTokenizer } from "./text/tokenizer.ts";
import {
  type LoadTextualInversionOptions,
  loadTextualInversions,
  unloadTextualInversion,
} from "./adapters/added_tokens.ts";
import { loadLora, type LoadLoraOptions, loraWeights, unloadLora, weightLoras } from "./adapters/loras.ts";
import type { AdapterSource } from "./adapters/open_adapter.ts";

/** The methods of pipelines that load LoRAs and textual inversions, and take them away. */
export abstract class AdaptedPipeline extends DrawingPipeline {
  /** Encodes prompts. */
  abstract readonly textEncoder: CLIPTextModel;
  /** Splits prompts into tokens. */
  abstract readonly tokenizer: CLIPTokenizer;
  /** The second text encoder, of SDXL. */
  declare readonly textEncoder2?: CLIPTextModelWithProjection;
  /** Its tokenizer. */
  declare readonly tokenizer2?: CLIPTokenizer;

  /** The pipeline in one line, as `console.log` shows it. */
  override describe(): string {
    const loras = [...this.loras].map(([name, weight]) => `${name}:${weight}`);
    return loras.length > 0 ? `${super.describe()}, LoRAs ${loras.join(" ")}` : super.describe();
  }

  /**
   * Loads a LoRA for the UNet and the text encoders (2106.09685): y = W x + scale · weight · α/rank
   * · up(down x). The file is safetensors with the keys of diffusers, PEFT, kohya (A1111),
   * ComfyUI, OneTrainer or LyCORIS, by diffusers' names of the layers or LDM's. Forms: plain
   * pairs, LoCon (Tucker, too), LoHa, LoKr, full differences, differences of norms, LyCORIS'
   * (IA)³, and DoRA. α comes from the file's own tensors, else from the header's
   * `lora_adapter_metadata`, else from `adapter_config.json` beside a file with PEFT's keys.
   * Embeddings that the file bundles become tokens. Several LoRAs can be loaded and act at once,
   * each with its weight; `scale` is that of the call (`crossAttentionKwargs`, `loraScale`). The
   * weights of the models are not touched.
   *
   * DoRA changes W to m ∘ (W + ΔW) / ‖W + ΔW‖. At another weight than 1, that whole change is
   * scaled, as ComfyUI does; beside other LoRAs, each change is that of the unchanged W.
   *
   * In which order things act: textual inversions give tokens their embeddings; the text encoder,
   * with its LoRAs, makes states x of them; edits (TIME) map these, Ex; the UNet's projections with
   * their LoRAs read the result, (W + s·up·down)·Ex. An edit is solved for the states that the text
   * encoder made at the time, so load adapters of the text encoder first.
   *
   * The LoRA belongs to the components: all pipelines that share them draw with it.
   *
   * ```ts
   * const name = await pipe.loadLoraWeights("ink.safetensors", { weight: 0.8 });
   * await pipe.generate("a rose", { crossAttentionKwargs: { scale: 0.5 } });
   * pipe.unloadLoraWeights(name);
   * ```
   *
   * @param source a .safetensors file, a folder that holds one, or a model of the hub
   * @returns the LoRA's name
   * @throws {AdapterError} if the file is no LoRA, is for another model, holds NaN or infinities,
   *   or a given name is taken: it lists the keys
   */
  async loadLoraWeights(source: AdapterSource, options: LoadLoraOptions = {}): Promise<string> {
    return await loadLora(this, source, options);
  }

  /**
   * Takes a LoRA away, or all of them. Exact: pictures are again what they were, byte for byte.
   *
   * @throws {OptionError} if there is none of that name
   */
  unloadLoraWeights(name?: string): void {
    unloadLora(this, name);
  }

  /**
   * Gives loaded LoRAs new weights (one for all, or one each), and those that are not named none
   * (diffusers' `set_adapters`).
   *
   * @throws {OptionError} if there is none of a name, or the numbers do not match
   */
  setAdapters(names: string | readonly string[], weights: number | readonly number[] = 1): void {
    weightLoras(this, names, weights);
  }

  /** The weights of the loaded LoRAs by their names, in the order in which they were loaded. */
  get loras(): ReadonlyMap<string, number> {
    return loraWeights(this);
  }

  /**
   * Teaches the tokenizer and the text encoder tokens by textual inversion (2208.01618). The
   * file is safetensors: in diffusers' form, tensors named like their tokens; or in A1111's,
   * `emb_params`, `string_to_param.*` or `clip_l` in a file named like its token. A tensor of n
   * rows makes n tokens: where a prompt says `<token>`, `<token> <token>_1 … <token>_(n−1)` is
   * read, as diffusers does. A file for SDXL holds one tensor for each of its text encoders,
   * `clip_l` and `clip_g`.
   *
   * It acts before everything else: see {@linkcode loadLoraWeights}.
   *
   * @param source a .safetensors file, a folder that holds one, or a model of the hub
   * @returns the token; the first where the file holds several
   * @throws {AdapterError} if the file is no textual inversion, or is for another text encoder;
   *   {PromptError} if a token is there already. Nothing is taught then.
   */
  loadTextualInversion(source: AdapterSource, options?: LoadTextualInversionOptions): Promise<string>;
  /**
   * The same for several files at once.
   *
   * @returns the tokens, in order
   */
  loadTextualInversion(
    source: readonly AdapterSource[],
    options?: LoadTextualInversionOptions,
  ): Promise<string[]>;
  async loadTextualInversion(
    source: AdapterSource | readonly AdapterSource[],
    options: LoadTextualInversionOptions = {},
  ): Promise<string | string[]> {
    if (source instanceof Array) return await loadTextualInversions(this, source, options);
    const [first] = await loadTextualInversions(this, [source as AdapterSource], options);
    return first;
  }

  /**
   * Takes a token of {@linkcode loadTextualInversion} away, or all of them. Exact, as {@linkcode
   * unloadLoraWeights}.
   *
   * @throws {PromptError} if there is none
   */
  unloadTextualInversion(token?: string): void {
    unloadTextualInversion(this, token);
  }
}
