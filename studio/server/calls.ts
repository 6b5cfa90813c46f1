/** What a server accepts: the methods of a painter, and the form of their arguments. @module */

import * as v from "valibot";
import {
  anyText,
  boolean,
  fields,
  finite,
  listOf,
  oneOf,
  positive,
  type Schema,
  text,
  validate,
  whole,
} from "../../pipeline/schema.ts";
import { editSchemaOf } from "../edit_schema.ts";
import type { PainterCall, PainterMethod } from "../painters/forwarding_painter.ts";
import { decodeWire } from "../painters/wire.ts";
import {
  type DrawSettings,
  type EditSpec,
  type ModelChoice,
  PainterError,
  type PictureRequest,
  type Pixels,
} from "../painter.ts";

/** Largest side of a picture in pixels. */
const maxSide = 2048;

const editSchema: Schema<EditSpec> = editSchemaOf({
  prompt: text(),
  destination: anyText(),
  strength: finite(),
  maxPairs: 100,
  maxPreserved: 100,
});
const edits = listOf(editSchema, { max: 50 });
const prompts = listOf(anyText(), { max: 500 });

const settingsSchema: Schema<DrawSettings> = fields({
  seed: v.pipe(v.string("a seed in decimal digits"), v.regex(/^\d{1,20}$/, "a seed in decimal digits")),
  steps: whole(1, 1000),
  guidance: finite(),
  sampler: text(),
  width: whole(8, maxSide),
  height: whole(8, maxSide),
  negativePrompt: anyText(),
  clipSkip: whole(0, 100),
  prompt2: v.optional(anyText()),
  negativePrompt2: v.optional(anyText()),
});
const requestSchema: Schema<PictureRequest> = fields({ prompt: anyText(), settings: settingsSchema, edits });

const choiceSchema: Schema<ModelChoice> = fields({ kind: oneOf("pocket", "served") });

const pixelsSchema: Schema<Pixels> = v.pipe(
  fields({
    width: whole(1, maxSide),
    height: whole(1, maxSide),
    data: v.custom<Uint8ClampedArray<ArrayBuffer>>((value) => value instanceof Uint8ClampedArray, "pixels"),
  }),
  v.check(({ width, height, data }) => data.length === 4 * width * height, "pixels of that size"),
);

/** The arguments of each method that a page may call, callbacks apart. */
const schemas: { readonly [M in Exclude<PainterMethod, "read">]: Schema<readonly unknown[]> } = {
  estimate: v.strictTuple([choiceSchema]),
  open: v.strictTuple([choiceSchema]),
  align: v.strictTuple([fields({ source: anyText(), destination: anyText() }), oneOf("all", "last")]),
  predict: v.strictTuple([edits, prompts]),
  curves: v.strictTuple([
    edits,
    fields({ open: whole(0, 49), prompts, lambdas: listOf(positive(), { min: 1, max: 200 }) }),
  ]),
  draw: v.strictTuple([requestSchema]),
  stop: v.strictTuple([]),
  encode: v.strictTuple([requestSchema, pixelsSchema, fields({ withText: boolean() })]),
  saveEdit: v.strictTuple([editSchema]),
  saveLora: v.strictTuple([edits]),
  // Files are uploaded apart; null removes all of them.
  useLora: v.strictTuple([v.null("null"), anyText()]),
  close: v.strictTuple([]),
};

/**
 * A call that a page sent.
 *
 * @throws {PainterError} if there is no such method, or the arguments do not have its form
 */
export function parseCall(method: string, body: string): PainterCall {
  if (!Object.hasOwn(schemas, method)) throw refusal(`there is no call ${JSON.stringify(method.slice(0, 40))}`);
  let args: unknown;
  try {
    args = decodeWire(body);
  } catch (cause) {
    throw refusal((cause as Error).message);
  }
  const known = method as keyof typeof schemas;
  return { method: known, args: validate(schemas[known], args, refusal) };
}

function refusal(reason: string): PainterError {
  return new PainterError({ kind: "input", message: `The server cannot carry out the call: ${reason}` });
}
