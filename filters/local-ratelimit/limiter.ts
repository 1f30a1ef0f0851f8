import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { TokenBucketConfig } from '../../lib/core/token-bucket.ts'
import type { RateLimitHeaders } from '../../lib/ratelimit/config.ts'
import { entryKey, type RateLimitDescriptor } from '../../lib/ratelimit/descriptor.ts'
import type { Bucket, MakeBucket } from './bucket.ts'
import type { LocalDescriptorConfig, LocalRateLimitConfig } from './config.ts'

/** What became of a request. */
export interface Verdict {
  readonly allowed: boolean
  /** What the headers of the answer tell of: that which refused, or else the slowest one; undefined: there is none. */
  readonly bucket: Bucket | undefined
  /** What the descriptor of that bucket wants of them; undefined: as the filter says. */
  readonly headers: RateLimitHeaders | undefined
}

/** A bucket that a request takes part in. */
interface Match {
  readonly bucket: Bucket
  readonly hits: number
  /** They are put in instead of taken. */
  readonly negative: boolean
  readonly headers: RateLimitHeaders | undefined
}

/** Values longer than that are known by their digest: they come from clients. */
const LONGEST_NAME = 128

/**
 * The buckets of one configuration, for the gateway or for one connection. They are made when the first request needs them:
 * most routes of a large configuration are never asked for.
 */
export class Limiter {
  readonly #config: LocalRateLimitConfig
  readonly #make: MakeBucket
  #default: Bucket | undefined = undefined
  /** By the key of their entries. */
  readonly #exact: ReadonlyMap<string, ExactDescriptor>
  readonly #wildcards: readonly WildcardDescriptor[]

  constructor(config: LocalRateLimitConfig, make: MakeBucket) {
    const exact = new Map<string, ExactDescriptor>()
    const wildcards: WildcardDescriptor[] = []
    for (const descriptor of config.descriptors) {
      if (isWildcard(descriptor)) wildcards.push(new WildcardDescriptor(descriptor, config.maxDynamicDescriptors))
      else exact.set(entryKey(descriptor.entries), new ExactDescriptor(descriptor))
    }
    this.#config = config
    this.#make = make
    this.#exact = exact
    this.#wildcards = wildcards
  }

  /**
   * Takes what a request needs: of each bucket that one of its descriptors matches, the slowest first, and then of the one
   * for all. The first one that has too little refuses; one that is only tried out does so where no other one does (in
   * Envoy it ends the search, and takes the limits behind it away). `members`: how many gateways share the limit.
   */
  decide(descriptors: readonly RateLimitDescriptor[], members: number): Verdict | Promise<Verdict> {
    const matches = descriptors.length === 0 ? NO_MATCHES : this.#match(descriptors)
    for (let i = 0; i < matches.length; i++) {
      const taken = take(matches[i], members)
      if (typeof taken !== 'boolean') return this.#await(matches, i, taken, members)
      if (!taken) return this.#lacking(matches, i, members)
    }
    return this.#takeDefault(matches, members, undefined)
  }

