/** The level of a line: "error", "warning", "info", "debug", or null. */
export function levelOf(text) {
  if (/^(?:::|##\[)error/.test(text) || /^\s*(?:E\s{3}|FAILED |ERROR\b|Traceback \(most recent)/.test(text)) return "error";
  return /^(?:::|##\[)warning/.test(text) || /^\s*WARN(?:ING)?\b/.test(text) ? "warning" : null;
}
