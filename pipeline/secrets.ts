/**
 * Secrets that addresses and headers carry, kept out of messages.
 *
 * @module
 */

/** Names of URL parameters whose values are secrets, without their prefixes. */
const secretNames = "access_token|token|api_?key|key|password|passwd|secret|sig|signature|credential|auth";

const secretParameter = new RegExp(`([?&;][a-z_-]*(?:${secretNames})=)[^&\\s"'#;]+`, "gi");

/**
 * Hides what must not be seen in logs: user and password of URLs, malformed ones too, secret URL
 * parameters, bearer tokens, and tokens of the hub.
 */
export function hideUrlSecrets(text: string): string {
  return text
    .replace(/\b([a-z][a-z0-9+.-]*:\/{1,3})[^\s/"'<>?#]*@/gi, "$1***@")
    .replace(/\b([a-z][a-z0-9+.-]*:\/{2,3})[^\s"'<>@:]*:[^\s"'<>@]*@/gi, "$1***@")
    .replace(secretParameter, "$1***")
    .replace(/\b(bearer\s+)[\w.~+/=-]{6,}/gi, "$1***")
    .replace(/\bhf_[A-Za-z0-9]{6,}/g, "hf_***");
}
