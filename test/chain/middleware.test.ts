import t from 'tap'
import type { HttpFilter, HttpStream } from '../../lib/chain/filter.ts'
import { ExchangeEnded, type Middleware, middleware } from '../../lib/chain/middleware.ts'
import { Headers } from '../../lib/core/headers.ts'
import { type Driven, drive, lines } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'

function through(run: Middleware, more: Partial<Parameters<typeof drive>[0]> = {}): Driven {
  return drive({ filters: [middleware('onion', run)], names: ['onion'], ...more })
}

t.test('code before next() sees the request, code after it the response', async (t) => {
  const driven = through(async (stream, next) => {
    stream.request.set('x-in', '1')
    await next()
    t.equal(stream.status, 200)
    stream.status = 203
    stream.response.set('x-out', stream.response.get('from') ?? '')
  })
  await settle(1)
  t.equal(driven.upstream.headers.get('x-in'), '1')
  driven.upstream.respond(200, ['from', 'upstream'], 'body')
  t.equal(driven.downstream.status, 0, 'the response waits for the function')
  await settle(1)
  t.equal(driven.downstream.status, 203)
  t.same(lines(driven.downstream.headers), ['from: upstream', 'x-out: upstream'])
  t.equal(driven.downstream.body, 'body')
  t.same(driven.errors, [])
})

t.test('layers nest: first in, last out', async (t) => {
  const order: string[] = []
  const layer = (name: string): HttpFilter<unknown> =>
    middleware(name, async (_stream, next) => {
      order.push(`${name} in`)
      await next()
      order.push(`${name} out`)
    })
  const driven = drive({ filters: [layer('a'), layer('b')] })
  await settle(2)
  driven.upstream.respond(200)
  await settle(2)
  t.same(order, ['a in', 'b in', 'b out', 'a out'])
  t.ok(driven.downstream.ended)
})

t.test('the request is held back until next(), and its body may be collected', async (t) => {
  const go = Promise.withResolvers<void>()
  const driven = through(
    async (stream, next) => {
      await go.promise
      const body = await stream.collectRequest(10)
      stream.request.set('x-body', `${body}`)
      await next()
      const answer = await stream.collectResponse(10)
      stream.response.set('x-length', String((answer as Buffer).length))
    },
    { end: false },
  )
  driven.send('abc', true)
  await settle(1)
  t.equal(driven.upstream.begun, 0)
  go.resolve()
  await settle(1)
  t.equal(driven.upstream.headers.get('x-body'), 'abc')
  t.equal(driven.upstream.body, 'abc')
  driven.upstream.respond(200, [], 'four')
  await settle(1)
  t.equal(driven.downstream.headers.get('x-length'), '4')
  t.equal(driven.downstream.body, 'four')
})

t.test('it may answer before next() and after it, and with a stream of its own', async (t) => {
  const denied = (stream: HttpStream): ReturnType<Middleware> => stream.reply({ status: 403, details: 'denied' })
  for (const run of [denied, async (stream: HttpStream) => denied(stream)] as Middleware[]) {
    const before = through(run)
    await settle(1)
    t.equal(before.downstream.status, 403)
    t.equal(before.upstream.begun, 0)
    t.same(before.errors, [])
  }
  const after = through(async (stream, next) => {
    await next()
    return stream.reply({ status: 502, body: 'bad', details: 'inspected' })
  })
  await settle(1)
  after.upstream.respond(200, [], 'secret')
  await settle(1)
  t.equal(after.downstream.status, 502)
  t.equal(after.downstream.body, 'bad')
  const streamed = through(async (stream) => {
    const sink = stream.respond(200, new Headers())
    sink.write(Buffer.from('own'))
    sink.end()
  })
  await settle(1)
  t.equal(streamed.downstream.body, 'own')
  t.same([after.errors, streamed.errors], [[], []])
})

