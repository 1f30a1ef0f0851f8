import type { Host } from '../host.ts'
import type { Origin, RateFigures } from './rates.ts'

/** Outlier detection as its cluster sees it: all of it, or the part of it that a worker has. */
export interface OutlierWatch extends Disposable {
  /** Takes over a change of membership. */
  update(added: readonly Host[], removed: readonly Host[]): void
  /** An active check of the host has passed. */
  checked(host: Host): void
  /** For `/clusters`: percent of the last interval; -1 where it had too little traffic. */
  successRate(host: Host, origin: Origin): number
  figures(origin: Origin): RateFigures
}
