import type { Headers } from '../../lib/core/headers.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY, parseContentLength, UNTIL_CLOSE } from '../../lib/http1/framing.ts'
import { type HeaderCase, type LineMemo, statusLine } from '../../lib/http1/head-writer.ts'

/** What decides how a response is framed, beside its own headers. */
export interface ResponseFacts {
  /** Of the connection. */
  readonly memo: LineMemo
  status: number
  /** Nothing follows the headers. */
  end: boolean
  requestMethod: string
  /** Of the client: 0 or 1. */
  minor: number
  close: boolean
  spelling: HeaderCase
}

/** A response head as it goes on the wire. */
export interface WireResponse {
  readonly text: string
  readonly framing: Framing
  readonly length: number
  /** The response has no body whatever its headers say (RFC 9112 §6.3). */
  readonly bodyless: boolean
  readonly close: boolean
}

/** Content-Length, chunked or until close, never two of them; decided from what the response is, not from what it claims. */
export function responseHead(headers: Headers, facts: ResponseFacts): WireResponse {
  const { status, end, minor, spelling } = facts
  const bodyless = facts.requestMethod === 'HEAD' || status === 204 || status === 304
  let { close } = facts
  let framing: Framing = NO_BODY
  let extra = ''
  const declared = headers.get('content-length')
  let length = declared === undefined ? -1 : parseContentLength(declared)
  if (status === 204) headers.delete('content-length')
  if (!bodyless) {
    if (length >= 0) framing = LENGTH
    else if (end) {
      framing = LENGTH
      length = 0
      extra = 'content-length: 0\r\n'
    } else if (minor === 1) {
      framing = CHUNKED
      extra = 'transfer-encoding: chunked\r\n'
    } else {
      framing = UNTIL_CLOSE
      close = true
    }
  }
  if (close) extra += 'connection: close\r\n'
  else if (minor === 0) extra += 'connection: keep-alive\r\n'
  const skipLength = declared !== undefined && framing !== LENGTH && !bodyless
  return {
    text: statusLine(status) + facts.memo.lines(headers, spelling, skipLength) + extra + '\r\n',
    framing,
    length,
    bodyless,
    close,
  }
}
