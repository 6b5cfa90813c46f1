import type { Gpu } from "../../../engine/gpu.ts";
import type { EditableModel } from "../../../pipeline/editing/editable_model.ts";
import { CLIPTextModel } from "../../../pipeline/models/clip_text.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { encodeTexts } from "../../../pipeline/generation/prompts.ts";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";
import { goldens, pocket } from "../../paths.ts";

/** Model folders of the repository. */
export const folders = {
  pocket,
  "sd1-mini": `${goldens}/sd1-mini`,
  "sd2-mini": `${goldens}/sd2-mini`,
};

/** The parts of a model that an edit needs. */
export async function openModel(gpu: Gpu, name: keyof typeof folders): Promise<EditableModel & Disposable> {
  return await openEditable(gpu, (part) => `${folders[name]}/${part}`);
}

/** As {@linkcode openModel}, from the folders of its parts. */
export async function openEditable(
  gpu: Gpu,
  folder: (part: string) => string | URL,
): Promise<EditableModel & Disposable> {
  const [tokenizer, textEncoder, unet] = await Promise.all([
    CLIPTokenizer.fromPretrained(folder("tokenizer")),
    CLIPTextModel.fromPretrained(folder("text_encoder"), { gpu }),
    UNet2DConditionModel.fromPretrained(folder("unet"), { gpu }),
  ]);
  return {
    gpu,
    tokenizer,
    crossAttentions: unet.crossAttentions,
    encodeTexts: (texts) => encodeTexts(tokenizer, textEncoder, texts),
    [Symbol.dispose]: () => {
      textEncoder[Symbol.dispose]();
      unet[Symbol.dispose]();
    },
  };
}
