/**
 * CLIP's verdicts of pictures.
 *
 * @module
 */
import type { Picture } from "../image/picture.ts";

/** The model that scores pictures against prompts; `CLIPModel` implements it. */
export interface Judge {
  /** Logits [images, prompts], row-major. */
  score(images: readonly Picture[], prompts: readonly string[]): Promise<Float32Array>;
  /** The factor between cosines and logits. Default: 100, as in OpenAI's models. */
  readonly logitScale?: number;
}

/** The texts that a picture is compared with. */
export interface ComparedTexts {
  /** What the unedited model is expected to draw. */
  readonly own: string;
  /** The forms that count as edited; at least one. */
  readonly edited: readonly string[];
}

/** A picture's logits for its own text and for its edited form. */
export interface Verdict {
  /** Logit of the picture's own text. */
  readonly own: number;
  /** Logit of the edited form; of several, the largest. */
  readonly edited: number;
}

/** Compares each picture with its own text and its edited forms, of which the best one counts. */
export async function judgePictures(
  judge: Judge,
  pictures: readonly Picture[],
  compared: readonly ComparedTexts[],
): Promise<Verdict[]> {
  const texts = [...new Set(compared.flatMap(({ own, edited }) => [own, ...edited]))];
  const column = new Map(texts.map((text, i) => [text, i]));
  const logits = await judge.score(pictures, texts); // [pictures, texts]
  return compared.map(({ own, edited }, i) => {
    const logit = (text: string) => logits[i * texts.length + column.get(text)!];
    return { own: logit(own), edited: Math.max(...edited.map(logit)) };
  });
}
