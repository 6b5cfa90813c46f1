/**
 * Evaluation of edits: the TIME paper's measures, leakage prediction, and sweeps over data sets.
 *
 * @module
 */
export { type CaseLimits, type EditCase, limitCases, parseEditCases, type PromptPair } from "./edit_cases.ts";
export { type DrawingOptions, drawPictures, type PictureRequest } from "./draw_pictures.ts";
export * from "./debias/debias.ts";
export * from "./debias/gender.ts";
export * from "./debias/log.ts";
export * from "./debias/search.ts";
export * from "./edit_scores.ts";
export * from "./editors/compare.ts";
export { comparisonHead, comparisonLine, comparisonLosses } from "./editors/table.ts";
export * from "./evaluate_edits.ts";
export * from "./evaluate_leakage.ts";
export { rankCorrelation, ranks } from "./rank_correlation.ts";
export {
  type ClusterJob,
  hyperQueueScript,
  kubernetesManifest,
  type KubernetesOptions,
  type Shard,
  ShardError,
  shardOfEnvironment,
  slurmScript,
} from "./cluster/mod.ts";
export * from "./sweep/batches.ts";
export { checkEdits, checkErasures, checkRetained } from "./sweep/check_edits.ts";
export * from "./sweep/data_sets.ts";
export * from "./sweep/files.ts";
export * from "./sweep/merge.ts";
export * from "./sweep/pins.ts";
export {
  editText,
  fitOf,
  jobsOfShard,
  type ListedPrompt,
  mostJobs,
  pictureKey,
  picturesOfJob,
  planFormat,
  type PlannedPicture,
  plannedPictures,
  planSweep,
  type PromptEdit,
  promptsOfRow,
  type SweepJob,
  type SweepMeasure,
  type SweepPair,
  type SweepPins,
  type SweepPlan,
  type SweepPrompt,
  type SweepResult,
  type SweepRow,
  type SweepSettings,
} from "./sweep/plan.ts";
export { type ReportOptions, sweepReport } from "./sweep/report/report.ts";
export * from "./sweep/run.ts";
export { summaryCsv, summaryTable } from "./sweep/tables.ts";
export {
  type EditedRow,
  type EditorSettings,
  type SettingGrid,
  settingsOfGrid,
  solveOptions,
  type SweepMethod,
  type SweepSetting,
} from "./sweep/settings.ts";
export * from "./sweep/sweep_error.ts";
export * from "./verdicts.ts";
export { type Interval, wilsonInterval } from "./wilson.ts";
