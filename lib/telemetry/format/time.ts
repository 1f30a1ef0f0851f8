/** Renders a wall-clock time in milliseconds. */
export type RenderTime = (wallMs: number) => string

type Part = ((date: TimeFields) => string) | number

/** A moment broken down in one time zone. */
interface TimeFields {
  readonly year: number
  /** 0 to 11. */
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  /** 0 is Sunday. */
  readonly weekday: number
  /** 0 to 365. */
  readonly yearDay: number
  readonly epochSeconds: number
  readonly offsetMinutes: number
  readonly zone: string
}

const DAYS = Object.freeze(['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'])
const MONTHS = Object.freeze(
  'January February March April May June July August September October November December'.split(' '),
)

/** Directives of strftime in the C locale. */
const DIRECTIVES: Readonly<Record<string, (t: TimeFields) => string>> = Object.freeze({
  a: (t: TimeFields) => DAYS[t.weekday].slice(0, 3),
  A: (t: TimeFields) => DAYS[t.weekday],
  b: (t: TimeFields) => MONTHS[t.month].slice(0, 3),
  B: (t: TimeFields) => MONTHS[t.month],
  C: (t: TimeFields) => two(Math.floor(t.year / 100)),
  d: (t: TimeFields) => two(t.day),
  e: (t: TimeFields) => `${t.day}`.padStart(2, ' '),
  g: (t: TimeFields) => two(isoWeek(t).year % 100),
  G: (t: TimeFields) => `${isoWeek(t).year}`,
  h: (t: TimeFields) => MONTHS[t.month].slice(0, 3),
  H: (t: TimeFields) => two(t.hour),
  I: (t: TimeFields) => two(t.hour % 12 || 12),
  j: (t: TimeFields) => `${t.yearDay + 1}`.padStart(3, '0'),
  k: (t: TimeFields) => `${t.hour}`.padStart(2, ' '),
  l: (t: TimeFields) => `${t.hour % 12 || 12}`.padStart(2, ' '),
  m: (t: TimeFields) => two(t.month + 1),
  M: (t: TimeFields) => two(t.minute),
  n: () => '\n',
  p: (t: TimeFields) => (t.hour < 12 ? 'AM' : 'PM'),
  s: (t: TimeFields) => `${t.epochSeconds}`,
  S: (t: TimeFields) => two(t.second),
  t: () => '\t',
  u: (t: TimeFields) => `${t.weekday || 7}`,
  U: (t: TimeFields) => two(Math.floor((t.yearDay + 7 - t.weekday) / 7)),
  V: (t: TimeFields) => two(isoWeek(t).week),
  w: (t: TimeFields) => `${t.weekday}`,
  W: (t: TimeFields) => two(Math.floor((t.yearDay + 7 - ((t.weekday + 6) % 7)) / 7)),
  y: (t: TimeFields) => two(t.year % 100),
  Y: (t: TimeFields) => `${t.year}`,
  z: (t: TimeFields) => offset(t.offsetMinutes, ''),
  Z: (t: TimeFields) => t.zone,
  '%': () => '%',
})

/** Directives that stand for others. */
const COMPOSITES: Readonly<Record<string, string>> = Object.freeze({
  c: '%a %b %e %H:%M:%S %Y',
  D: '%m/%d/%y',
  F: '%Y-%m-%d',
  r: '%I:%M:%S %p',
  R: '%H:%M',
  T: '%H:%M:%S',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
})

/** Instead of a number of digits: as many as needed (`%E*f`); the same with its dot, nothing on a whole second (`%E*S`). */
const AS_NEEDED = 0
const AS_NEEDED_WITH_DOT = -1
const DIRECTIVE = /%(?:([1-9])?f|E([0-9*])S|E([0-9*])f|E(\*?z)|E4(Y)|E(T)|([a-zA-Z%]))/y

/**
 * Compiles a time format: strftime in the C locale, Envoy's `%s`, `%f` and `%1f` to `%9f`, and the extensions `%E3S`,
 * `%E*S`, `%E3f`, `%E*f`, `%Ez`, `%E*z`, `%E4Y`, `%ET`. The rendered second is kept, so that within one second only the
 * fraction is rendered. `fail` is called with what is wrong.
 */
export function compileTime(format: string, zone: 'utc' | 'local', fail: (message: string) => never): RenderTime {
  const parts = joinSeconds(parseTime(format, fail))
  const rendered = new Array<string>(parts.length).fill('')
  let renderedSecond = Number.NaN
  return (wallMs) => {
    const second = Math.floor(wallMs / 1000)
    if (second !== renderedSecond) {
      renderedSecond = second
      const date = zone === 'utc' ? utcFields(second) : localFields(second)
      for (let i = 0; i < parts.length; i++) {
        const part = parts[i]
        if (typeof part === 'function') rendered[i] = part(date)
      }
    }
    let out = ''
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]
      out += typeof part === 'number' ? fraction(wallMs - second * 1000, part) : rendered[i]
    }
    return out
  }
}

