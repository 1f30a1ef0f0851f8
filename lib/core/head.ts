/** The request line and its HTTP/2 equivalents. `authority` is the Host field's value; `path` includes the query. */
export interface RequestHead {
  method: string
  /** `http` or `https`. */
  scheme: string
  authority: string
  path: string
  /** RFC 8441 `:protocol`, or the value of a permitted HTTP/1 `Upgrade`. */
  protocol: string | undefined
}

/** Protocol on the wire, with the words that Envoy's `%PROTOCOL%` prints. */
export type Protocol = 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'
