import type { TokenBucketConfig } from '../core/token-bucket.ts'

/*
 * What workers and control say to each other of leases. Figures are totals since the session began, never differences: a
 * message that is lost, comes twice or late takes nothing away and gives nothing twice.
 *
 *   a worker has   start + given + forced - returned, with what it knows to have been given
 *   control counts start + given + forced - returned, with what it knows to have been returned
 *
 * so control never counts less than a worker has, but for what a worker took by force a moment ago.
 */

interface Note {
  readonly key: string
  /** As far as the worker knows. */
  readonly given: number
  readonly returned: number
  /** Number of its latest question; 0: it has not asked yet. */
  readonly ask: number
  /** What somebody waits for; 0: nobody does. */
  readonly want: number
  /** What it would like to have besides, so that nobody has to wait. */
  readonly ahead: number
  /** The latest recall that it has done what it could for. */
  readonly round: number
  /** Nobody uses the key in that worker any more. */
  readonly closed: boolean
}

/** What a worker has of the room under one limit. */
export interface SlotNote extends Note {
  readonly kind: 'slots'
  readonly limit: number
  readonly start: number
  readonly forced: number
  /** The limit grows with a count: what this worker counts, and the share of it. */
  readonly budget?: { readonly percent: number; readonly counted: number }
}

/** What a worker has of one token bucket. */
export interface TokenNote extends Note {
  readonly kind: 'tokens'
  readonly bucket: TokenBucketConfig
  /** What it has and has not used. */
  readonly spare: number
  /** What it last knew to be in the bucket of the whole gateway, and how long ago; -1: nothing. */
  readonly level: number
  readonly ageMs: number
  /** What it has used without having been given it, while control was away, and had not told of before the session. */
  readonly unasked: number
  /** What has been put in since the session began, beyond what is given back. */
  readonly put: number
}

export type LeaseNote = SlotNote | TokenNote

/** Give back what is there unused, at most so much. */
export interface Recall {
  readonly round: number
  readonly count: number
  /** What is taken now as well, when it is released. Otherwise half of what is unused stays. */
  readonly hard: boolean
}

interface Grant {
  readonly key: string
  readonly given: number
  /** The question that this is the answer to, and those before it. */
  readonly answered: number
  readonly recall?: Recall
  /** Control keeps nothing of the key any more: what is not used is forgotten by both. */
  readonly forgotten?: true
}

export interface SlotGrant extends Grant {
  readonly kind: 'slots'
  readonly limit: number
  readonly start: number
  /** Of the limit, what no worker has. */
  readonly free: number
  /** With an answer: there is no more for those that wait. */
  readonly dry: boolean
  /** With an answer: nothing of what it would like to have besides; others may have some left all the same. */
  readonly short: boolean
}

export interface TokenGrant extends Grant {
  readonly kind: 'tokens'
  /** In the bucket, what workers have unused included. */
  readonly level: number
  /** Until there is a whole token. */
  readonly waitMs: number
}

export type LeaseGrant = SlotGrant | TokenGrant

/** From a worker. */
export interface LeaseNotes {
  readonly kind: 'leases'
  /** Counts the times that it was greeted. */
  readonly session: number
  /** As it was told; -1: it has none. */
  readonly seat: number
  /** All that it has, at the beginning of a session; ends with the message that is `last`. */
  readonly report: boolean
  readonly last: boolean
  readonly notes: readonly LeaseNote[]
}

/** To a worker. */
export interface LeaseGrants {
  readonly kind: 'leased'
  readonly session: number
  /** Which equal share is its own from the start, from 0; -1: none yet, since there are more processes than shares. */
  readonly seat: number
  /** How many shares there are. */
  readonly seats: number
  readonly grants: readonly LeaseGrant[]
}

/** The part of a limit that a worker has before anybody has asked for anything; those of all seats make the limit. */
export function equalShare(limit: number, seat: number, seats: number): number {
  if (seat < 0 || limit <= 0) return 0
  const whole = Math.floor(limit / seats)
  return seat < limit - whole * seats ? whole + 1 : whole
}

/** Tokens that a worker may have beyond what somebody waits for; 0 for small buckets, which go one by one. */
export function tokenBatch({ maxTokens, tokensPerFill, fillIntervalMs }: TokenBucketConfig, seats: number): number {
  const perWorker = maxTokens / (4 * seats)
  const perTurn = (tokensPerFill * BATCH_MS) / (fillIntervalMs * seats)
  return Math.floor(Math.min(perWorker, perTurn))
}

/** A batch lasts so long, at the rate of the bucket. */
const BATCH_MS = 100
