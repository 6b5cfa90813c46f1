/**
 * How an edit is scored: TIME's three questions (2303.08084, section 5), put to CLIP about every
 * picture.
 */

/**
 * What a picture tells of an edit. Efficacy: the picture of the source prompt fits the destination
 * better than the source. Generality: the same for related prompts. Specificity: the picture of an
 * unrelated prompt fits that prompt better than the one with what the edit adds.
 */
export type Measure = "efficacy" | "generality" | "specificity";

/** CLIP's logits of one picture. */
export interface JudgedPicture {
  readonly measure: Measure;
  /** Logit of the prompt that the picture was drawn from. */
  readonly own: number;
  /** Logit of that prompt with what the edit adds. */
  readonly edited: number;
  /** Whether the prompt was among those that the edit was given to keep. */
  readonly kept?: boolean;
}

/** Pictures that answer one question. */
export interface Tally {
  readonly pictures: number;
  /** Share of pictures that fit the prompt that they should fit better; NaN without pictures. */
  readonly rate: number;
  /**
   * What CLIP believes, between the two prompts, in favour of that prompt: mean softmax, which
   * tells more than the rate when pictures are few.
   */
  readonly belief: number;
}

/** An edit's three scores. */
export interface EditScores {
  readonly efficacy: Tally;
  readonly generality: Tally;
  readonly specificity: Tally;
  /** Specificity of prompts that the edit was not given to keep. */
  readonly specificityUnseen: Tally;
  /** Of the three rates: low where one is. */
  readonly harmonicMean: number;
}

/** Scores of pictures. A tie fits neither prompt better, and counts as a failure. */
export function scorePictures(pictures: readonly JudgedPicture[]): EditScores {
  const of = (measure: Measure, filter = (_: JudgedPicture) => true) =>
    tally(pictures.filter((picture) => picture.measure === measure && filter(picture)));
  const efficacy = of("efficacy"), generality = of("generality"), specificity = of("specificity");
  return {
    efficacy,
    generality,
    specificity,
    specificityUnseen: of("specificity", ({ kept }) => !kept),
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

/** n / Σ 1/xᵢ, and 0 where a value is 0. */
export function harmonicMean(values: readonly number[]): number {
  return values.length / values.reduce((sum, value) => sum + 1 / value, 0);
}
