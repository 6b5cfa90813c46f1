/** Where written bytes go, in order. */
export type ByteSink = (chunk: Uint8Array) => Promise<void> | void;
