import { createSecureContext } from 'node:tls'

/** The hybrid of ML-KEM-768 and X25519: wanted by default, missing from runtimes before OpenSSL 3.5. */
const HYBRID = 'X25519MLKEM768'

/** Whether this runtime can do key exchange in a group of that name. */
export function isKnownGroup(name: string): boolean {
  // Anything else has a meaning in OpenSSL's list syntax (`?`, `*`, `/`, `:`).
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name) || name === 'auto') return false
  try {
    createSecureContext({ ecdhCurve: name, ca: [] })
    return true
  } catch {
    return false
  }
}

/**
 * The groups as the runtime wants them; its own where none are named. The hybrid group is left out where the runtime
 * does not have it and another one is left: it is in our defaults, which must work everywhere.
 */
export function groupList(groups: readonly string[]): string | undefined {
  if (groups.length === 0) return undefined
  const usable = groups.filter((name) => name !== HYBRID || groups.length === 1 || isKnownGroup(name))
  return usable.join(':')
}

/** Groups that make a configuration unusable here. */
export function unknownGroups(groups: readonly string[]): readonly number[] {
  return groups.flatMap((name, i) => {
    const optional = name === HYBRID && groups.length > 1
    return optional || isKnownGroup(name) ? [] : [i]
  })
}

/** What is wrong with a group that `unknownGroups` has found. */
export function groupProblem(name: string): string {
  const { openssl } = process.versions
  const why = /MLKEM/i.test(name) ? '; post-quantum groups came with OpenSSL 3.5' : ''
  return `unknown group "${name}" (this runtime has OpenSSL ${openssl}${why})`
}
