/** Tags in prompts that load LoRAs, `<lora:name:0.8>`, as AUTOMATIC1111's web UI has them. */

import { PromptError } from "../../errors.ts";

/** A LoRA that a prompt asks for. */
export interface LoraTag {
  readonly name: string;
  readonly textEncoderWeight: number;
  readonly unetWeight: number;
}

const tag = /<(lora|lyco|hypernet):([^<>]*)>/gi;

/**
 * Takes the tags out of a prompt: `<lora:name>`, `<lora:name:weight>` and, with weights of their
 * own for text encoder and UNet, `<lora:name:0.8:0.5>` or `<lora:name:te=0.8:unet=0.5>`. `lyco` is
 * read as `lora`. A LoRA that is named twice gets the sum of the weights.
 *
 * @throws {PromptError} for hypernetworks, and weights that are no numbers
 */
export function splitLoraTags(prompt: string): { text: string; loras: LoraTag[] } {
  const loras = new Map<string, LoraTag>();
  const text = prompt.replace(tag, (whole, kind: string, body: string) => {
    if (kind.toLowerCase() === "hypernet") {
      throw new PromptError(`Cannot load ${JSON.stringify(whole)} as hypernetworks are not supported: remove the tag`);
    }
    const { name, textEncoderWeight, unetWeight } = parseTag(whole, body);
    const before = loras.get(name) ?? { textEncoderWeight: 0, unetWeight: 0 };
    loras.set(name, {
      name,
      textEncoderWeight: before.textEncoderWeight + textEncoderWeight,
      unetWeight: before.unetWeight + unetWeight,
    });
    return "";
  });
  return { text, loras: [...loras.values()] };
}

function parseTag(whole: string, body: string): LoraTag {
  const [name, ...rest] = body.split(":").map((part) => part.trim());
  const refuse = (why: string): never => {
    throw new PromptError(`Cannot load ${JSON.stringify(whole)} as ${why}: write <lora:name:weight>`);
  };
  // A prompt may come from a stranger's file: it names a LoRA of the folder, never a path.
  if (!/^[^/\\]+$/.test(name ?? "") || name === "." || name === "..") refuse("it names no file of the LoRA folder");
  const named = new Map<string, number>(), positional: number[] = [];
  for (const part of rest) {
    const [, key, text] = /^(?:(te|unet)\s*=\s*)?(.+)$/.exec(part) ?? [];
    const weight = text === undefined ? NaN : Number(text);
    if (!Number.isFinite(weight)) refuse(`${JSON.stringify(part)} is not a weight`);
    if (key !== undefined) named.set(key, weight);
    else positional.push(weight);
  }
  if (positional.length > 2) refuse("it has more than two weights");
  const textEncoderWeight = named.get("te") ?? positional[0] ?? 1;
  return { name, textEncoderWeight, unetWeight: named.get("unet") ?? positional[1] ?? textEncoderWeight };
}
