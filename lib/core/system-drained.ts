import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/**
 * Nothing that was written to this stream waits in the process: the system has it, and the memory it came from is nobody's
 * any more. Never of a stream that is none of the system's: such a one calls a chunk written that it has lent on (a frame
 * of a tunnel, a pipe).
 */
export function systemDrained(stream: Duplex): boolean {
  return stream.writableLength === 0 && stream instanceof Socket
}
