/**
 * Scores of edits: efficacy, generality and specificity by CLIP, as in TIME (arXiv 2303.08084,
 * section 5).
 *
 * @module
 */

/**
 * What a picture measures. Efficacy: a picture of the source prompt fits the destination better
 * than the source. Generality: the same for related prompts. Specificity: a picture of an unrelated
 * prompt fits that prompt better than its edited form.
 */
export type Measure = "efficacy" | "generality" | "specificity";

/** CLIP's logits of one picture. */
export interface JudgedPicture {
  /** The measure that the picture counts toward. */
  readonly measure: Measure;
  /** Logit of the prompt that the picture was drawn from. */
  readonly own: number;
  /** Logit of the edited form of that prompt. */
  readonly edited: number;
  /** Whether the prompt was one of those that the edit preserves. */
  readonly kept?: boolean;
}

/** Statistics of one measure. */
export interface Tally {
  /** Number of pictures. */
  readonly pictures: number;
  /** Share of pictures that fit the wanted prompt better; NaN without pictures. */
  readonly rate: number;
  /**
   * Mean softmax probability of the wanted prompt against the other one. With few pictures, it
   * distinguishes edits better than the rate.
   */
  readonly belief: number;
}

/** The scores of an edit. */
export interface EditScores {
  /** The score of the source prompt. */
  readonly efficacy: Tally;
  /** The score of the related prompts. */
  readonly generality: Tally;
  /** The score of the unrelated prompts. */
  readonly specificity: Tally;
  /** Specificity of the prompts that the edit does not preserve. */
  readonly specificityUnseen: Tally;
  /** Harmonic mean of efficacy, generality and specificity; low if any of them is low. */
  readonly harmonicMean: number;
}

/** Scores pictures by measure. A tie counts as a failure. */
export function scorePictures(pictures: readonly JudgedPicture[]): EditScores {
  const tallyOf = (measure: Measure, filter = (_: JudgedPicture) => true) =>
    tally(pictures.filter((picture) => picture.measure === measure && filter(picture)));
  const efficacy = tallyOf("efficacy"), generality = tallyOf("generality"), specificity = tallyOf("specificity");
  return {
    efficacy,
    generality,
    specificity,
    specificityUnseen: tallyOf("specificity", ({ kept }) => !kept),
    harmonicMean: harmonicMean([efficacy.rate, generality.rate, specificity.rate]),
  };
}

function tally(pictures: readonly JudgedPicture[]): Tally {
  const margins = pictures.map(({ measure, own, edited }) => measure === "specificity" ? own - edited : edited - own);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    pictures: pictures.length,
    rate: mean(margins.map((margin) => margin > 0 ? 1 : 0)),
    belief: mean(margins.map((margin) => 1 / (1 + Math.exp(-margin)))),
  };
}

/** The harmonic mean n / Σ 1/xᵢ; 0 when a value is 0. */
export function harmonicMean(values: readonly number[]): number {
  return values.length / values.reduce((sum, value) => sum + 1 / value, 0);
}
