import type { Gpu } from "../../../engine/gpu.ts";
import type { EditableModel } from "../../../pipeline/editing/editable_model.ts";
import { CLIPTextModel } from "../../../pipeline/models/clip_text.ts";
import { UNet2DConditionModel } from "../../../pipeline/models/unet.ts";
import { encodeTexts } from "../../../pipeline/generation/prompts.ts";
import { CLIPTokenizer } from "../../../pipeline/text/tokenizer.ts";

/** Model folders of the repository. */
export const folders = {
  pocket: new URL("../../../models/pocket", import.meta.url).pathname,
  "sd1-mini": new URL("../../goldens/sd1-mini", import.meta.url).pathname,
  "sd2-mini": new URL("../../goldens/sd2-mini", import.meta.url).pathname,
};

/** The parts of a model that an edit needs. */
export async function openModel(gpu: Gpu, name: keyof typeof folders): Promise<EditableModel & Disposable> {
  const folder = folders[name];
  const [tokenizer, textEncoder, unet] = await Promise.all([
    CLIPTokenizer.fromPretrained(`${folder}/tokenizer`),
    CLIPTextModel.fromPretrained(`${folder}/text_encoder`, { gpu }),
    UNet2DConditionModel.fromPretrained(`${folder}/unet`, { gpu }),
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
