import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import { createPipe } from '../../lib/core/pipe.ts'
import { settle } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

/** What is done to both ends of a connection, and that a pipe and a TCP connection tell the same of it. */

type End = Duplex & { resetAndDestroy(): unknown; destroySoon(): void }
type Side = 'near' | 'far'

interface Ends {
  readonly near: End
  readonly far: End
}

async function tcp(t: Test): Promise<Ends> {
  const server = createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = connect({ port: (server.address() as { port: number }).port, host: '127.0.0.1', allowHalfOpen: true })
  const [[far]] = (await Promise.all([once(server, 'connection'), once(near, 'connect')])) as [[Socket], unknown]
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return { near, far }
}

async function pipe(t: Test): Promise<Ends> {
  const at = { address: '127.0.0.1', port: 1 }
  const { near, far } = createPipe({ near: at, far: at })
  await once(near, 'connect')
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return { near, far }
}

/** What each end told, in order; where FINs cross, the network decides which is told of first. */
class Story {
  readonly near: string[] = []
  readonly far: string[] = []
  readonly bytes = { near: 0, far: 0 }

  /** In comparable form. */
  told(): object {
    const crossed = (lines: readonly string[]): string => lines.join().replace('end,finish', 'finish,end')
    return { near: crossed(this.near), far: crossed(this.far), bytes: this.bytes }
  }

  constructor({ near, far }: Ends, paused: readonly Side[]) {
    for (const [side, end] of [
      ['near', near],
      ['far', far],
    ] as const) {
      const told = this[side]
      end.on('end', () => told.push('end'))
      end.on('finish', () => told.push('finish'))
      end.on('error', (error: NodeJS.ErrnoException) => told.push(`error ${error.code}`))
      end.on('close', () => told.push('close'))
      if (paused.includes(side)) end.pause()
      end.on('data', (chunk: Buffer) => {
        this.bytes[side] += chunk.length
      })
      if (paused.includes(side)) end.pause()
    }
  }
}

interface Scene {
  readonly name: string
  readonly paused?: readonly Side[]
  play(ends: Ends): Promise<void> | void
}

/** Long enough for a loopback connection to carry what there is. */
async function rest(): Promise<void> {
  await settle(30)
}

const SCENES: readonly Scene[] = [
  {
    name: 'both end, one after the other',
    play: async ({ near, far }) => {
      near.end('a')
      await rest()
      far.end('b')
    },
  },
  {
    name: 'both end at once',
    play: ({ near, far }) => {
      near.end()
      far.end()
    },
  },
  { name: 'one is destroyed', play: ({ near }) => void near.destroy() },
  {
    name: 'one is destroyed with an error',
    play: ({ near }) => void near.destroy(Object.assign(new Error('x'), { code: 'OWN' })),
  },
  {
    name: 'destroyed behind a write',
    play: ({ near }) => {
      near.write('abc')
      near.destroySoon()
    },
  },
  {
    name: 'destroyed when all is over',
    play: async ({ near, far }) => {
      near.end('abc')
      far.end('d')
      await rest()
      near.destroy()
      far.resetAndDestroy()
    },
  },
  { name: 'reset', play: ({ near }) => void near.resetAndDestroy() },
  {
    name: 'reset behind its own FIN is over for both',
    play: async ({ near }) => {
      near.end()
      await rest()
      near.destroy()
    },
  },
  {
    name: 'written to after the peer has ended',
    play: async ({ near, far }) => {
      near.end()
      await rest()
      far.write('still')
      await rest()
      far.end()
    },
  },
  {
    name: 'a write behind the end is an error, and the end of it',
    play: async ({ near }) => {
      near.end('a')
      near.write('b')
      await rest()
    },
  },
  {
    name: 'paused, and its peer ends: nothing is told until it reads',
    paused: ['far'],
    play: async ({ near, far }) => {
      near.end('abc')
      await rest()
      far.resume()
      await rest()
      far.end()
    },
  },
  {
    name: 'empty writes',
    play: async ({ near, far }) => {
      near.write('')
      near.write(Buffer.alloc(0))
      near.end('')
      await rest()
      far.end()
    },
  },
  {
    name: 'corked and ended without an uncork',
    play: ({ near, far }) => {
      near.cork()
      near.write('a')
      near.write('b')
      near.end()
      far.end()
    },
  },
  {
    name: 'corked and destroyed: what has not left does not arrive',
    play: ({ near }) => {
      near.cork()
      near.write('a')
      near.destroy()
    },
  },
  {
    name: 'ended by its reader within a chunk',
    play: ({ near, far }) => {
      far.once('data', () => far.end('bye'))
      near.end('hello')
    },
  },
  {
    name: 'destroyed by its reader within a chunk',
    play: ({ near, far }) => {
      far.once('data', () => far.destroy())
      near.write('hello')
    },
  },
]

