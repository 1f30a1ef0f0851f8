import type { Observation } from './observe.ts'

/** One place where the proxies did not agree; '' stands for nothing there. */
export interface Difference {
  readonly where: string
  readonly envoy: string
  readonly headgate: string
}

/** All places where two observations differ. */
export function differences(envoy: Observation, headgate: Observation): Difference[] {
  const found: Difference[] = []
  for (const where of new Set([...envoy.keys(), ...headgate.keys()])) {
    const left = envoy.get(where) ?? ''
    const right = headgate.get(where) ?? ''
    if (left !== right) found.push({ where, envoy: left, headgate: right })
  }
  return found
}

/** Sorts what was found: documented ones are taken out, documented ones that did not show up are put in. */
export function undocumented(
  found: readonly Difference[],
  documented: { readonly [where: string]: string } = {},
  ignored: readonly string[] = [],
): string[] {
  const left = found
    .filter((d) => !Object.hasOwn(documented, d.where) && !ignored.includes(d.where))
    .map((d) => `${d.where}: envoy ${JSON.stringify(d.envoy)}, headgate ${JSON.stringify(d.headgate)}`)
  const stale = Object.keys(documented)
    .filter((where) => !found.some((d) => d.where === where))
    .map((where) => `${where}: documented as a difference (${documented[where]}), but there is none any more`)
  return [...left, ...stale]
}
