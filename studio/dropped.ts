/** What a dropped file holds. @module */

import { PainterError } from "./painter.ts";
import type { DroppedContent } from "./painter.ts";

/** Reads a dropped file: a picture of ours, an edit, a LoRA or a model. */
export function readDropped(_file: Blob, name: string): Promise<DroppedContent> {
  throw new PainterError({ kind: "input", message: `Cannot use ${name}` });
}
