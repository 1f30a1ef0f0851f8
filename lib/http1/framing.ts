import { isToken } from './tokens.ts'

/** How a message's body is delimited (RFC 9112 §6). */
export const NO_BODY = 0
export const LENGTH = 1
export const CHUNKED = 2
export const UNTIL_CLOSE = 3
export type Framing = typeof NO_BODY | typeof LENGTH | typeof CHUNKED | typeof UNTIL_CLOSE

/**
 * Content-Length by the strict rule of this project: digits only, no leading zero, at most 2^53 - 1. Lists, signs and
 * white space are refused, never repaired. Answers -1 where it is not valid.
 */
export function parseContentLength(value: string): number {
  const n = value.length
  if (n === 0 || n > 16) return -1
  if (n > 1 && value.charCodeAt(0) === 48) return -1
  let length = 0
  for (let i = 0; i < n; i++) {
    const d = value.charCodeAt(i) - 48
    if (d < 0 || d > 9) return -1
    length = length * 10 + d
  }
  return length <= Number.MAX_SAFE_INTEGER ? length : -1
}

/**
 * Transfer-Encoding: 0 where it is exactly `chunked`, otherwise the status of the refusal: 501 for codings that we do
 * not implement, 400 for a malformed list or `chunked` anywhere but once at the end.
 */
export function checkTransferEncoding(value: string): 0 | 400 | 501 {
  if (value === 'chunked' || value.toLowerCase() === 'chunked') return 0
  const codings = value.toLowerCase().split(',')
  for (let i = 0; i < codings.length; i++) {
    const coding = codings[i].replace(/^[ \t]+|[ \t]+$/g, '')
    const name = coding.split(';', 1)[0].replace(/[ \t]+$/, '')
    if (!isToken(name)) return 400
    if (name === 'chunked' && (i !== codings.length - 1 || coding !== 'chunked')) return 400
  }
  return 501
}
