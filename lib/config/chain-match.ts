import { canonicalRange } from '../match/cidr.ts'
import type { CidrConfig } from '../match/config.ts'
import type { FilterChainConfig, FilterChainMatchConfig } from './listener.ts'

/**
 * What one step of matching looks at: the values that a chain accepts there, in their one spelling; none: it accepts
 * all.
 */
export type MatchStep = (match: FilterChainMatchConfig | undefined) => readonly string[]

const NONE: readonly string[] = Object.freeze([])

/** In the order in which Envoy narrows filter chains down. */
export const MATCH_STEPS = Object.freeze({
  destinationPort: (match) => (match?.destinationPort === undefined ? NONE : [String(match.destinationPort)]),
  destination: (match) => ranges(match?.destinations),
  serverName: (match) => match?.serverNames ?? NONE,
  transportProtocol: (match) => (match?.transportProtocol === undefined ? NONE : [match.transportProtocol]),
  applicationProtocol: (match) => match?.applicationProtocols ?? NONE,
  directSource: (match) => ranges(match?.directSources),
  sourceType: (match) => (match === undefined || match.sourceType === 'any' ? NONE : [match.sourceType]),
  source: (match) => ranges(match?.sources),
  sourcePort: (match) => (match?.sourcePorts ?? []).map(String),
} satisfies { readonly [step: string]: MatchStep })

/** Names of the steps, in order. */
export type MatchStepName = keyof typeof MATCH_STEPS

export const MATCH_ORDER: readonly MatchStepName[] = Object.freeze(Object.keys(MATCH_STEPS) as MatchStepName[])

function ranges(list: readonly CidrConfig[] | undefined): readonly string[] {
  return list === undefined ? NONE : list.map(canonicalRange)
}

/** Chains by the values that they accept at one step; those that accept all stand under ''. */
export function groupChains(
  step: MatchStepName,
  chains: readonly FilterChainConfig[],
  members: readonly number[],
): Map<string, number[]> {
  const groups = new Map<string, number[]>()
  const add = (value: string, chain: number): void => {
    const group = groups.get(value)
    if (group === undefined) groups.set(value, [chain])
    // A value that a chain lists twice is one value.
    else if (group.at(-1) !== chain) group.push(chain)
  }
  for (const chain of members) {
    const values = MATCH_STEPS[step](chains[chain].match)
    if (values.length === 0) add('', chain)
    else for (const value of values) add(value, chain)
  }
  return groups
}

/** Two filter chains that some connection would match in every respect alike. */
export interface SameMatch {
  readonly first: number
  readonly second: number
}

/** Pairs of chains between which nothing decides; Envoy refuses them. The last of several is paired with the first. */
export function findSameMatches(chains: readonly FilterChainConfig[]): SameMatch[] {
  const found = new Map<number, SameMatch>()
  const search = (members: readonly number[], depth: number): void => {
    if (members.length < 2 || members.every((chain, i) => i === 0 || found.has(chain))) return
    if (depth === MATCH_ORDER.length) {
      for (const second of members.slice(1)) {
        if (!found.has(second)) found.set(second, { first: members[0], second })
      }
      return
    }
    for (const group of groupChains(MATCH_ORDER[depth], chains, members).values()) search(group, depth + 1)
  }
  search([...chains.keys()], 0)
  return [...found.values()].sort((a, b) => a.second - b.second)
}

/** What is wrong with a name in `serverNames`, or undefined: exact names and `*.suffix` are allowed. */
export function serverNameProblem(name: string): string | undefined {
  if (name === '') return 'must not be empty'
  if (name === '*') return '"*" is not allowed: leave the list empty to match every name'
  const rest = name.startsWith('*.') ? name.slice(2) : name
  if (rest === '') return `"${name}" is no name`
  return rest.includes('*') ? `"${name}": a wildcard must be the whole first label, such as *.example.com` : undefined
}
