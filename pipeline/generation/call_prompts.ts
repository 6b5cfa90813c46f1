/** The prompts of one call: what the call needs of them, whichever model encodes them. */

import { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import type { AddedConditions } from "../models/added_conditions.ts";
import type { CLIPTextEncoder, CLIPTextModel, TextEncoderSnapshot } from "../models/clip_text.ts";
import type { Key } from "../models/keyed_slot.ts";
import type { PipelineComponents } from "../components.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { checkFinite, takeTensor } from "./given_tensor.ts";
import type { GenerateOptions, OutputTypes } from "./options.ts";
import { encodePrompts, refuseBoth } from "./prompts.ts";
import { type IncludeAdapter, loadTaggedLoras } from "./tagged_loras.ts";
import type { Teachable } from "../adapters/added_tokens.ts";
import type { TokenChunk } from "../text/prompt_syntax/chunks.ts";
import type { CLIPTokenizer } from "../text/tokenizer.ts";
import { type TokenizedPrompts, tokenizePrompts, type TokenizingOptions } from "./tokenized_prompts.ts";

/** The adapters of a call. */
export interface CallAdapters {
  readonly include: IncludeAdapter;
  /** The text encoders as they were at the start of the call; they may learn tokens for it. */
  readonly encoders: readonly TextEncoderSnapshot[];
}

/** What the UNet reads of the prompts. */
export interface EncodedPrompts {
  /** States [B, T, d]; under guidance those of the negative prompts first. */
  readonly states: Tensor;
  /** The conditions besides, of as many rows, for UNets that take some. */
  readonly added?: AddedConditions;
}

/** The prompts of a call, tokenized, with copies of all embeddings that were given. */
export interface CallPrompts extends Disposable {
  /** Prompts, or rows of given embeddings. */
  readonly batch: number;
  /** The models that encode them. */
  readonly encoders: readonly CLIPTextEncoder[];
  /** The settings that their encoding depends on. */
  readonly settings: Key;
  /** What else the choice of the kernels that encode them depends on. */
  readonly shapes: Key;
  /** What tells them from others; `undefined` for given embeddings, which have no identity. */
  readonly identity: Key | undefined;
  /**
   * Reads the embeddings that were given on the device.
   *
   * @throws {NonFiniteError} when they hold NaN or infinities
   */
  check(): Promise<void>;
  /**
   * Loads the LoRAs that the prompts name, and reads the prompts anew with the tokens that these
   * bring.
   *
   * @returns what unloads them
   */
  loadLoras(call: CallAdapters): Promise<Disposable>;
  /** Encodes them; within the caller's scope. */
  encode(options: { numImagesPerPrompt: number; loraScale: number }): EncodedPrompts;
}

/** Copies of given embeddings, on the device. */
export class GivenEmbeddings<Name extends string> implements Disposable {
  readonly #copies = new Map<Name, { readonly tensor: Tensor; readonly isUnread: boolean }>();

  /** Copies the embeddings of these names; `undefined` ones are left out. */
  constructor(gpu: Gpu, given: Partial<Record<Name, GenerateOptions["promptEmbeds"]>>) {
    try {
      for (const [name, value] of Object.entries(given) as [Name, GenerateOptions["promptEmbeds"]][]) {
        if (value === undefined) continue;
        this.#copies.set(name, { tensor: takeTensor(gpu, name, value), isUnread: value instanceof Tensor });
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether none were given. */
  get isEmpty(): boolean {
    return this.#copies.size === 0;
  }

  /** The copy of a name. */
  get(name: Name): Tensor | undefined {
    return this.#copies.get(name)?.tensor;
  }

  /** @throws {NonFiniteError} when one that was given on the device holds NaN or infinities */
  async check(): Promise<void> {
    for (const [name, { tensor, isUnread }] of this.#copies) if (isUnread) await checkFinite(name, tensor);
  }

  /** Frees the copies. */
  [Symbol.dispose](): void {
    for (const { tensor } of this.#copies.values()) tensor[Symbol.dispose]();
    this.#copies.clear();
  }
}

/**
 * Takes the prompts of a call of Stable Diffusion 1.x or 2.x.
 *
 * @throws {PromptError} without prompts, or when prompts and embeddings do not fit each other
 */
export function takePrompts(
  components: PipelineComponents & { readonly textEncoder: CLIPTextModel },
  prompt: string | readonly string[] | undefined,
  options: GenerateOptions<keyof OutputTypes>,
  guided: boolean,
): CallPrompts {
  refuseBoth(prompt, options);
  const { textEncoder, tokenizer, unet: { gpu } } = components;
  const { clipSkip = 0, loraDir } = options;
  const read = tokenizing(prompt, { ...options, doClassifierFreeGuidance: guided });
  let tokens = read(tokenizer);
  const { batch, loras } = tokens;
  // Reads the prompts again, once the LoRAs that they name are loaded, as of now.
  const learner = loras.length > 0 ? tokenizer.copy() : undefined;
  const given = new GivenEmbeddings(gpu, {
    promptEmbeds: options.promptEmbeds,
    negativePromptEmbeds: guided ? options.negativePromptEmbeds : undefined,
  });
  return {
    batch,
    encoders: [textEncoder],
    settings: [textEncoder, clipSkip],
    get shapes() {
      return [batch, tokens.prompts[0]?.length ?? 0, hasWeights(tokens)];
    },
    get identity() {
      return given.isEmpty ? [tokens.negatives, tokens.prompts].map((rows) => JSON.stringify(rows)) : undefined;
    },
    check: () => given.check(),
    loadLoras: ({ include, encoders: [snapshot] }) =>
      loadTaggedLoras(components, loras, {
        loraDir,
        include,
        teach: async (load) => {
          if (!learner) return;
          await load({ tokenizer: learner, textEncoder: learning(textEncoder, snapshot) });
          tokens = read(learner);
        },
      }),
    encode: ({ numImagesPerPrompt, loraScale }) => {
      const encoded = encodePrompts(textEncoder, tokens, {
        promptEmbeds: given.get("promptEmbeds"),
        negativePromptEmbeds: given.get("negativePromptEmbeds"),
        numImagesPerPrompt,
        clipSkip,
        doClassifierFreeGuidance: guided,
        loraScale,
      });
      const { promptEmbeds, negativePromptEmbeds } = encoded;
      return { states: negativePromptEmbeds ? concat([negativePromptEmbeds, promptEmbeds], 0) : promptEmbeds };
    },
    [Symbol.dispose]: () => given[Symbol.dispose](),
  };
}

function hasWeights({ prompts, negatives }: TokenizedPrompts): boolean {
  return areWeighted([...prompts, ...negatives].flat());
}

/** Whether a token of the chunks has a weight. */
export function areWeighted(chunks: readonly TokenChunk[]): boolean {
  return chunks.some(({ weights }) => weights.some((weight) => weight !== 1));
}

/** A text encoder as of a call, which learns tokens for that call alone. */
export function learning({ config }: CLIPTextEncoder, { addedTokens }: TextEncoderSnapshot): Teachable["textEncoder"] {
  return {
    config,
    addedTokens,
    setAddedToken: (id, embedding) => {
      if (embedding) addedTokens.set(id, embedding);
      else addedTokens.delete(id);
    },
  };
}

/** Reads prompts by a tokenizer, as they are now. */
function tokenizing(
  prompt: string | readonly string[] | undefined,
  options: TokenizingOptions,
): (tokenizer: CLIPTokenizer) => TokenizedPrompts {
  const copied = (texts: string | readonly string[] | undefined) => Array.isArray(texts) ? [...texts] : texts;
  const prompts = copied(prompt), negativePrompt = copied(options.negativePrompt);
  return (tokenizer) => tokenizePrompts(tokenizer, prompts, { ...options, negativePrompt });
}
