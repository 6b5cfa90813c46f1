/** Names of the stages that targets refer to. */

/** A picture with compiled kernels. */
export function pictureStage(steps: number): string {
  return `picture, ${steps} steps, guided`;
}

/** The demo, run from the shell with empty shader caches. */
export const demoStage = "cold: sh run.sh demo";
