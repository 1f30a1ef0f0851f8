import type { FieldReader } from './field-reader.ts'

/** `type.v3.StatusCode`, by name. */
const STATUSES: ReadonlyMap<string, number> = new Map([
  ['Continue', 100],
  ['OK', 200],
  ['Created', 201],
  ['Accepted', 202],
  ['NonAuthoritativeInformation', 203],
  ['NoContent', 204],
  ['ResetContent', 205],
  ['PartialContent', 206],
  ['MultiStatus', 207],
  ['AlreadyReported', 208],
  ['IMUsed', 226],
  ['MultipleChoices', 300],
  ['MovedPermanently', 301],
  ['Found', 302],
  ['SeeOther', 303],
  ['NotModified', 304],
  ['UseProxy', 305],
  ['TemporaryRedirect', 307],
  ['PermanentRedirect', 308],
  ['BadRequest', 400],
  ['Unauthorized', 401],
  ['PaymentRequired', 402],
  ['Forbidden', 403],
  ['NotFound', 404],
  ['MethodNotAllowed', 405],
  ['NotAcceptable', 406],
  ['ProxyAuthenticationRequired', 407],
  ['RequestTimeout', 408],
  ['Conflict', 409],
  ['Gone', 410],
  ['LengthRequired', 411],
  ['PreconditionFailed', 412],
  ['PayloadTooLarge', 413],
  ['URITooLong', 414],
  ['UnsupportedMediaType', 415],
  ['RangeNotSatisfiable', 416],
  ['ExpectationFailed', 417],
  ['MisdirectedRequest', 421],
  ['UnprocessableEntity', 422],
  ['Locked', 423],
  ['FailedDependency', 424],
  ['UpgradeRequired', 426],
  ['PreconditionRequired', 428],
  ['TooManyRequests', 429],
  ['RequestHeaderFieldsTooLarge', 431],
  ['InternalServerError', 500],
  ['NotImplemented', 501],
  ['BadGateway', 502],
  ['ServiceUnavailable', 503],
  ['GatewayTimeout', 504],
  ['HTTPVersionNotSupported', 505],
  ['VariantAlsoNegotiates', 506],
  ['InsufficientStorage', 507],
  ['LoopDetected', 508],
  ['NotExtended', 510],
  ['NetworkAuthenticationRequired', 511],
])

/** The number in a `type.v3.HttpStatus`, whose `code` is an enum; 0 where it is not set. */
export function httpStatus(reader: FieldReader): number {
  return STATUSES.get(reader.enumName('code')) ?? 0
}

/** The name of a status in `type.v3.StatusCode`; undefined where it has none. */
export function httpStatusName(status: number): string | undefined {
  for (const [name, code] of STATUSES) if (code === status) return name
  return undefined
}
