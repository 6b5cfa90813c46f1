export { nearest } from "../pipeline/nearest.ts";
