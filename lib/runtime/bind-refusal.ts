import type { Address } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import { ConfigError } from '../core/errors.ts'
import { describeBindError } from './socket-handle.ts'

/**
 * The mistake that a configuration makes by asking for an address that cannot be had: names the listener and the
 * address. Takes what `Binder.bind` rejects with and what `net.Server` emits as `error`.
 */
export function bindRefusal(listenerName: string, address: Address, error: unknown): ConfigError {
  const code = (error as NodeJS.ErrnoException).code
  const why = code === undefined ? (error as Error).message : describeBindError(code, address)
  return new ConfigError(`listener "${listenerName}"`, `cannot listen on ${formatAddress(address)}: ${why}`)
}
