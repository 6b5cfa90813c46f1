/**
 * Computes for 20 ms of processor time, then waits for 400 ms, and prints the processor time of the
 * wait in milliseconds, of all threads together. A process of its own, because processor time is
 * the process's.
 *
 * @module
 */
import { processorClock } from "../../../bench/measure/timing.ts";

const began = performance.now(), processorBegan = processorClock();
while (processorClock() - processorBegan < 20) {
  if (performance.now() - began > 30_000) throw new Error("computing takes no processor time");
}
const before = processorClock();
await new Promise((resolve) => setTimeout(resolve, 400));
console.log((processorClock() - before) * navigator.hardwareConcurrency);
