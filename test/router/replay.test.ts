import t from 'tap'
import type { UpstreamStream } from '../../lib/core/attempt.ts'
import { Replay } from '../../lib/router/replay.ts'

/** Takes what is sent again. */
class Taken implements UpstreamStream {
  readonly chunks: Buffer[] = []
  ends = 0

  write(chunk: Buffer, end: boolean): boolean {
    this.chunks.push(chunk)
    if (end) this.ends++
    return true
  }

  trailers(): void {}
  pause(): void {}
  resume(): void {}
  cancel(): void {}
}

t.test('a body in tiny chunks keeps neither an object for each nor the packets they came in', (t) => {
  const replay = new Replay()
  const packets: Buffer[] = []
  const first = new Taken()
  for (let i = 0; i < 65_536; i++) {
    if (i % 4_096 === 0) packets.push(Buffer.alloc(65_536, i >> 12))
    replay.write(packets[i >> 12].subarray(i % 4_096, (i % 4_096) + 1), i === 65_535)
    // What an attempt has been given stays as it is.
    if (i === 100) replay.sendTo(first)
  }
  t.notOk(replay.spoilt)
  const taken = new Taken()
  t.ok(replay.sendTo(taken))
  t.equal(taken.ends, 1)
  t.same(Buffer.concat(taken.chunks), Buffer.concat(packets.map((packet) => packet.subarray(0, 4_096))))
  t.ok(taken.chunks.length < 64, `${taken.chunks.length} chunks`)
  const kept = new Set(taken.chunks.map((chunk) => chunk.buffer))
  let bytes = 0
  for (const buffer of kept) bytes += buffer.byteLength
  t.ok(bytes < 4 * 65_536, `${bytes} bytes are kept`)
  t.equal(first.ends, 0)
  t.same(Buffer.concat(first.chunks), Buffer.alloc(101))
  replay.write(Buffer.alloc(1), true)
  t.ok(replay.spoilt)
  t.end()
})

t.test('large chunks are shared and stay where they are', (t) => {
  const replay = new Replay()
  const chunks = [Buffer.alloc(5, 1), Buffer.alloc(10_000, 2), Buffer.alloc(5, 3), Buffer.alloc(6, 4)]
  for (const chunk of chunks) replay.write(chunk, false)
  replay.write(Buffer.alloc(0), true)
  const taken = new Taken()
  replay.sendTo(taken)
  t.equal(taken.chunks[1], chunks[1])
  t.same(Buffer.concat(taken.chunks), Buffer.concat(chunks))
  t.equal(taken.ends, 1)
  t.end()
})
