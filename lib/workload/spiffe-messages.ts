import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import type { GrpcMethod } from '../grpc/method.ts'

/** `X509SVID` of the SPIFFE Workload API, in DER. */
export interface X509Svid {
  readonly id: string
  /** Certificates one after the other, the workload's first. */
  readonly chain: Buffer
  /** PKCS#8. */
  readonly key: Buffer
  /** Authorities of the workload's own trust domain, one after the other. */
  readonly bundle: Buffer
  readonly hint: string
}

const NOTHING: Buffer = Buffer.alloc(0)

/**
 * `SpiffeWorkloadAPI.FetchX509SVID`: its request is empty. Revocation lists and federated bundles are left out: authorities
 * of another trust domain may not issue for this one, and one list of them all would let them.
 */
export const fetchX509Svid: GrpcMethod<undefined, readonly X509Svid[]> = Object.freeze({
  path: '/SpiffeWorkloadAPI/FetchX509SVID',
  encode: () => NOTHING,
  decode: (bytes: Uint8Array) => {
    const reader = new BinaryReader(bytes)
    const svids: X509Svid[] = []
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag()
      if (field === 1 && type === WireType.LengthDelimited) svids.push(decodeSvid(reader.bytes()))
      else reader.skip(type, field)
    }
    return svids
  },
})

function decodeSvid(bytes: Uint8Array): X509Svid {
  const reader = new BinaryReader(bytes)
  const parts: Buffer[] = new Array<Buffer>(6).fill(NOTHING)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    // Copied: the message is a view of a packet.
    if (field < parts.length && type === WireType.LengthDelimited) parts[field] = Buffer.from(reader.bytes())
    else reader.skip(type, field)
  }
  const [, id, chain, key, bundle, hint] = parts
  return { id: id.toString('utf8'), chain, key, bundle, hint: hint.toString('utf8') }
}
