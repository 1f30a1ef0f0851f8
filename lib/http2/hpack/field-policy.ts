/**
 * How a field is represented, decided by its name (RFC 7541 §6.2, §7.1).
 *
 * ADAPTIVE and CHANGING differ in where they start only: the encoder's own rule takes over from there.
 */
export const ADAPTIVE = 0
/** Not indexed before a value has been seen twice: it differs from request to request as a rule. */
export const CHANGING = 1
/** Never indexed, by nobody behind us either: whoever can watch sizes must not be able to guess it piece by piece. */
export const NEVER = 2
/** NEVER where the value is short enough to be guessed. */
export const NEVER_IF_SHORT = 3

export type Policy = typeof ADAPTIVE | typeof CHANGING | typeof NEVER | typeof NEVER_IF_SHORT

/** Cookies below it are NEVER: a long one has more entropy than can be guessed through a table (RFC 7541 §7.1.3). */
export const SHORT_SECRET_CHARS = 20

const SECRET: readonly string[] = Object.freeze([
  'authorization',
  'proxy-authorization',
  'set-cookie',
  'x-api-key',
  'x-auth-token',
])

// biome-ignore format: a list of words
const CHANGES: readonly string[] = Object.freeze([
  'age', 'content-length', 'content-range', 'etag', 'grpc-timeout', 'if-match', 'if-modified-since', 'if-none-match',
  'if-range', 'if-unmodified-since', 'last-modified', 'location', 'range', 'traceparent', 'tracestate',
  'x-amzn-trace-id', 'x-b3-parentspanid', 'x-b3-spanid', 'x-b3-traceid', 'x-correlation-id',
  'x-envoy-expected-rq-timeout-ms', 'x-envoy-upstream-service-time', 'x-request-id', 'x-response-time',
])

const POLICIES: ReadonlyMap<string, Policy> = new Map<string, Policy>([
  ...SECRET.map((name): [string, Policy] => [name, NEVER]),
  ...CHANGES.map((name): [string, Policy] => [name, CHANGING]),
  ['cookie', NEVER_IF_SHORT],
])

/** The policy of a name (lower-case); ADAPTIVE for all that are not listed. */
export function policyOf(name: string): Policy {
  return POLICIES.get(name) ?? ADAPTIVE
}
