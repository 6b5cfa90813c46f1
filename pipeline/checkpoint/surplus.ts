/**
 * Tensors that a checkpoint holds and no model reads: averaged weights, a sampler's constants,
 * projections, index buffers. They are ignored with one warning.
 *
 * @module
 */

import { countText } from "../../engine/inspect.ts";
import { nameText, warn } from "../safe_text.ts";

/** Collects surplus keys over all parts of a checkpoint, to warn of them once. */
export class SurplusKeys {
  readonly #keys: string[] = [];

  /** All keys so far. */
  get keys(): readonly string[] {
    return this.#keys;
  }

  /** Adds the keys of one part. */
  add(keys: Iterable<string>): void {
    for (const key of keys) this.#keys.push(key); // a file may hold more than a call takes arguments
  }

  /** Prints one warning if there is any surplus key. `source` names the checkpoint. */
  warn(source: string): void {
    if (this.#keys.length > 0) warn(`${source} holds ${describeSurplus(this.#keys)}`);
  }
}

/** Names shown before the rest is only counted. */
const shown = 8;

/** Says which tensors are ignored: "3 tensors that no model here reads, which are ignored: …". */
export function describeSurplus(keys: readonly string[]): string {
  const groups = Map.groupBy(keys, (key) => key.split(".")[0]);
  const names = [...groups].flatMap(([first, members]) =>
    members.length > 3 ? [`${first}.* (${members.length})`] : members
  ).map((name) => nameText(name));
  const rest = names.length > shown ? `, … and ${names.length - shown} more` : "";
  return `${countText(keys.length, "tensor")} that drawing does not need, which ${
    keys.length === 1 ? "is" : "are"
  } ignored: ${names.slice(0, shown).join(", ")}${rest}`;
}