t.test('a pipe tells what a TCP connection tells', async (t) => {
  for (const { name, paused = [], play } of SCENES) {
    const told: Story[] = []
    for (const make of [tcp, pipe]) {
      const ends = await make(t)
      const story = new Story(ends, paused)
      await play(ends)
      await rest()
      told.push(story)
    }
    const [expected, found] = told
    t.same(found.told(), expected.told(), name)
  }
})

t.test('a reader that is destroyed within a chunk: its peer goes on to the end, or hears of a reset', async (t) => {
  for (const corked of [false, true]) {
    const at = { address: '', port: 0 }
    const { near, far } = createPipe({ near: at, far: at })
    const told: string[] = []
    near.on('error', (error: NodeJS.ErrnoException) => told.push(`${error.code}`))
    near.on('close', () => told.push('close'))
    near.resume()
    far.once('data', () => far.destroy())
    if (corked) near.cork()
    near.write('a')
    if (corked) near.write('b')
    near.end((error?: Error) => told.push(error == null ? 'ended' : 'not ended'))
    await settle()
    t.same(told, corked ? ['not ended', 'ECONNRESET', 'close'] : ['ended', 'close'])
  }
})

t.test(
  'whatever is done to it, a pipe closes at both ends, calls back every write, and holds nothing of it',
  async (t) => {
    for (let seed = 1; seed <= 400; seed++) {
      const random = seeded(seed)
      const at = { address: '', port: 0 }
      const ends = createPipe({ near: at, far: at })
      let closed = 0
      let writes = 0
      let called = 0
      for (const end of [ends.near, ends.far]) {
        end.on('error', () => {})
        end.on('close', () => closed++)
        end.on('data', () => {})
      }
      const act = (end: typeof ends.near): void => {
        const what = random.below(12)
        if (what < 4) {
          writes++
          end.write(Buffer.alloc(random.pick([0, 1, 1_000, 70_000])), () => called++)
        } else if (what === 4) end.pause()
        else if (what === 5) end.resume()
        else if (what === 6) end.cork()
        else if (what === 7) end.uncork()
        else if (what === 8 && random.below(4) === 0) end.end()
        else if (what === 9 && random.below(6) === 0) end.destroy()
        else if (what === 10 && random.below(6) === 0) end.resetAndDestroy()
        else if (what === 11 && random.below(6) === 0) end.destroySoon()
      }
      const steps = 5 + random.below(60)
      for (let i = 0; i < steps; i++) {
        act(random.below(2) === 0 ? ends.near : ends.far)
        if (random.below(3) === 0) await new Promise(setImmediate)
      }
      for (const end of [ends.near, ends.far]) {
        while (end.writableCorked > 0) end.uncork()
        end.resume()
        if (!end.writableEnded) end.end()
      }
      await settle(8)
      if (closed !== 2) t.fail(`seed ${seed}: ${closed} of 2 ends closed`)
      if (called !== writes) t.fail(`seed ${seed}: ${called} of ${writes} writes called back`)
    }
    t.pass('400 seeds')
  },
)
