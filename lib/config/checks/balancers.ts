import type { BalancerConfig } from '../../upstream/config.ts'
import type { Spot } from './spot.ts'

/** Sizes that a table of hashes can have. */
export function checkBalancer(balancer: BalancerConfig, spot: Spot): void {
  if (balancer.kind === 'ring-hash' && balancer.minSize > balancer.maxSize) {
    spot.field('minSize').error(`is ${balancer.minSize}, more than maxSize, which is ${balancer.maxSize}`)
  }
  if (balancer.kind === 'maglev' && !isPrime(balancer.tableSize)) {
    spot.field('tableSize').error(`must be a prime number, is ${balancer.tableSize}`)
  }
}

function isPrime(number: number): boolean {
  if (number < 2) return false
  for (let by = 2; by * by <= number; by++) if (number % by === 0) return false
  return true
}
