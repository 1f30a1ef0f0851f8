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

export function describeDifference({ where, envoy, headgate }: Difference): string {
  return `${where}: envoy ${JSON.stringify(envoy)}, headgate ${JSON.stringify(headgate)}`
}
