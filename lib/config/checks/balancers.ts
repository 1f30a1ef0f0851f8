import type { BalancerConfig, SubsetSelectorConfig } from '../../upstream/config.ts'
import type { Spot } from './spot.ts'

/** Sizes that a table of hashes can have, and keys that subsets can fall back to. */
export function checkBalancer(balancer: BalancerConfig, spot: Spot): void {
  if (balancer.kind === 'override-host') checkBalancer(balancer.otherwise, spot.field('otherwise'))
  if (balancer.kind === 'subset') {
    checkBalancer(balancer.within, spot.field('within'))
    spot.each('selectors', balancer.selectors, checkSelector)
  }
  if (balancer.kind === 'ring-hash' && balancer.minSize > balancer.maxSize) {
    spot.field('minSize').error(`is ${balancer.minSize}, more than maxSize, which is ${balancer.maxSize}`)
  }
  if (balancer.kind === 'maglev' && !isPrime(balancer.tableSize)) {
    spot.field('tableSize').error(`must be a prime number, is ${balancer.tableSize}`)
  }
}

function checkSelector({ keys, fallback, fallbackKeys }: SubsetSelectorConfig, spot: Spot): void {
  if ((fallback === 'keys') !== (fallbackKeys !== undefined)) {
    spot.field('fallbackKeys').error('and fallback keys need each other')
  }
  const other = fallbackKeys?.find((key) => !keys.includes(key))
  if (other !== undefined) spot.field('fallbackKeys').error(`"${other}" is none of the keys of the selector`)
  else if (fallbackKeys !== undefined && new Set(fallbackKeys).size >= new Set(keys).size) {
    spot.field('fallbackKeys').error('must not be all keys of the selector')
  }
}

function isPrime(number: number): boolean {
  if (number < 2) return false
  for (let by = 2; by * by <= number; by++) if (number % by === 0) return false
  return true
}
