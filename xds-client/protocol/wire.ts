import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type {
  DeltaRequest,
  DiscoveryResponse,
  ErrorDetail,
  ResourceError,
  WholeRequest,
  WireResource,
} from './messages.ts'

const PREFIX = 'type.googleapis.com/'
const WRAPPER = 'envoy.service.discovery.v3.Resource'
const LENGTH = WireType.LengthDelimited
/** Longest `Duration` there is (10,000 years), and more than a timer can wait. */
const LONGEST_TTL_MS = 315_576_000_000_000

/** The message name in a type URL: what follows the last slash. */
export function typeNameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
}

/**
 * Reads a `DiscoveryResponse`. By hand, so that the content of resources stays a part of the bytes received, and ten
 * thousand type URLs that are all the same are read once.
 *
 * @throws Error for bytes that are no such message
 */
export function readWholeResponse(bytes: Uint8Array): DiscoveryResponse {
  const response = new ResponseReader()
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (type !== LENGTH) reader.skip(type, field)
    else if (field === 1) response.version = reader.string()
    else if (field === 2) response.resources.push(response.readAny(reader, endOf(reader)))
    else if (field === 4) response.typeName = typeNameOf(reader.string())
    else if (field === 5) response.nonce = reader.string()
    else if (field === 6) response.controlPlane = readName(reader.bytes())
    else if (field === 7) response.errors.push(readError(reader.bytes()))
    else reader.skip(type, field)
  }
  return response
}

/**
 * Reads a `DeltaDiscoveryResponse`, in the same manner.
 *
 * @throws Error for bytes that are no such message
 */
export function readDeltaResponse(bytes: Uint8Array): DiscoveryResponse {
  const response = new ResponseReader()
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (type !== LENGTH) reader.skip(type, field)
    else if (field === 1) response.version = reader.string()
    else if (field === 2) response.resources.push(response.readWrapper(reader, endOf(reader)))
    else if (field === 4) response.typeName = typeNameOf(reader.string())
    else if (field === 5) response.nonce = reader.string()
    else if (field === 6) response.removed.push(reader.string())
    else if (field === 7) response.controlPlane = readName(reader.bytes())
    else if (field === 8) response.removed.push(readName(reader.bytes()))
    else if (field === 9) response.errors.push(readError(reader.bytes()))
    else reader.skip(type, field)
  }
  return response
}

class ResponseReader implements DiscoveryResponse {
  version = ''
  typeName = ''
  nonce = ''
  controlPlane = ''
  readonly resources: WireResource[] = []
  readonly removed: string[] = []
  readonly errors: ResourceError[] = []
  /** The last type URL, as it came and without what stands before its last slash. */
  #typeUrl: Uint8Array = EMPTY
  #typeName = ''
  /** The Any that was read last. */
  #content: Uint8Array = EMPTY

  /** State of the world: an Any of the resource, or of its wrapper. */
  readAny(reader: BinaryReader, end: number): WireResource {
    this.#readAny(reader, end)
    if (this.#typeName !== WRAPPER) return plain(this.#typeName, this.#content)
    const inner = new BinaryReader(this.#content)
    return this.readWrapper(inner, inner.len)
  }

  readWrapper(reader: BinaryReader, end: number): WireResource {
    let name = ''
    let version = ''
    let ttlMs: number | undefined
    let aliases: string[] | undefined
    let present = false
    while (reader.pos < end) {
      const [field, type] = reader.tag()
      if (type !== LENGTH) reader.skip(type, field)
      else if (field === 1) version = reader.string()
      else if (field === 2) {
        this.#readAny(reader, endOf(reader))
        present = this.#typeName !== ''
      } else if (field === 3) name = reader.string()
      else if (field === 4) {
        aliases ??= []
        aliases.push(reader.string())
      } else if (field === 6) ttlMs = readDuration(reader.bytes())
      else if (field === 8 && name === '') name = readName(reader.bytes())
      else reader.skip(type, field)
    }
    checkEnd(reader, end)
    return {
      name,
      version,
      aliases: aliases ?? NONE,
      ttlMs,
      typeName: present ? this.#typeName : '',
      bytes: present ? this.#content : undefined,
      wrapped: true,
    }
  }

  #readAny(reader: BinaryReader, end: number): void {
    let typed = false
    this.#content = EMPTY
    while (reader.pos < end) {
      const [field, type] = reader.tag()
      if (field === 1 && type === LENGTH) {
        this.#readTypeUrl(reader.bytes())
        typed = true
      } else if (field === 2 && type === LENGTH) this.#content = reader.bytes()
      else reader.skip(type, field)
    }
    checkEnd(reader, end)
    if (typed) return
    this.#typeUrl = EMPTY
    this.#typeName = ''
  }

  #readTypeUrl(typeUrl: Uint8Array): void {
    if (sameBytes(typeUrl, this.#typeUrl)) return
    this.#typeUrl = typeUrl
    this.#typeName = typeNameOf(textOf(typeUrl))
  }
}

/** Of the message that begins here, behind its length. */
function endOf(reader: BinaryReader): number {
  const length = reader.uint32()
  return reader.pos + length
}

/** A message within another ends where it said. */
function checkEnd(reader: BinaryReader, end: number): void {
  if (reader.pos !== end) throw new RangeError('a message is longer than what it is in')
}

function plain(typeName: string, bytes: Uint8Array): WireResource {
  return { name: '', version: '', aliases: NONE, ttlMs: undefined, typeName, bytes, wrapped: false }
}

/** The first field of a message, where that is text: what all resources and the messages about names keep their name in. */
export function readName(bytes: Uint8Array): string {
  const reader = new BinaryReader(bytes)
  let name = ''
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === 1 && type === LENGTH) {
      name = reader.string()
      // Serializers write fields in order, and a name is never there twice but by intent.
      if (reader.pos < reader.len && bytes[reader.pos] !== NAME_TAG) break
    } else reader.skip(type, field)
  }
  return name
}

