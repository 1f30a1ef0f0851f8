import type { Metadata } from '../chain/filter.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { FilterStateSource } from '../match/filter-state.ts'

/** What choosing a route reads of an exchange; an `HttpStream` is one. */
export interface RouteRequest {
  readonly head: RequestHead
  readonly request: Headers
  readonly connection: ConnectionInfo
  readonly metadata: Metadata
  readonly filterState: FilterStateSource
  readonly info: { readonly internal: boolean; readonly clientAddress: string }
  /** The exchange's one draw, in [0, 1). */
  readonly random: number
}