t.test('local replies of later filters and failures of the upstream come back as responses', async (t) => {
  const seen: number[] = []
  const watching = middleware('watch', async (stream, next) => {
    await next()
    seen.push(stream.status)
  })
  const denying: HttpFilter<unknown> = { onRequestHeaders: (s) => s.reply({ status: 401, details: 'denied' }) }
  const denied = drive({ filters: [watching, denying] })
  await settle(2)
  t.equal(denied.downstream.status, 401)
  t.same(seen, [401])
})

t.test('what it throws becomes 500 wherever it is', async (t) => {
  const oops = new Error('oops')
  const places: Middleware[] = [
    () => {
      throw oops
    },
    async () => {
      throw oops
    },
    async (_stream, next) => {
      await next()
      throw oops
    },
    async (_stream, next) => {
      void next()
      throw oops
    },
  ]
  for (const run of places) {
    const driven = through(run)
    await settle(1)
    if (driven.upstream.begun === 1) driven.upstream.respond(200, [], 'x')
    await settle(1)
    t.equal(driven.downstream.status, 500)
    t.equal(driven.downstream.body, 'Internal Server Error')
    t.same(driven.errors, ['onion: oops'])
    t.equal(driven.ends(), 1)
  }
})

t.test('misuse is an error that says so', async (t) => {
  for (const [run, message] of [
    [async () => {}, 'onion: middleware "onion" neither called next() nor answered'],
    [() => {}, 'onion: middleware "onion" neither called next() nor answered'],
    [
      async (_s: HttpStream, next: () => Promise<void>) => {
        await next()
        await next()
      },
      'onion: middleware "onion" called next() twice',
    ],
  ] as const) {
    const driven = through(run)
    await settle(1)
    if (driven.upstream.begun === 1) driven.upstream.respond(200)
    await settle(1)
    t.equal(driven.downstream.status, 500)
    t.same(driven.errors, [message])
  }
})

t.test('a function that does not wait for next() lets the response pass', async (t) => {
  const driven = through((_stream, next) => void next())
  await settle(1)
  driven.upstream.respond(200, [], 'x')
  t.equal(driven.downstream.body, 'x', 'at once')
  const gone = through(async (_stream, next) => void next())
  await settle(1)
  gone.clientGone()
  await settle(1)
  t.same([driven.errors, gone.errors], [[], []])
})

t.test('when the client goes away next() rejects, finally blocks run, and nothing counts as an error', async (t) => {
  let cleaned = 0
  let reason: unknown
  const driven = through(async (_stream, next) => {
    try {
      await next()
    } catch (error) {
      reason = error
      throw error
    } finally {
      cleaned++
    }
  })
  await settle(1)
  driven.clientGone()
  await settle(1)
  t.equal(cleaned, 1)
  t.ok(reason instanceof ExchangeEnded)
  t.same(driven.errors, [])
  t.equal(driven.ends(), 1)
})

t.test('next() after the end, or after somebody else has answered, rejects at once', async (t) => {
  for (const end of ['client', 'deadline'] as const) {
    const slow = Promise.withResolvers<void>()
    let reason: unknown
    const driven = through(async (_stream, next) => {
      await slow.promise
      await next().catch((error: unknown) => {
        reason = error
        throw error
      })
    })
    if (end === 'client') driven.clientGone()
    else driven.exchange.reply({ status: 408, details: 'request_overall_timeout' })
    slow.resolve()
    await settle(1)
    t.ok(reason instanceof ExchangeEnded)
    t.equal(driven.upstream.begun, 0)
    t.equal(driven.downstream.status, end === 'client' ? 0 : 408)
    t.same(driven.errors, [])
  }
})

t.test('an error of its own after the client has gone is still logged while it holds the request', async (t) => {
  const slow = Promise.withResolvers<void>()
  const driven = through(async () => {
    await slow.promise
    throw new Error('broken')
  })
  driven.clientGone()
  slow.resolve()
  await settle(1)
  t.same(driven.errors, ['onion: broken'])
  t.equal(driven.ends(), 1)
})