const NAME_TAG = (1 << 3) | LENGTH

function readError(bytes: Uint8Array): ResourceError {
  const reader = new BinaryReader(bytes)
  let name = ''
  let code = 0
  let message = ''
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === 1 && type === LENGTH) name = readName(reader.bytes())
    else if (field === 2 && type === LENGTH) {
      const detail = new BinaryReader(reader.bytes())
      while (detail.pos < detail.len) {
        const [inner, innerType] = detail.tag()
        if (inner === 1 && innerType === WireType.Varint) code = detail.int32()
        else if (inner === 2 && innerType === LENGTH) message = detail.string()
        else detail.skip(innerType, inner)
      }
    } else reader.skip(type, field)
  }
  return { name, code, message }
}

function readDuration(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes)
  let ms = 0
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === 1 && type === WireType.Varint) ms += Number(reader.int64()) * 1000
    else if (field === 2 && type === WireType.Varint) ms += reader.int32() / 1_000_000
    else reader.skip(type, field)
  }
  return Math.min(LONGEST_TTL_MS, Math.max(0, ms))
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  const { length } = a
  if (length !== b.length) return false
  for (let i = length - 1; i >= 0; i--) if (a[i] !== b[i]) return false
  return true
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

// --- requests -----------------------------------------------------------------------------------------------------------

/** `node`: the message `envoy.config.core.v3.Node`, encoded once for all requests. */
export function encodeWholeRequest(request: WholeRequest, node: Uint8Array): Uint8Array {
  const writer = new BinaryWriter()
  if (request.version !== '') writer.tag(1, LENGTH).string(request.version)
  if (request.node) writer.tag(2, LENGTH).bytes(node)
  for (const name of request.names) writer.tag(3, LENGTH).string(name)
  writer.tag(4, LENGTH).string(PREFIX + request.typeName)
  if (request.nonce !== '') writer.tag(5, LENGTH).string(request.nonce)
  if (request.error !== undefined) writer.tag(6, LENGTH).bytes(encodeDetail(request.error))
  return writer.finish()
}

export function encodeDeltaRequest(request: DeltaRequest, node: Uint8Array): Uint8Array {
  const writer = new BinaryWriter()
  if (request.node) writer.tag(1, LENGTH).bytes(node)
  writer.tag(2, LENGTH).string(PREFIX + request.typeName)
  for (const name of request.subscribe) writer.tag(3, LENGTH).string(name)
  for (const name of request.unsubscribe) writer.tag(4, LENGTH).string(name)
  for (const [name, version] of request.initialVersions) {
    writer.tag(5, LENGTH).fork().tag(1, LENGTH).string(name).tag(2, LENGTH).string(version).join()
  }
  if (request.nonce !== '') writer.tag(6, LENGTH).string(request.nonce)
  if (request.error !== undefined) writer.tag(7, LENGTH).bytes(encodeDetail(request.error))
  return writer.finish()
}

function encodeDetail({ code, message }: ErrorDetail): Uint8Array {
  return new BinaryWriter().tag(1, WireType.Varint).int32(code).tag(2, LENGTH).string(message).finish()
}

const EMPTY: Uint8Array = Buffer.alloc(0)
const NONE: readonly string[] = Object.freeze([])
