import type { ReceivedResource, Rejection } from '../source.ts'
import type { Batch, TypeInterest } from './interest.ts'
import type { DiscoveryResponse, WireResource } from './messages.ts'
import { protocolRejection } from './rejection.ts'
import { canonicalName, covers } from './resource-name.ts'
import { ENDPOINT, resourceType } from './types.ts'
import { readName } from './wire.ts'

/** `google.rpc.Code` */
const NOT_FOUND = 5

/**
 * Takes a state-of-the-world response over: over a stream, from a REST server, from a file. Answers what is wrong with it,
 * by its form or in the eyes of who wanted it.
 */
export function takeWhole(interest: TypeInterest, response: DiscoveryResponse): Rejection[] {
  const taken = new Taken(interest, response, undefined)
  taken.readResources(false)
  const whole = resourceType(interest.typeName)?.whole === true
  // Heartbeats alone say nothing about what is not among them (xDS protocol, "TTL").
  const onlyHeartbeats = taken.heartbeats > 0 && taken.heartbeats === response.resources.length
  if (whole && !onlyHeartbeats && !taken.nameless) {
    for (const name of interest.held.keys()) if (!taken.seen.has(name)) taken.removed.push(name)
  }
  taken.readErrors(false)
  return onlyHeartbeats && taken.absent.length === 0 ? taken.rejections : taken.deliver()
}

/**
 * The same for a delta response. `sent`: the names that the server takes us to be subscribed to. What is no longer among
 * them was on its way when it was given up: the server says nothing more of it, and if it is wanted again sends it again.
 */
export function takeDelta(interest: TypeInterest, response: DiscoveryResponse, sent: ReadonlySet<string>): Rejection[] {
  const taken = new Taken(interest, response, sent)
  taken.readResources(true)
  for (const given of response.removed) {
    const name = canonicalName(given)
    if (!taken.seen.has(name)) taken.removed.push(name)
  }
  taken.readErrors(true)
  const onlyHeartbeats = taken.heartbeats > 0 && taken.heartbeats === response.resources.length
  const nothing = onlyHeartbeats && taken.removed.length === 0 && taken.absent.length === 0
  return nothing ? taken.rejections : taken.deliver()
}

/** One response on its way to whoever wants what is in it. */
class Taken {
  readonly rejections: Rejection[] = []
  readonly removed: string[] = []
  readonly absent: string[] = []
  /** Names in the response, of whatever state. */
  readonly seen = new Set<string>()
  heartbeats = 0
  /** Something is in it whose name cannot be told. */
  nameless = false
  readonly #interest: TypeInterest
  readonly #response: DiscoveryResponse
  readonly #sent: ReadonlySet<string> | undefined
  readonly #resources: ReceivedResource[] = []
  readonly #ttlsMs: (number | undefined)[] = []

  constructor(interest: TypeInterest, response: DiscoveryResponse, sent: ReadonlySet<string> | undefined) {
    this.#interest = interest
    this.#response = response
    this.#sent = sent
  }

  #wants(name: string, aliases: readonly string[]): boolean {
    return this.#interest.wants(name, aliases) && (this.#sent === undefined || covers(this.#sent, name, aliases))
  }

  readResources(delta: boolean): void {
    const { resources } = this.#response
    for (let i = 0; i < resources.length; i++) this.#read(resources[i], i, delta)
  }

  #read(resource: WireResource, index: number, delta: boolean): void {
    const { typeName } = this.#interest
    if (resource.bytes !== undefined && resource.typeName !== typeName) {
      this.nameless ||= resource.name === ''
      if (resource.name !== '') this.seen.add(canonicalName(resource.name))
      const of = resource.typeName === '' ? 'no type' : `type ${resource.typeName}`
      this.#refuse(resource.name, `resources[${index}] is of ${of} in a response for ${typeName}`)
      return
    }
    const name = canonicalName(nameOf(typeName, resource))
    if (name === '') {
      this.nameless = true
      this.#refuse('', `resources[${index}] has no name`)
      return
    }
    if (this.seen.has(name)) {
      this.#refuse(name, 'is in the response twice')
      return
    }
    this.seen.add(name)
    if (resource.bytes === undefined) this.#readEmpty(name, resource)
    else if (this.#wants(name, resource.aliases)) {
      const version = resource.version === '' && !delta ? this.#response.version : resource.version
      const { aliases, bytes } = resource
      this.#resources.push({ name, version, typeName, bytes, aliases })
      this.#ttlsMs.push(resource.ttlMs)
    }
  }

  /** A heartbeat, or the answer that there is no such thing (virtual hosts on demand). */
  #readEmpty(name: string, { version, ttlMs, aliases }: WireResource): void {
    const interest = this.#interest
    if (interest.held.has(name)) {
      const held = interest.held.get(name)
      this.heartbeats++
      // One for a version that was refused, or has not come, keeps nothing alive.
      if (version === '' || version === held || version === this.#response.version) interest.refresh(name, ttlMs)
      return
    }
    if (this.#wants(name, aliases)) this.absent.push(name, ...aliases)
    else this.heartbeats++
  }

  readErrors(delta: boolean): void {
    for (const { name: given, code, message } of this.#response.errors) {
      const name = canonicalName(given)
      if (!this.#wants(name, NONE)) continue
      const { log, typeName, held } = this.#interest
      log.warn('the control plane has an error instead of a resource', { type: typeName, name, code, reason: message })
      if (code !== NOT_FOUND) continue
      if (delta && !this.seen.has(name)) this.removed.push(name)
      else if (!held.has(name)) this.absent.push(name)
    }
  }

  #refuse(name: string, message: string): void {
    this.rejections.push(protocolRejection(name, message))
  }

  deliver(): Rejection[] {
    const batch: Batch = {
      version: this.#response.version,
      resources: this.#resources,
      ttlsMs: this.#ttlsMs,
      removed: this.removed,
      absent: this.absent,
      rejected: this.rejections.length > 0,
    }
    return [...this.rejections, ...this.#interest.deliver(batch)]
  }
}

/** '' where it has none, or is not what it says it is. */
function nameOf(typeName: string, resource: WireResource): string {
  if (resource.name !== '' || resource.bytes === undefined || typeName === ENDPOINT) return resource.name
  try {
    return readName(resource.bytes)
  } catch {
    return ''
  }
}

const NONE: readonly string[] = Object.freeze([])
