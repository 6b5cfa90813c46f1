/** The files of jimp's fonts, by their size in pixels. Not for browsers. @module */
import { SANS_16_BLACK, SANS_32_BLACK, SANS_64_BLACK } from "jimp/fonts";

/** Paths of bitmap fonts. */
export const fontFiles = { 16: SANS_16_BLACK, 32: SANS_32_BLACK, 64: SANS_64_BLACK } as const;
