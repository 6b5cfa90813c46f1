/** Encodes many texts in batches, with pauses in which an abort is heard. @module */

import { Tensor } from "../../engine/tensor.ts";

/** Texts with the encoder that reads them, as both were at one moment. */
export interface HeldTexts extends Disposable {
  /** Encodes the texts from … to − 1, as `encodeTexts` of the model does. */
  encode(from: number, to: number): Tensor | Promise<Tensor>;
}

/** The parts of an editable model that encode texts. */
interface EncodingModel {
  encodeTexts(texts: readonly string[]): Tensor | Promise<Tensor>;
  holdTexts?(texts: readonly string[]): HeldTexts;
}

/** Texts per batch: large enough to occupy the GPU, small enough for its memory. */
const batch = 16;

/** Batches that wait for the device while the host records the next one. */
const ahead = 2;

/** What a batch gave: values [to − from, …] of the texts from … to − 1. */
export interface EncodedBatch {
  readonly from: number;
  readonly to: number;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * Encodes texts to the host. All are encoded by the text encoder as it is at the call, whatever
 * adapters are loaded or weighted meanwhile: a model that can hold its encoder is read batch by
 * batch; of another one, all batches are recorded before the first wait.
 *
 * @param select the part of a batch's states that is read; it takes ownership of them
 * @throws the signal's reason when it aborts
 */
export async function encodeBatches(
  model: EncodingModel,
  texts: readonly string[],
  { signal, select = (states) => states }: {
    signal?: AbortSignal;
    select?: (states: Tensor, from: number, to: number) => Tensor;
  },
): Promise<EncodedBatch[]> {
  signal?.throwIfAborted();
  using held = model.holdTexts?.(texts);
  const waiting: { from: number; to: number; states: Promise<PromiseSettledResult<Tensor>[]> }[] = [];
  const done: EncodedBatch[] = [];
  using tensors = new DisposableStack();
  const readFirst = async (): Promise<void> => {
    const { from, to, states } = waiting[0];
    const [result] = await states;
    waiting.shift();
    if (result.status === "rejected") throw result.reason;
    using tensor = result.value;
    done.push({ from, to, shape: tensor.shape, values: await tensor.data() });
    signal?.throwIfAborted();
  };
  try {
    for (let from = 0; from < texts.length; from += batch) {
      const to = Math.min(texts.length, from + batch);
      waiting.push({ from, to, states: recorded({ model, texts, held, select }, from, to) });
      if (held && waiting.length > ahead) await readFirst();
    }
    while (waiting.length > 0) await readFirst();
    return done;
  } finally {
    for (const { states } of waiting) {
      const [result] = await states;
      if (result.status === "fulfilled") tensors.use(result.value);
    }
  }
}

/** Records one batch. The promise never rejects, so that batches can wait for each other. */
function recorded(
  { model, texts, held, select }: {
    model: EncodingModel;
    texts: readonly string[];
    held: HeldTexts | undefined;
    select: (states: Tensor, from: number, to: number) => Tensor;
  },
  from: number,
  to: number,
): Promise<PromiseSettledResult<Tensor>[]> {
  const states = held ? held.encode(from, to) : model.encodeTexts(texts.slice(from, to));
  return Promise.allSettled([
    states instanceof Tensor ? select(states, from, to) : states.then((each) => select(each, from, to)),
  ]);
}
