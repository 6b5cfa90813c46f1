/** The prompts of one call of SDXL, with the sizes that the UNet is conditioned on. */

import type { Tensor } from "../../engine/tensor.ts";
import { concat } from "../../kernels/shape/concat.ts";
import type { XLPipelineComponents } from "../components.ts";
import { areWeighted, type CallPrompts, learning } from "./call_prompts.ts";
import type { OutputTypes } from "./options.ts";
import { warn } from "../safe_text.ts";
import { loadTaggedLoras } from "./tagged_loras.ts";
import type { XLGenerateOptions } from "./xl_options.ts";
import { encodeXLPrompts, takeXLPrompts } from "./xl_prompts.ts";

/**
 * Rows of sizes for a batch of `images` (diffusers' `add_time_ids`), under guidance twice as many.
 *
 * Under guidance, diffusers 0.23 repeats the pair of negative and positive sizes, whereas the batch
 * holds all negative prompts first. With several pictures and negative sizes, its rows therefore
 * alternate; pictures are the same here.
 */
function timeIdRows(
  options: XLGenerateOptions<keyof OutputTypes>,
  { height, width, images, guided }: { height: number; width: number; images: number; guided: boolean },
): number[][] {
  const { originalSize = [height, width], cropsCoordsTopLeft = [0, 0], targetSize = [height, width] } = options;
  const { negativeOriginalSize, negativeCropsCoordsTopLeft = [0, 0], negativeTargetSize } = options;
  const ids = [...originalSize, ...cropsCoordsTopLeft, ...targetSize];
  const negativeIds = negativeOriginalSize && negativeTargetSize
    ? [...negativeOriginalSize, ...negativeCropsCoordsTopLeft, ...negativeTargetSize]
    : ids;
  return Array.from({ length: images }, () => guided ? [negativeIds, ids] : [ids]).flat();
}

/** Warns of sizes of the negative prompt without effect, which diffusers ignores silently. */
function noteUnusedSizes(options: XLGenerateOptions<keyof OutputTypes>): void {
  const names = ["negativeOriginalSize", "negativeCropsCoordsTopLeft", "negativeTargetSize"] as const;
  if (options.negativeOriginalSize && options.negativeTargetSize) return;
  const unused = names.filter((name) => options[name] !== undefined);
  if (unused.length === 0) return;
  warn(
    `${unused.join(", ")} ${
      unused.length === 1 ? "is" : "are"
    } not used, as in diffusers: give both negativeOriginalSize and negativeTargetSize`,
  );
}

/** The prompts of a call of SDXL. */
export function xlCallPrompts(
  components: XLPipelineComponents,
  prompt: string | readonly string[] | undefined,
  options: XLGenerateOptions<keyof OutputTypes>,
  { guided, zeros, size }: { guided: boolean; zeros: boolean; size: { height: number; width: number } },
): CallPrompts {
  const { textEncoder, textEncoder2, tokenizer, tokenizer2 } = components;
  const { clipSkip = 0, loraDir } = options;
  if (guided) noteUnusedSizes(options);
  const taken = takeXLPrompts(components, prompt, options, { guided, zeros });
  const { batch, given } = taken;
  let { tokens } = taken;
  const { loras } = tokens;
  // Reads the prompts again, once the LoRAs that they name are loaded, as of now.
  const learners = loras.length > 0 ? { tokenizer: tokenizer.copy(), tokenizer2: tokenizer2.copy() } : undefined;
  const sizes = (images: number) => timeIdRows(options, { ...size, images, guided });
  return {
    batch,
    encoders: [textEncoder, textEncoder2],
    settings: [textEncoder, textEncoder2, clipSkip],
    get shapes() {
      const { prompts, negatives } = tokens;
      const all = [...prompts, ...negatives];
      return [batch, prompts.length, negatives.length, all[0]?.[0].length ?? 0, areWeighted(all.flat(2))];
    },
    get identity() {
      return given.isEmpty ? [JSON.stringify([tokens.negatives, tokens.prompts, sizes(1)])] : undefined;
    },
    check: () => given.check(),
    loadLoras: ({ include, encoders: [first, second] }) =>
      loadTaggedLoras(components, loras, {
        loraDir,
        include,
        teach: async (load) => {
          if (!learners) return;
          const encoders = { textEncoder: learning(textEncoder, first), textEncoder2: learning(textEncoder2, second) };
          await load({ ...learners, ...encoders });
          tokens = taken.read(learners);
        },
      }),
    encode: ({ numImagesPerPrompt, loraScale }) => {
      const encoded = encodeXLPrompts(components, { batch, tokens, given }, {
        numImagesPerPrompt,
        clipSkip,
        loraScale,
        guided,
      });
      const { promptEmbeds, negativePromptEmbeds, pooledPromptEmbeds, negativePooledPromptEmbeds } = encoded;
      const stacked = (negative: Tensor | undefined, positive: Tensor) =>
        negative ? concat([negative, positive], 0) : positive;
      return {
        states: stacked(negativePromptEmbeds, promptEmbeds),
        added: {
          textEmbeds: stacked(negativePooledPromptEmbeds, pooledPromptEmbeds),
          timeIds: sizes(batch * numImagesPerPrompt),
        },
      };
    },
    [Symbol.dispose]: () => taken[Symbol.dispose](),
  };
}
