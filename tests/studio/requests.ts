/** Requests that the studio's tests share. @module */
import type { EditSpec, PictureRequest } from "../../studio/painter.ts";

/** The studio's first edit. */
export const blueRoses: EditSpec = {
  pairs: [{ source: "A pack of roses", destination: "A pack of blue roses" }],
  lambda: 0.1,
  strength: 1,
  withToK: true,
  enabled: true,
  preserve: [],
};

/** Edits of the other editors, each with a setting of its own. */
export const otherMethods: readonly EditSpec[] = [
  {
    ...blueRoses,
    pairs: [{ source: "a rose", destination: "a blue rose" }, { source: "a daisy", destination: "" }],
    lambda: 0.5,
    preserve: ["a cat"],
    method: "uce",
    eraseScale: 2,
  },
  {
    ...blueRoses,
    pairs: [{ source: "a rose", destination: "a blue rose" }],
    lambda: 0,
    preserve: ["a cat", "a lemon"],
    method: "nullspace",
    threshold: 0.05,
  },
];

/** A small picture in two steps. */
export function pictureOf(prompt: string): PictureRequest {
  return {
    prompt,
    settings: {
      seed: "7",
      steps: 2,
      guidance: 5,
      sampler: "DDIM",
      width: 32,
      height: 32,
      negativePrompt: "",
      clipSkip: 0,
    },
    edits: [],
  };
}
