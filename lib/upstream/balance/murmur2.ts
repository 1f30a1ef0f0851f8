import type { Hash64 } from '../../core/hash64.ts'

const MASK = 0xffff_ffff_ffff_ffffn
const MULTIPLIER = 0xc6a4a7935bd1e995n
/** What libstdc++ seeds `std::hash` of strings with, and Envoy its rings. */
const SEED = 0xc70f6907n

/**
 * MurmurHash2 of 64 bits as `std::hash` of libstdc++ computes it: what `hash_function: MURMUR_HASH_2` asks for, so that
 * rings are those of proxies that use it. Only rings are built with it, never a request's hash.
 */
export function murmur2(bytes: Buffer, length: number): Hash64 {
  let hash = SEED ^ ((BigInt(length) * MULTIPLIER) & MASK)
  let at = 0
  for (; at + 8 <= length; at += 8) {
    hash ^= times(shifted(times(bytes.readBigUInt64LE(at))))
    hash = times(hash)
  }
  if (at < length) {
    let rest = 0n
    for (let i = length - 1; i >= at; i--) rest = (rest << 8n) | BigInt(bytes[i])
    hash = times(hash ^ rest)
  }
  hash = shifted(times(shifted(hash)))
  return { high: Number(hash >> 32n), low: Number(hash & 0xffff_ffffn) }
}

function times(value: bigint): bigint {
  return (value * MULTIPLIER) & MASK
}

function shifted(value: bigint): bigint {
  return value ^ (value >> 47n)
}
