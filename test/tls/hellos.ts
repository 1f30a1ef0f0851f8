/** Parts of ClientHellos, for tests to put together as they like. */

export function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255])
}

export function u16s(...values: readonly number[]): Buffer {
  return Buffer.concat(values.map(u16))
}

/** Behind its length in two bytes. */
export function sized(bytes: Buffer): Buffer {
  return Buffer.concat([u16(bytes.length), bytes])
}

/** Behind its length in one byte. */
export function short(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

export function extension(type: number, body: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u16(type), sized(body)])
}

export function sni(name: string): Buffer {
  return extension(0, sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from(name, 'latin1'))])))
}

export function alpn(...names: readonly string[]): Buffer {
  return extension(16, sized(Buffer.concat(names.map((name) => short(Buffer.from(name, 'latin1'))))))
}

export interface HelloParts {
  readonly version?: number
  readonly ciphers?: readonly number[]
  /** Undefined: no extensions at all. */
  readonly extensions?: readonly Buffer[]
  /** Bytes of message per record. */
  readonly recordBytes?: number
}

/** A hello, in one record unless told otherwise. */
export function clientHello({
  version = 0x0303,
  ciphers = [0x1301],
  extensions,
  recordBytes = 16_384,
}: HelloParts): Buffer {
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32, 7),
    Buffer.from([0]),
    sized(u16s(...ciphers)),
    Buffer.from([1, 0]),
    ...(extensions === undefined ? [] : [sized(Buffer.concat(extensions))]),
  ])
  const message = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body])
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += recordBytes) {
    records.push(Buffer.concat([Buffer.from([22, 3, 1]), sized(message.subarray(at, at + recordBytes))]))
  }
  return Buffer.concat(records)
}
