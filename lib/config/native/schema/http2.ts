import { z } from 'zod'
import type { NativeHttp2, NativeHttp2Keepalive } from '../http2.ts'
import { count, ms, object } from './pieces.ts'

const MAX_31 = 0x7fff_ffff
const MAX_32 = 0xffff_ffff
/** Smaller windows are no protection and many round trips (RFC 9113 §6.9.2). */
const MIN_WINDOW = 65_535

/** Settings of RFC 9113 §6.5.2 and RFC 8441: they are what the fields around are for. */
const RESERVED: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 8]

export function http2(): z.ZodType<NativeHttp2> {
  const window = z.number().int().min(MIN_WINDOW).max(MAX_31).optional()
  const flag = z.boolean().optional()
  return object<NativeHttp2>({
    hpackTableBytes: count().max(MAX_32).optional(),
    maxConcurrentStreams: count(1).max(MAX_31).optional(),
    initialStreamWindowBytes: window,
    initialConnectionWindowBytes: window,
    allowConnect: flag,
    streamErrorOnInvalidMessage: flag,
    maxOutboundFrames: count(1).optional(),
    maxOutboundControlFrames: count(1).optional(),
    maxConsecutiveEmptyFrames: count().optional(),
    maxPriorityFramesPerStream: count().optional(),
    maxWindowUpdatesPerDataFrame: count(1).optional(),
    keepalive: keepalive().optional(),
    customSettings: z.array(customSetting()).optional(),
  })
}

function keepalive(): z.ZodType<NativeHttp2Keepalive> {
  return object<NativeHttp2Keepalive>({
    intervalMs: ms().optional(),
    timeoutMs: ms().min(1).optional(),
    jitterPercent: z.number().min(0).max(100).optional(),
    idleIntervalMs: ms().optional(),
  })
}

function customSetting(): z.ZodType<NonNullable<NativeHttp2['customSettings']>[number]> {
  const id = z
    .number()
    .int()
    .max(0xffff)
    .refine((value) => !RESERVED.includes(value) && value > 0, 'is a setting of HTTP/2 itself, or none')
  return object({ id, value: z.number().int().min(0).max(MAX_32) })
}
