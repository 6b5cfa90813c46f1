/** What the stages are called that targets are about. */

/** A warm picture. */
export function pictureStage(steps: number): string {
  return `picture, ${steps} steps, guided`;
}

/** The demo from the shell, nothing compiled before. */
export const demoStage = "cold: sh run.sh demo";
