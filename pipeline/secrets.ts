/**
 * Secrets that addresses and headers carry, kept out of messages.
 *
 * @module
 */

/** Names of URL parameters whose values are secrets, without their prefixes. */
const secretNames = "access_token|token|api_?key|key|password|passwd|secret|sig|signature|credential|auth";

const secretParameter = new RegExp(`([?&;][a-z_-]{0,40}(?:${secretNames})=)[^&\\s"'#;]+`, "gi");

/**
 * Hides what must not be seen in logs: user and password of URLs, malformed ones too, secret URL
 * parameters, bearer tokens, and tokens of the hub. Each repetition is bounded, so that the work is
 * linear in the text, whoever wrote it.
 */
export function hideUrlSecrets(text: string): string {
  return text
    .replace(/\b([a-z][a-z0-9+.-]{0,20}:\/{1,3})[^\s/"'<>?#]{0,1000}@/gi, "$1***@")
    .replace(/\b([a-z][a-z0-9+.-]{0,20}:\/{2,3})[^\s"'<>@:]{0,1000}:[^\s"'<>@]{0,1000}@/gi, "$1***@")
    .replace(secretParameter, "$1***")
    .replace(/\b(bearer\s{1,9})[\w.~+/=-]{6,}/gi, "$1***")
    .replace(/\bhf_[A-Za-z0-9]{6,}/g, "hf_***");
}