  /** The same from where a bucket had to ask. */
  async #await(matches: readonly Match[], from: number, first: Promise<boolean>, members: number): Promise<Verdict> {
    for (let i = from; i < matches.length; i++) {
      if (!(await (i === from ? first : take(matches[i], members)))) return this.#lacking(matches, i, members)
    }
    return this.#takeDefault(matches, members, undefined)
  }

  /** Behind one that is only tried out there are only others of these. */
  #lacking(matches: readonly Match[], at: number, members: number): Verdict | Promise<Verdict> {
    const match = matches[at]
    return match.bucket.shadow ? this.#takeDefault(matches, members, match) : refusedBy(match)
  }

  /** `lacking`: would have refused. */
  #takeDefault(matches: readonly Match[], members: number, lacking: Match | undefined): Verdict | Promise<Verdict> {
    const matched: Match | undefined = matches[0]
    const { bucket: config, alwaysConsumeDefault } = this.#config
    if (config === undefined || (matched !== undefined && !alwaysConsumeDefault))
      return passed(matched, lacking, undefined)
    const bucket = (this.#default ??= this.#make('', config, false))
    const taken = bucket.take(members)
    if (typeof taken === 'boolean') return taken ? passed(matched, lacking, bucket) : refused(bucket)
    return taken.then((granted) => (granted ? passed(matched, lacking, bucket) : refused(bucket)))
  }

  /** What has been used without asking: of each bucket as much as it has, or into it what is given back. */
  settle(descriptors: readonly RateLimitDescriptor[], members: number): void {
    for (const match of this.#match(descriptors)) {
      const hits = match.negative ? match.hits : Math.min(match.hits, Math.floor(match.bucket.remaining / members))
      if (hits > 0) void take({ ...match, hits }, members)
    }
  }

  #match(descriptors: readonly RateLimitDescriptor[]): readonly Match[] {
    const matches: Match[] = []
    for (const { entries, hits, negative, headers } of descriptors) {
      const bucket = this.#find(entries)
      if (bucket !== undefined) matches.push({ bucket, hits, negative, headers })
    }
    return matches.length < 2 ? matches : matches.sort(inTurn)
  }

  #find(entries: readonly string[]): Bucket | undefined {
    const key = entryKey(entries)
    const exact = this.#exact.get(key)
    if (exact !== undefined) return exact.bucket(key, this.#make)
    for (const wildcard of this.#wildcards) {
      if (wildcard.matches(entries)) return wildcard.bucket(key, this.#make)
    }
    return undefined
  }

  close(): void {
    this.#default?.close()
    for (const descriptor of this.#exact.values()) descriptor.close()
    for (const descriptor of this.#wildcards) descriptor.close()
  }
}

function take({ bucket, hits, negative }: Match, members: number): boolean | Promise<boolean> {
  if (!negative) return bucket.take(hits * members)
  bucket.give(hits * members)
  return true
}

const NO_MATCHES: readonly Match[] = Object.freeze([])
const FREE: Verdict = Object.freeze({ allowed: true, bucket: undefined, headers: undefined })

function passed(matched: Match | undefined, lacking: Match | undefined, otherwise: Bucket | undefined): Verdict {
  if (lacking !== undefined) return refusedBy(lacking)
  if (matched !== undefined) return { allowed: true, bucket: matched.bucket, headers: matched.headers }
  return otherwise === undefined ? FREE : { allowed: true, bucket: otherwise, headers: undefined }
}

function refusedBy({ bucket, headers }: Match): Verdict {
  return { allowed: false, bucket, headers }
}

function refused(bucket: Bucket): Verdict {
  return { allowed: false, bucket, headers: undefined }
}

/** The slowest first; those that are only tried out behind all others. */
function inTurn({ bucket: a }: Match, { bucket: b }: Match): number {
  return a.shadow === b.shadow ? a.rate - b.rate : Number(a.shadow) - Number(b.shadow)
}

function isWildcard({ entries }: LocalDescriptorConfig): boolean {
  for (let i = 1; i < entries.length; i += 2) if (entries[i] === '') return true
  return false
}

function nameOf(key: string): string {
  return key.length <= LONGEST_NAME ? `/${key}` : `#${hash('sha256', key, 'base64url')}`
}

/** All of its values are said. */
class ExactDescriptor {
  readonly #bucketConfig: TokenBucketConfig
  readonly #shadow: boolean
  #bucket: Bucket | undefined = undefined

  constructor({ bucket, shadow }: LocalDescriptorConfig) {
    this.#bucketConfig = bucket
    this.#shadow = shadow
  }

  bucket(key: string, make: MakeBucket): Bucket {
    return (this.#bucket ??= make(nameOf(key), this.#bucketConfig, this.#shadow))
  }

  close(): void {
    this.#bucket?.close()
  }
}

/** Some of its values may be any: each combination has a bucket, and those that were not used for longest go. */
class WildcardDescriptor {
  readonly #entries: readonly string[]
  readonly #bucketConfig: TokenBucketConfig
  readonly #shadow: boolean
  readonly #most: number
  #buckets: LRUCache<string, Bucket> | undefined = undefined

  constructor({ entries, bucket, shadow }: LocalDescriptorConfig, most: number) {
    this.#entries = entries
    this.#bucketConfig = bucket
    this.#shadow = shadow
    this.#most = most
  }

  matches(entries: readonly string[]): boolean {
    const wanted = this.#entries
    if (entries.length !== wanted.length) return false
    for (let i = 0; i < wanted.length; i++) {
      if (wanted[i] !== entries[i] && (i % 2 === 0 || wanted[i] !== '')) return false
    }
    return true
  }

  bucket(key: string, make: MakeBucket): Bucket {
    const name = nameOf(key)
    // By size: a cache with a number of entries has the memory for all of them from the start, for each connection here.
    this.#buckets ??= new LRUCache<string, Bucket>({
      maxSize: this.#most,
      sizeCalculation: () => 1,
      dispose: (bucket) => bucket.close(),
    })
    let bucket = this.#buckets.get(name)
    if (bucket === undefined) {
      bucket = make(name, this.#bucketConfig, this.#shadow)
      this.#buckets.set(name, bucket)
    }
    return bucket
  }

  close(): void {
    this.#buckets?.clear()
  }
}