function parseTime(format: string, fail: (message: string) => never): Part[] {
  const parts: Part[] = []
  let at = 0
  while (at < format.length) {
    const percent = format.indexOf('%', at)
    const end = percent < 0 ? format.length : percent
    if (end > at) {
      const literal = format.slice(at, end)
      parts.push(() => literal)
    }
    if (percent < 0) break
    DIRECTIVE.lastIndex = percent
    const match = DIRECTIVE.exec(format)
    if (match === null) fail(`unknown time directive "${format.slice(percent, percent + 3)}"`)
    parts.push(...directive(match, fail))
    at = percent + match[0].length
  }
  return parts
}

function directive(match: RegExpExecArray, fail: (message: string) => never): Part[] {
  const [text, digits, secondDigits, fractionDigits, zone, year, separator, letter] = match
  if (secondDigits !== undefined) return seconds(secondDigits)
  if (fractionDigits !== undefined) return [fractionDigits === '*' ? AS_NEEDED : Number(fractionDigits) || 9]
  if (zone !== undefined) {
    return [(t) => offset(t.offsetMinutes, ':') + (zone === '*z' ? ':00' : '')]
  }
  if (year !== undefined) return [(t) => `${t.year}`.padStart(4, '0')]
  if (separator !== undefined) return [() => 'T']
  if (letter === undefined) return [digits === undefined ? 9 : Number(digits)]
  if (Object.hasOwn(COMPOSITES, letter)) return parseTime(COMPOSITES[letter], fail)
  if (!Object.hasOwn(DIRECTIVES, letter)) fail(`unknown time directive "${text}"`)
  return [DIRECTIVES[letter]]
}

function seconds(digits: string): Part[] {
  if (digits === '0') return [DIRECTIVES.S]
  if (digits === '*') return [DIRECTIVES.S, AS_NEEDED_WITH_DOT]
  return [DIRECTIVES.S, () => '.', Number(digits)]
}

/** Neighbours that depend on the second only become one string. */
function joinSeconds(parts: readonly Part[]): Part[] {
  const joined: Part[] = []
  for (const part of parts) {
    const last = joined[joined.length - 1]
    if (typeof part === 'function' && typeof last === 'function') joined[joined.length - 1] = (t) => last(t) + part(t)
    else joined.push(part)
  }
  return joined
}

function fraction(millis: number, digits: number): string {
  if (digits === 3) {
    const whole = Math.floor(millis)
    return whole < 10 ? `00${whole}` : whole < 100 ? `0${whole}` : `${whole}`
  }
  const nanos = `${Math.floor(millis * 1e6)}`.padStart(9, '0')
  if (digits > 0) return nanos.slice(0, digits)
  const needed = nanos.replace(/0+$/, '')
  return digits === AS_NEEDED ? needed || '0' : needed === '' ? '' : `.${needed}`
}

function utcFields(epochSeconds: number): TimeFields {
  const d = new Date(epochSeconds * 1000)
  const year = d.getUTCFullYear()
  return {
    year,
    month: d.getUTCMonth(),
    day: d.getUTCDate(),
    hour: d.getUTCHours(),
    minute: d.getUTCMinutes(),
    second: d.getUTCSeconds(),
    weekday: d.getUTCDay(),
    yearDay: dayOfYear(year, d.getUTCMonth(), d.getUTCDate()),
    epochSeconds,
    offsetMinutes: 0,
    zone: 'UTC',
  }
}

function localFields(epochSeconds: number): TimeFields {
  const d = new Date(epochSeconds * 1000)
  const year = d.getFullYear()
  const zone = new Intl.DateTimeFormat('en-US', { timeZoneName: 'short' }).formatToParts(d)
  return {
    year,
    month: d.getMonth(),
    day: d.getDate(),
    hour: d.getHours(),
    minute: d.getMinutes(),
    second: d.getSeconds(),
    weekday: d.getDay(),
    yearDay: dayOfYear(year, d.getMonth(), d.getDate()),
    epochSeconds,
    offsetMinutes: -d.getTimezoneOffset(),
    zone: zone.find((p) => p.type === 'timeZoneName')?.value ?? '',
  }
}

function dayOfYear(year: number, month: number, day: number): number {
  return Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / 86_400_000)
}

/** ISO 8601: week 1 has the year's first Thursday. */
function isoWeek(t: TimeFields): { year: number; week: number } {
  const day = Date.UTC(t.year, t.month, t.day)
  const thursday = new Date(day + (4 - (t.weekday || 7)) * 86_400_000)
  const year = thursday.getUTCFullYear()
  return { year, week: 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) }
}

function two(n: number): string {
  return n < 10 ? `0${n}` : `${n}`
}

function offset(minutes: number, separator: string): string {
  const size = Math.abs(minutes)
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${separator}${two(size % 60)}`
}
