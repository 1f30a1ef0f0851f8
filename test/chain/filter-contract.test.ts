import t from 'tap'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { Headers } from '../../lib/core/headers.ts'
import { type Driven, type DriveOptions, drive, lines } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'

type Filter = HttpFilter<unknown>

function through(filters: readonly Filter[], more: Partial<DriveOptions> = {}): Driven {
  return drive({ filters, ...more })
}

/** A response with a body and trailers. */
function answer(driven: Driven, trailers: readonly string[]): void {
  const exchange = driven.upstream.exchange
  exchange?.upstreamHeaders(200, new Headers([]), false)
  exchange?.upstreamData(Buffer.from('body'), false)
  exchange?.upstreamTrailers(new Headers([...trailers]))
}

t.test(
  'a filter that holds the response has its trailers with the body, as the filters behind it left them',
  async (t) => {
    let seen: string[] = []
    const holder: Filter = {
      onResponseHeaders: async (stream) => {
        t.equal(stream.responseTrailers, undefined)
        const body = await stream.collectResponse(stream.bufferLimit)
        seen = [body.toString(), ...lines(stream.responseTrailers)]
        stream.status = 503
      },
    }
    const inner: Filter = { onResponseTrailers: async (_stream, trailers) => trailers.append('inner', '1') }
    const driven = through([holder, inner])
    answer(driven, ['t', '1'])
    await settle(3)
    t.same(seen, ['body', 't: 1', 'inner: 1'])
    t.equal(driven.downstream.status, 503)
    t.same(lines(driven.downstream.trailers), ['t: 1', 'inner: 1'])
  },
)

t.test('trailers that a filter empties are not sent, and logs read the copy that it leaves', async (t) => {
  for (const keeps of [false, true]) {
    const filter: Filter = {
      onResponseTrailers(stream, trailers) {
        stream.writeResponse(Buffer.from('+last'))
        if (keeps) stream.responseTrailers = trailers.clone()
        trailers.deleteWhere(() => true)
      },
    }
    const driven = through([filter])
    answer(driven, ['t', '1'])
    t.equal(driven.downstream.body, 'body+last')
    t.ok(driven.downstream.ended)
    t.equal(driven.downstream.trailers, undefined)
    t.same(lines(driven.exchange.responseTrailers), keeps ? ['t: 1'] : [])
    t.same([driven.ends(), driven.upstream.cancelled], [1, 0])
  }
})

t.test(
  'a header hook may give a body to a request that has none; filters behind see it, those before do not',
  async (t) => {
    const gate = Promise.withResolvers<void>()
    for (const pauses of [false, true]) {
      const trace: string[] = []
      const watch = (name: string, pause = false): Filter => ({
        onRequestHeaders(_stream, end) {
          trace.push(`${name} headers ${end}`)
          return pause ? gate.promise : undefined
        },
        onRequestData: (_stream, chunk, end) => void trace.push(`${name} data ${chunk} ${end}`),
      })
      const giver: Filter = {
        onRequestHeaders: (stream) => void stream.writeRequest(Buffer.from('given')),
        onRequestData: () => void trace.push('its own'),
      }
      const driven = through([watch('before'), giver, watch('behind', pauses)])
      if (pauses) {
        t.equal(driven.upstream.begun, 0)
        gate.resolve()
        await settle(1)
      }
      t.same(trace, ['before headers true', 'behind headers false', 'behind data given true'])
      t.equal(driven.upstream.body, 'given')
      t.ok(driven.upstream.ended)
      driven.upstream.respond(200)
      t.same([driven.ends(), driven.errors], [1, []])
    }
    const collector: Filter = {
      onRequestHeaders: async (stream) => {
        t.equal((await stream.collectRequest(10)).toString(), 'given')
      },
    }
    const giver: Filter = { onRequestHeaders: (stream) => void stream.writeRequest(Buffer.from('given')) }
    const held = through([giver, collector])
    await settle(1)
    t.equal(held.upstream.body, 'given')
    const late: Filter = { onRequestHeaders: (stream) => stream.reply({ status: 403, details: 'd' }) }
    t.equal(through([giver, late]).upstream.begun, 0)
  },
)

t.test('local replies are gRPC for gRPC requests, unless a filter says that the client speaks none', async (t) => {
  for (const plain of [false, true]) {
    const turner: Filter = {
      onRequestHeaders(stream) {
        stream.request.set('content-type', 'application/grpc')
        stream.info.plainReplies = plain
        return stream.reply({ status: 429, body: 'slow', details: 'd' })
      },
    }
    const driven = through([turner])
    t.equal(driven.downstream.status, plain ? 429 : 200)
    t.equal(driven.downstream.headers.get('grpc-status'), plain ? undefined : '14')
    t.equal(driven.downstream.body, plain ? 'slow' : '')
  }
})
