import type { Refusal } from './local-reply.ts'

/** No route and no manager lists the protocol. */
export const UPGRADE_FAILED: Refusal = Object.freeze({ status: 403, details: 'upgrade_failed' })
/** Another filter chain's name. */
export const MISDIRECTED: Refusal = Object.freeze({ status: 421, details: 'misdirected_request' })
/** `OPTIONS *` is for proxies, which have no path to give. */
export const NO_PATH: Refusal = Object.freeze({ status: 404, details: 'absolute_path_rejected' })
/** Anything but `100-continue`. */
export const UNKNOWN_EXPECTATION: Refusal = Object.freeze({ status: 417, details: 'unknown_expectation' })
/** A header name with an underscore, over HTTP/1. */
export const UNDERSCORES: Refusal = Object.freeze({ status: 400, details: 'http1.unexpected_underscore' })
/** The same over HTTP/2. */
export const UNDERSCORES_2: Refusal = Object.freeze({ status: 400, details: 'http2.unexpected_underscore' })
/** Stands for an answer that has been given. */
export const REPLIED_ALREADY: Refusal = Object.freeze({ status: 0, details: '' })

/** The exchange took too long; its status depends on whose fault it is. */
export const DURATION_TIMEOUT = Object.freeze({
  body: 'downstream duration timeout',
  details: 'max_duration_timeout',
  // DEADLINE_EXCEEDED
  grpcStatus: 4,
})
