/** Envoy's names of log levels, and pino's. */
const LEVELS: ReadonlyMap<string, string> = new Map([
  ['trace', 'trace'],
  ['debug', 'debug'],
  ['info', 'info'],
  ['warning', 'warn'],
  ['warn', 'warn'],
  ['error', 'error'],
  ['critical', 'fatal'],
  ['fatal', 'fatal'],
  ['off', 'silent'],
  ['silent', 'silent'],
])

/** Every name that `logLevel` takes. */
export const LEVEL_NAMES: readonly string[] = Object.freeze([...LEVELS.keys()])

/** pino's name for a level called as Envoy or pino call it; undefined for anything else. */
export function logLevel(name: string): string | undefined {
  return LEVELS.get(name)
}
