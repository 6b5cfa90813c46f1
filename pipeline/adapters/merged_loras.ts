/** The loaded LoRAs as changes of weights, for models that are saved with them. */

import { CheckpointError } from "../errors.ts";
import type { ComputedChange } from "./layer_updates.ts";
import { type Adaptable, loraWeights, stacksOf } from "./loras.ts";

/** What LoRAs add to the weights and biases of one model, by the checkpoint's keys. */
export type MergedLora = ReadonlyMap<string, ComputedChange>;

/** The LoRAs of a pipeline's components at one moment. Disposing of it lets go of them. */
export interface MergedLoras extends Disposable {
  /** The changes of a component by its folder; `undefined` for those that no LoRA adapts. */
  of(folder: string): MergedLora | undefined;
}

/**
 * Takes the LoRAs as they are now.
 *
 * @throws {CheckpointError} if a text encoder has been released, and its LoRAs with it
 */
export function mergedLoras(components: Adaptable): MergedLoras {
  const { textEncoder, textEncoder2 } = components;
  if (loraWeights(components).size > 0 && [textEncoder, textEncoder2].some((encoder) => encoder?.isDisposed)) {
    throw new CheckpointError(
      "Cannot merge the LoRAs as the text encoders that they change have been released: " +
        "save before releaseTextEncoders()",
      { source: "text_encoder" },
    );
  }
  const held = new DisposableStack();
  const changes = new Map<string, MergedLora>();
  for (const [target, stack] of Object.entries(stacksOf(components))) {
    const snapshot = held.use(stack.snapshot());
    const ofModel = new Map<string, ComputedChange>();
    snapshot.record(() => {
      for (const [path, layer] of stack.layers) {
        const { weightChange, biasChange } = layer;
        if (weightChange) ofModel.set(`${path}.weight`, weightChange);
        if (biasChange) ofModel.set(`${path}.bias`, biasChange);
      }
    });
    changes.set(target, ofModel);
  }
  return { of: (folder) => changes.get(folder), [Symbol.dispose]: () => held[Symbol.dispose]() };
}
