import type { HttpStream } from '../../lib/chain/filter.ts'
import type { Clock } from '../../lib/core/clock.ts'
import { cookieValue } from '../../lib/match/cookie.ts'
import type { CookieStateConfig, SessionStateConfig } from './config.ts'
import { decodeBase64, decodeCookie, encodeCookie } from './cookie-value.ts'

/** One way to keep the address of a session's host. */
export interface SessionState {
  /** False: requests like this one have no session. */
  covers(stream: HttpStream): boolean
  /** The address that the request brings; undefined: none. What the upstream is not to see is taken out. */
  read(stream: HttpStream): string | undefined
  /** Tells the client where its request has gone. `asked`: what `read` has found. */
  write(stream: HttpStream, address: string, asked: string | undefined): void
}

export function createState(config: SessionStateConfig, clock: Clock): SessionState {
  switch (config.kind) {
    case 'cookie':
      return cookieState(config, clock)
    case 'header':
      return headerState(config.name)
    case 'envelope':
      return envelopeState(config.name)
  }
}

function cookieState(config: CookieStateConfig, clock: Clock): SessionState {
  const { name, path, ttlS } = config
  const covers = pathMatcher(path)
  const rest = attributes(config)
  const seconds = (): number => Math.floor(clock.wall() / 1000)
  return {
    covers: ({ head }) => covers(head.path),
    read({ request }) {
      const value = cookieValue(request, name)
      const cookie = value === undefined ? undefined : decodeCookie(value)
      if (cookie === undefined || (cookie.expires !== 0 && seconds() > cookie.expires)) return undefined
      return cookie.address
    },
    write({ response }, address, asked) {
      if (asked === address) return
      const value = encodeCookie({ address, expires: ttlS === 0 ? 0 : seconds() + ttlS })
      response.append('set-cookie', `${name}="${value}"${rest}`)
    },
  }
}

function attributes({ path, ttlS, attributes: more }: CookieStateConfig): string {
  const parts = [
    ...(ttlS === 0 ? [] : [`Max-Age=${ttlS}`]),
    ...(path === '' ? [] : [`Path=${path}`]),
    ...more.map(({ name, value }) => (value === '' ? name : `${name}=${value}`)),
    'HttpOnly',
  ]
  return parts.map((part) => `; ${part}`).join('')
}

/** As the cookie's path (RFC 6265 §5.1.4): the same path, or below it. */
function pathMatcher(path: string): (requested: string) => boolean {
  if (path === '' || path === '/') return () => true
  if (path.endsWith('/')) return (requested) => requested.startsWith(path)
  return (requested) =>
    requested.startsWith(path) && (requested.length === path.length || '/?#'.includes(requested[path.length]))
}

function headerState(name: string): SessionState {
  return {
    covers: () => true,
    read: ({ request }) => decoded(request.get(name)),
    write({ response }, address, asked) {
      if (asked !== address) response.set(name, encoded(address))
    },
  }
}

/** Before the value of the upstream's own: `<address>;UV:<value>`, both in base64, in a header that the upstream has made. */
function envelopeState(name: string): SessionState {
  return {
    covers: () => true,
    read({ request }) {
      const parts = request.get(name)?.split(';') ?? []
      const mark = 'UV:'
      const value = decoded(
        parts
          .slice(1)
          .find((part) => part.startsWith(mark))
          ?.slice(mark.length),
      )
      // What is no envelope goes through as it is.
      if (value === undefined || !isFieldValue(value)) return undefined
      request.set(name, value)
      return decoded(parts[0])
    },
    write({ response }, address) {
      const values = response.getAll(name)
      if (values.length === 1) response.set(name, `${encoded(address)};UV:${encoded(values[0])}`)
    },
  }
}

function encoded(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64')
}

function decoded(value: string | undefined): string | undefined {
  return value === undefined ? undefined : decodeBase64(value)?.toString('latin1')
}

/** It came from a client, and goes on in a header. */
function isFieldValue(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return false
  }
  return true
}
