import t, { type Test } from 'tap'
import { compileChain } from '../../lib/chain/compile.ts'
import type { HttpFilter, HttpStream } from '../../lib/chain/filter.ts'
import { FAILURES, flagBit } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { type Driven, type DriveOptions, drive, FakeUpstream, lines, ROUTE } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'

type Filter = HttpFilter<unknown>
const HOOKS = [
  'onRequestHeaders',
  'onRequestData',
  'onRequestTrailers',
  'onResponseHeaders',
  'onResponseData',
  'onResponseTrailers',
] as const

/** A filter that has every hook and writes down `name.hook` (and what it was given). */
function tracing(name: string, trace: string[]): Filter {
  const note = (what: string): void => void trace.push(`${name}.${what}`)
  return {
    onRequestHeaders: (_s, end) => note(`requestHeaders ${end}`),
    onRequestData: (_s, chunk, end) => note(`requestData ${chunk} ${end}`),
    onRequestTrailers: (_s, trailers) => note(`requestTrailers ${lines(trailers)}`),
    onInformational: (_s, status) => note(`informational ${status}`),
    onResponseHeaders: (_s, end) => note(`responseHeaders ${end}`),
    onResponseData: (_s, chunk, end) => note(`responseData ${chunk} ${end}`),
    onResponseTrailers: (_s, trailers) => note(`responseTrailers ${lines(trailers)}`),
    onEnd: () => note('end'),
  }
}

/** A promise and the key to it. */
function gate(): { readonly promise: Promise<undefined>; open(): Promise<void>; fail(why: Error): Promise<void> } {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  return {
    promise,
    async open() {
      resolve(undefined)
      await settle(1)
    },
    async fail(why) {
      reject(why)
      await settle(1)
    },
  }
}

/** A whole exchange: request and response both with a body and trailers. */
async function whole(filters: readonly (Filter | undefined)[], more: Partial<DriveOptions> = {}): Promise<Driven> {
  const driven = drive({ filters, end: false, ...more })
  driven.send('req')
  driven.exchange.requestTrailers(new Headers(['rt', '1']))
  await settle(2)
  // An early answer would be the end of the request.
  if (driven.upstream.ended) await answer(driven)
  return driven
}

async function answer(driven: Driven): Promise<void> {
  driven.exchange.upstreamHeaders(200, new Headers(['a', '1']), false)
  driven.exchange.upstreamData(Buffer.from('res'), false)
  driven.exchange.upstreamTrailers(new Headers(['st', '1']))
  await settle(2)
}

function assertWhole(t: Test, driven: Driven): void {
  t.same(
    {
      up: driven.upstream.body,
      upTrailers: lines(driven.upstream.trailersReceived),
      status: driven.downstream.status,
      down: driven.downstream.body,
      downTrailers: lines(driven.downstream.trailers),
      ended: driven.downstream.ended,
      reset: driven.downstream.resetWith,
      ends: driven.ends(),
      errors: driven.errors,
    },
    {
      up: 'req',
      upTrailers: ['rt: 1'],
      status: 200,
      down: 'res',
      downTrailers: ['st: 1'],
      ended: true,
      reset: undefined,
      ends: 1,
      errors: [],
    },
  )
}

t.test(
  'requests pass filters first to last, responses last to first, and a filter that is off is left out',
  async (t) => {
    const trace: string[] = []
    const driven = drive({ filters: [tracing('a', trace), undefined, tracing('b', trace)], end: false })
    driven.send('x')
    driven.send('', true)
    driven.exchange.upstreamInformational(103, new Headers())
    driven.upstream.respond(200, [], 'y')
    t.same(trace, [
      'a.requestHeaders false',
      'b.requestHeaders false',
      'a.requestData x false',
      'b.requestData x false',
      'a.requestData  true',
      'b.requestData  true',
      'b.informational 103',
      'a.informational 103',
      'b.responseHeaders false',
      'a.responseHeaders false',
      'b.responseData y true',
      'a.responseData y true',
      'a.end',
      'b.end',
    ])
    t.same(driven.downstream.informational, [103])
    t.equal(driven.exchange.info.details, 'via_upstream')
  },
)

t.test('without filters both directions go straight through', async (t) => {
  assertWhole(t, await whole([]))
  const bodyless = drive({ filters: [] })
  t.ok(bodyless.upstream.ended)
  bodyless.upstream.respond(304)
  t.ok(bodyless.downstream.ended)
  t.equal(bodyless.ends(), 1)
})

for (const name of HOOKS) {
  t.test(`a promise from ${name} holds that direction back, in order, until it settles`, async (t) => {
    for (const place of [0, 1, 2]) {
      const trace: string[] = []
      const held = gate()
      const pausing: Filter = { [name]: () => held.promise }
      const filters = [tracing('a', trace), tracing('b', trace)].toSpliced(place, 0, pausing)
      const driven = await whole(filters)
      t.notOk(driven.downstream.ended, 'it is held')
      if (name.startsWith('onRequest')) t.notOk(driven.upstream.ended)
      await held.open()
      await settle(2)
      if (name.startsWith('onRequest')) await answer(driven)
      assertWhole(t, driven)
      t.equal(trace.filter((line) => line.endsWith('.end')).length, 2)
      t.same(
        trace.filter((line) => line.startsWith('a.request')),
        ['a.requestHeaders false', 'a.requestData req false', 'a.requestTrailers rt: 1'],
      )
    }
  })

  t.test(`${name} may answer: once, completely, and everything is let go`, async (t) => {
    let end = 0
    const replying: Filter = {
      [name]: (stream: HttpStream) => {
        stream.reply({ status: 418, body: 'teapot', details: 'tea' })
        return name.endsWith('Data') ? null : undefined
      },
      onEnd: () => void end++,
    }
    const driven = await whole([replying])
    t.equal(driven.exchange.info.details, 'tea')
    t.equal(driven.ends(), 1)
    t.equal(end, 1)
    t.same(driven.errors, [])
    if (name === 'onResponseData' || name === 'onResponseTrailers') {
      t.equal(driven.downstream.status, 200)
      t.equal(driven.downstream.resetWith, FAILURES.filterError, 'too late for an answer: broken off')
    } else {
      t.equal(driven.downstream.status, 418)
      t.equal(driven.downstream.body, 'teapot')
      t.ok(driven.downstream.ended)
    }
    if (name !== 'onRequestHeaders') t.equal(driven.upstream.cancelled, 1)
  })

  for (const how of ['throws', 'rejects', 'returns nonsense'] as const) {
    t.test(`an exchange in which ${name} ${how} ends with 500, or is broken off`, async (t) => {
      const failing: Filter = {
        [name]: () => {
          if (how === 'rejects') return Promise.reject(new Error('oops'))
          if (how === 'throws') throw new Error('oops')
          return 7
        },
      }
      const driven = await whole([failing], { names: ['bad'] })
      t.equal(driven.errors.length, 1)
      t.match(driven.errors[0], how === 'returns nonsense' ? /^bad: a hook returned number/ : /^bad: oops$/)
      t.equal(driven.ends(), 1)
      t.equal(driven.exchange.info.details, 'filter_error')
      if (name === 'onResponseData' || name === 'onResponseTrailers') {
        t.equal(driven.downstream.resetWith, FAILURES.filterError)
        t.notOk(driven.downstream.ended)
      } else {
        t.equal(driven.downstream.status, 500)
        t.equal(driven.downstream.body, 'Internal Server Error')
      }
    })
  }

  t.test(`a client that goes away while ${name} is paused ends the exchange once`, async (t) => {
    const held = gate()
    let end = 0
    let aborted = false
    const pausing: Filter = {
      [name]: (stream: HttpStream) => {
        stream.signal.addEventListener('abort', () => {
          aborted = true
        })
        return held.promise
      },
      onEnd: () => void end++,
    }
    const trace: string[] = []
    const driven = await whole([pausing, tracing('b', trace)])
    driven.clientGone()
    const before = trace.length
    await held.open()
    driven.send('more', true)
    driven.exchange.upstreamData(Buffer.from('late'), true)
    await settle(1)
    t.equal(trace.length, before, 'no hook is called after the end')
    t.equal(driven.ends(), 1)
    t.equal(end, 1)
    t.ok(aborted, 'its signal has told it')
    t.notOk(driven.downstream.ended)
    t.equal(driven.exchange.info.details, 'downstream_remote_disconnect')
    t.equal(driven.upstream.cancelled, driven.upstream.begun)
  })
}

t.test('data keeps its order although several filters pause on every chunk', async (t) => {
  const gates: ReturnType<typeof gate>[] = []
  const seen: string[] = []
  const slow = (name: string): Filter => ({
    onRequestData(_s, chunk) {
      seen.push(`${name}${chunk}`)
      const held = gate()
      gates.push(held)
      return held.promise
    },
  })
  const driven = drive({ filters: [slow('a'), slow('b')], end: false })
  for (const text of ['1', '2', '3']) driven.send(text, text === '3')
  // Always the newest first: whatever is in front must still come out in front.
  while (gates.length > 0) await gates.pop()?.open()
  t.equal(driven.upstream.body, '123')
  t.ok(driven.upstream.ended)
  t.same(
    ['a', 'b'].map((name) => seen.filter((s) => s.startsWith(name)).join()),
    ['a1,a2,a3', 'b1,b2,b3'],
  )
})

t.test('data hooks may replace a chunk, swallow it, and emit more than one', async (t) => {
  const filter: Filter = {
    onRequestData(stream, chunk, end) {
      if (`${chunk}` === 'drop') return null
      if (end) {
        stream.writeRequest(Buffer.from('<'))
        stream.writeRequest(Buffer.from('>'))
      }
      return Buffer.from(`${chunk}`.toUpperCase())
    },
    onResponseData(stream, chunk, end) {
      stream.writeResponse(Buffer.from('-'))
      return end ? null : chunk
    },
  }
  const seen: string[] = []
  const driven = drive({ filters: [filter, tracing('after', seen)], end: false })
  for (const text of ['a', 'drop', 'b']) driven.send(text, text === 'b')
  t.equal(driven.upstream.body, 'A<>B')
  t.ok(driven.upstream.ended)
  t.same(
    seen.filter((line) => line.includes('requestData')),
    ['A false', '< false', '> false', 'B true'].map((what) => `after.requestData ${what}`),
  )
  driven.exchange.upstreamHeaders(200, new Headers(), false)
  driven.exchange.upstreamData(Buffer.from('x'), false)
  driven.exchange.upstreamData(Buffer.from('y'), true)
  t.equal(driven.downstream.body, '-x-')
  t.ok(driven.downstream.ended, 'a swallowed end is still an end')
})

t.test('a filter may give trailers to bodies that have none', async (t) => {
  const filter: Filter = {
    onRequestData: (stream, _c, end) => (end ? stream.setRequestTrailers(new Headers(['q', '1'])) : undefined),
    onResponseData: (stream, _c, end) => (end ? stream.setResponseTrailers(new Headers(['s', '1'])) : undefined),
  }
  const driven = drive({ filters: [filter], end: false })
  driven.send('x', true)
  t.equal(driven.upstream.body, 'x')
  t.same(lines(driven.upstream.trailersReceived), ['q: 1'])
  driven.upstream.respond(200, [], 'y')
  t.equal(driven.downstream.body, 'y')
  t.same(lines(driven.downstream.trailers), ['s: 1'])
  t.same(lines(driven.exchange.responseTrailers), ['s: 1'])
})

t.test('collecting gives the whole body and forwards it unchanged', async (t) => {
  const bodies: unknown[] = []
  const collecting: Filter = {
    onRequestHeaders: async (stream) => void bodies.push(`${await stream.collectRequest(10)}`),
    onResponseHeaders: async (stream) => void bodies.push(`${await stream.collectResponse(10)}`),
  }
  const driven = drive({ filters: [collecting], end: false })
  for (const text of ['12345', '67890']) driven.send(text)
  t.equal(driven.upstream.begun, 0)
  driven.send('', true)
  await settle(1)
  t.equal(driven.upstream.body, '1234567890')
  driven.upstream.respond(200, [], 'answer')
  await settle(1)
  t.equal(driven.downstream.body, 'answer')
  t.same(bodies, ['1234567890', 'answer'])

  const bodyless = drive({ filters: [collecting] })
  await settle(1)
  bodyless.upstream.respond(204)
  await settle(1)
  t.same(bodies.slice(2), ['', ''])
  t.equal(bodyless.downstream.status, 204)
})

t.test('a body beyond the limit of whoever collects it is answered: 413 for requests, 500 for responses', async (t) => {
  const results: unknown[] = []
  const request = drive({
    filters: [{ onRequestHeaders: async (stream) => void results.push(await stream.collectRequest(4)) } as Filter],
    end: false,
  })
  request.send('12345')
  await settle(1)
  t.equal(request.downstream.status, 413)
  t.equal(request.upstream.begun, 0)

  const response = drive({
    filters: [{ onResponseHeaders: async (stream) => void results.push(await stream.collectResponse(4)) } as Filter],
  })
  response.upstream.respond(200, [], '12345')
  await settle(1)
  t.equal(response.downstream.status, 500)
  t.equal(response.exchange.info.details, 'response_payload_too_large')
  t.same(results, [FAILURES.payloadTooLarge, FAILURES.responseTooLarge])
})

t.test('peeking shows the beginning and leaves it in place', async (t) => {
  const seen: string[] = []
  const peeking: Filter = {
    onRequestHeaders: async (stream) => void seen.push(`${await stream.peekRequest(4)}`),
    onResponseHeaders: async (stream) => void seen.push(`${await stream.peekResponse(4)}`),
  }
  const driven = drive({ filters: [peeking, peeking], end: false })
  driven.send('12')
  await settle(1)
  t.same(seen, [])
  driven.send('3456')
  await settle(1)
  t.same(seen, ['1234', '1234'])
  driven.send('7', true)
  t.equal(driven.upstream.body, '1234567')
  driven.upstream.respond(200, [], 'ab')
  await settle(1)
  t.same(seen.slice(2), ['ab', 'ab'], 'fewer bytes where the body ends earlier')
  t.equal(driven.downstream.body, 'ab')
})

t.test('whoever comes after a pause is told that there is a body, even if all of it has arrived', async (t) => {
  const held = gate()
  const ends: boolean[] = []
  const driven = drive({
    filters: [
      { onRequestHeaders: () => held.promise },
      { onRequestHeaders: (_s, end) => void ends.push(end) } as Filter,
    ],
    end: false,
  })
  driven.send('all', true)
  await held.open()
  t.same(ends, [false])
  t.equal(driven.upstream.body, 'all')
})

t.test('a lane that filled up before someone collects fills on up to what is collected', async (t) => {
  const held = gate()
  const driven = drive({
    filters: [
      { onRequestHeaders: () => held.promise },
      { onRequestHeaders: async (stream) => void (await stream.collectRequest(20)) } as Filter,
    ],
    end: false,
    bufferLimit: 10,
  })
  driven.send('123456789012')
  t.ok(driven.downstream.paused, 'beyond the buffer limit')
  await held.open()
  t.notOk(driven.downstream.paused, 'the collector wants more')
  driven.send('3', true)
  await settle(1)
  t.equal(driven.upstream.body, '1234567890123')
  t.notOk(driven.downstream.paused)
})

t.test('back-pressure of the upstream reaches the client, and back', async (t) => {
  for (const filters of [[], [{ onRequestData: () => undefined }]] as Filter[][]) {
    const driven = drive({ filters, end: false, bufferLimit: 4 })
    driven.upstream.ready = false
    driven.send('12')
    t.ok(driven.downstream.paused)
    driven.send('34567')
    driven.upstream.ready = true
    driven.exchange.drained()
    t.notOk(driven.downstream.paused)
    driven.send('8', true)
    t.equal(driven.upstream.body, '12345678')
    t.ok(driven.upstream.ended)
  }
})

t.test('back-pressure of the client reaches the upstream, and back', async (t) => {
  for (const filters of [[], [{ onResponseData: () => undefined }]] as Filter[][]) {
    const driven = drive({ filters, bufferLimit: 4 })
    driven.exchange.upstreamHeaders(200, new Headers(), false)
    driven.downstream.ready = false
    const more = driven.exchange.upstreamData(Buffer.from('12'), false)
    t.ok(!more || driven.upstream.paused)
    driven.downstream.ready = true
    driven.exchange.downstreamDrained()
    t.notOk(driven.upstream.paused)
    driven.exchange.upstreamData(Buffer.from('3'), true)
    t.equal(driven.downstream.body, '123')
    t.ok(driven.downstream.ended)
  }
})

t.test('what waits for a paused filter is bounded by back-pressure', async (t) => {
  const held = gate()
  const driven = drive({
    filters: [{ onRequestHeaders: () => held.promise, onResponseHeaders: () => held.promise }],
    end: false,
    bufferLimit: 4,
  })
  driven.send('12345')
  t.ok(driven.downstream.paused)
  await held.open()
  t.notOk(driven.downstream.paused)
  const again = gate()
  const response = drive({ filters: [{ onResponseHeaders: () => again.promise }], bufferLimit: 4 })
  response.exchange.upstreamHeaders(200, new Headers(), false)
  t.notOk(response.exchange.upstreamData(Buffer.from('12345'), false), 'the upstream is told to wait')
  t.ok(response.upstream.paused)
  await again.open()
  t.notOk(response.upstream.paused)
  t.equal(response.downstream.body, '12345')
})

t.test('local replies pass the response hooks of the whole chain once', async (t) => {
  const trace: string[] = []
  const replying: Filter = {
    onRequestHeaders: (stream) => stream.reply({ status: 403, body: 'no', details: 'denied', flag: 'UAEX' }),
  }
  const changing: Filter = { onResponseHeaders: (stream) => stream.response.set('x', '1') }
  const driven = drive({ filters: [changing, replying, tracing('later', trace)] })
  t.equal(driven.downstream.status, 403)
  t.same(lines(driven.downstream.headers), ['content-length: 2', 'content-type: text/plain', 'x: 1'])
  t.equal(driven.downstream.body, 'no')
  t.equal(driven.upstream.begun, 0)
  t.same(trace, ['later.responseHeaders false', 'later.responseData no true', 'later.end'])
  t.equal(driven.exchange.localReplyBody, 'no')
  const head = drive({ filters: [replying], head: { method: 'HEAD' } })
  t.equal(head.downstream.headers.get('content-length'), '2')
  t.equal(head.downstream.body, '')
  t.ok(head.downstream.ended)
  const grpc = drive({ filters: [replying], request: ['content-type', 'application/grpc'] })
  t.equal(grpc.downstream.status, 200)
  t.same(lines(grpc.downstream.headers), ['content-type: application/grpc', 'grpc-status: 7', 'grpc-message: no'])
})

t.test('an answer from a response hook replaces the response, and no hook sees it again', async (t) => {
  const trace: string[] = []
  const replying: Filter = {
    onResponseHeaders: async (stream) => stream.reply({ status: 502, body: 'bad', details: 'inspected' }),
  }
  const driven = drive({ filters: [tracing('a', trace), replying] })
  driven.upstream.respond(200, ['secret', '1'], 'leak')
  await settle(1)
  t.equal(driven.downstream.status, 502)
  t.equal(driven.downstream.body, 'bad')
  t.same(lines(driven.downstream.headers), ['content-length: 3', 'content-type: text/plain'])
  t.same(trace, ['a.requestHeaders true', 'a.end'])
  t.equal(driven.upstream.cancelled, 1)
})

t.test('a filter may stream an answer of its own', async (t) => {
  let sink: ReturnType<HttpStream['respond']> | undefined
  const own: Filter = {
    onRequestHeaders(stream) {
      sink = stream.respond(200, new Headers(['content-type', 'text/event-stream']))
    },
  }
  const seen: string[] = []
  const driven = drive({ filters: [tracing('a', seen), own] })
  t.equal(driven.upstream.begun, 0)
  sink?.write(Buffer.from('one'))
  driven.downstream.ready = false
  t.equal(sink?.write(Buffer.from('two')), true, 'with data hooks the lane takes it')
  driven.downstream.ready = true
  driven.exchange.downstreamDrained()
  sink?.end(new Headers(['t', '1']))
  t.equal(driven.downstream.body, 'onetwo')
  t.same(lines(driven.downstream.trailers), ['t: 1'])
  t.equal(driven.exchange.info.details, 'filter_response')
  t.equal(driven.ends(), 1)
  t.ok(sink?.write(Buffer.from('late')), 'harmless after the end')
  t.match(seen, ['a.requestHeaders true', 'a.responseHeaders false'])
})

t.test('whoever streams an answer of its own is told when the client can take more', async (t) => {
  const data: Filter = { onResponseData: () => undefined }
  for (const filters of [[], [data]]) {
    let sink: ReturnType<HttpStream['respond']> | undefined
    const drains: boolean[] = []
    const own: Filter = {
      onRequestHeaders(stream) {
        sink = stream.respond(200, new Headers(), () => void drains.push(sink?.write(Buffer.from('.')) === true))
      },
    }
    const driven = drive({ filters: [...filters, own], bufferLimit: 300 })
    const write = (): boolean => sink?.write(Buffer.alloc(100)) === true
    t.ok(write())
    driven.exchange.downstreamDrained()
    t.same(drains, [], 'nobody waits')
    driven.downstream.ready = false
    let writes = 1
    for (; write(); writes++) t.ok(writes < 10, 'the lane is bounded too')
    driven.downstream.ready = true
    driven.exchange.downstreamDrained()
    t.same(drains, [true])
    driven.exchange.downstreamDrained()
    t.same(drains, [true], 'once for each false')

    driven.downstream.ready = false
    while (write());
    driven.exchange.downstreamDrained()
    driven.downstream.ready = true
    driven.exchange.downstreamDrained()
    t.equal(drains.at(-1), true, 'also where the first write of a drain was too much again')
    driven.downstream.ready = false
    while (write());
    const before = drains.length
    driven.clientGone()
    driven.exchange.downstreamDrained()
    t.equal(drains.length, before, 'not after the end')
  }
})

t.test('what a streamed answer does when it is told to go on may fail: it is broken off', async (t) => {
  const held = gate()
  let sink: ReturnType<HttpStream['respond']> | undefined
  const own: Filter = {
    onRequestHeaders(stream) {
      sink = stream.respond(200, new Headers(), () => {
        throw new Error('no more')
      })
    },
  }
  const driven = drive({ filters: [own] })
  driven.downstream.ready = false
  t.notOk(sink?.write(Buffer.from('x')))
  driven.exchange.downstreamDrained()
  // The second is told from within the lane, which a paused response hook has filled.
  const paused = drive({ filters: [own, { onResponseHeaders: () => held.promise }], bufferLimit: 100 })
  t.notOk(sink?.write(Buffer.from('x')))
  await held.open()
  for (const { errors, downstream, ends } of [driven, paused]) {
    t.same(errors, ['respond: no more'])
    t.equal(downstream.resetWith, FAILURES.filterError)
    t.equal(downstream.body, 'x')
    t.equal(ends(), 1)
  }
})

t.test('an answer from a response hook denies the upgrade that the upstream has accepted', async (t) => {
  const held = gate()
  const denial = { status: 403, body: 'no', details: 'denied' }
  const hooks: Record<string, Filter['onResponseHeaders']> = {
    'a reply': (stream) => stream.reply(denial),
    'a late reply': async (stream) => stream.reply(denial),
    'a crash': () => {
      throw new Error('oops')
    },
    'a rejection': () => Promise.reject(new Error('oops')),
    'a deadline while it is paused': () => held.promise,
    'a client that goes away while it is paused': () => held.promise,
  }
  for (const [how, onResponseHeaders] of Object.entries(hooks)) {
    for (const status of [101, 200]) {
      const head = status === 101 ? { protocol: 'websocket' } : { method: 'CONNECT' }
      const driven = drive({ filters: [{ onResponseHeaders } as Filter], head })
      driven.exchange.upstreamUpgraded(status, new Headers(['upgrade', 'websocket']))
      driven.exchange.upstreamData(Buffer.from('early'), false)
      if (how.startsWith('a deadline')) {
        driven.exchange.reply({ status: 408, details: 'max_duration_timeout', flag: 'DT' })
      }
      if (how.startsWith('a client')) driven.clientGone()
      await settle(1)
      t.equal(driven.upstream.cancelled, 1, `${how}: the attempt is cancelled`)
      t.notOk(driven.downstream.upgraded, `${how}: no tunnel`)
      t.equal(driven.ends(), 1, how)
      t.notOk(driven.downstream.headers.has('upgrade'))
      if (how.endsWith('reply')) t.equal(driven.downstream.body, 'no')
    }
  }
  await held.open()
  const granted = drive({ filters: [{ onResponseHeaders: () => undefined }], head: { protocol: 'websocket' } })
  granted.exchange.upstreamUpgraded(101, new Headers())
  t.ok(granted.downstream.upgraded)
  granted.exchange.upstreamData(Buffer.from('down'), true)
  t.equal(granted.downstream.body, 'down')
  t.ok(granted.downstream.ended, 'one direction ends by itself')
  t.equal(granted.ends(), 0)
  granted.exchange.requestData(Buffer.from('up'), false)
  granted.exchange.requestData(Buffer.alloc(0), true)
  t.equal(granted.upstream.body, 'up')
  t.ok(granted.upstream.ended)
  t.equal(granted.ends(), 1, 'the exchange ends with the later direction')
  t.equal(granted.upstream.cancelled, 0)
})

t.test('bytes of a tunnel wait for paused response hooks, pass no data hooks and obey back-pressure', async (t) => {
  const gate = Promise.withResolvers<void>()
  const filter: Filter = {
    onResponseHeaders: () => gate.promise,
    onResponseData: () => void t.fail('tunnel bytes are no response body'),
    onRequestData: () => void t.fail('tunnel bytes are no request body'),
  }
  const driven = drive({ filters: [filter], head: { protocol: 'websocket' } })
  driven.exchange.upstreamUpgraded(101, new Headers())
  t.same(driven.upstream.flow, ['pause'])
  t.equal(driven.exchange.upstreamData(Buffer.from('early'), false), false)
  t.notOk(driven.downstream.upgraded)
  gate.resolve()
  await settle(1)
  t.ok(driven.downstream.upgraded)
  t.equal(driven.downstream.body, 'early')
  t.equal(driven.upstream.flow.at(-1), 'resume')
  driven.downstream.ready = false
  t.equal(driven.exchange.upstreamData(Buffer.from('more'), false), false)
  t.equal(driven.upstream.flow.at(-1), 'pause')
  driven.exchange.downstreamDrained()
  t.equal(driven.upstream.flow.at(-1), 'resume')
  driven.upstream.ready = false
  driven.exchange.requestData(Buffer.from('up'), false)
  t.ok(driven.downstream.paused)
  driven.exchange.drained()
  t.notOk(driven.downstream.paused)
  driven.clientGone()
  t.equal(driven.upstream.cancelled, 1)
})

t.test('a client that aborts in the middle of a response is what the log tells of', async (t) => {
  const driven = drive({ filters: [] })
  driven.exchange.upstreamAnswers(200, new Headers())
  driven.exchange.upstreamHeaders(200, new Headers(), false)
  driven.exchange.upstreamData(Buffer.from('half'), false)
  t.equal(driven.exchange.info.details, 'via_upstream')
  driven.clientGone()
  t.equal(driven.exchange.info.details, 'downstream_remote_disconnect')
  t.equal(driven.exchange.info.flags, flagBit('DC'))
})

t.test('responses without a body get trailers where their framing has room for them', async (t) => {
  const filter: Filter = {
    onResponseHeaders: (stream) => stream.setResponseTrailers(new Headers(['s', '1'])),
    onRequestHeaders: (stream) => stream.setRequestTrailers(new Headers(['q', '1'])),
  }
  const answered = (status: number, headers: string[], method = 'GET'): Driven => {
    const driven = drive({ filters: [filter], head: { method } })
    t.ok(driven.upstream.ended, 'a request without a body stays one')
    t.equal(driven.upstream.trailersReceived, undefined)
    driven.upstream.respond(status, headers)
    t.ok(driven.downstream.ended)
    t.equal(driven.ends(), 1)
    return driven
  }
  t.same(lines(answered(200, []).downstream.trailers), ['s: 1'])
  t.same(lines(answered(200, []).exchange.responseTrailers), ['s: 1'])
  for (const driven of [
    answered(200, ['content-length', '0']),
    answered(204, []),
    answered(304, []),
    answered(200, [], 'HEAD'),
  ]) {
    t.equal(driven.downstream.trailers, undefined)
    t.equal(driven.exchange.responseTrailers, undefined)
  }
})

t.test('a request hook that answers and then throws does not spoil its answer', async (t) => {
  const held = gate()
  const filter: Filter = {
    onRequestData(stream) {
      stream.reply({ status: 403, body: 'no', details: 'denied' })
      throw new Error('after all')
    },
    onResponseHeaders: () => held.promise,
  }
  const driven = drive({ filters: [filter], end: false })
  driven.send('x')
  t.same(driven.errors, ['f0: after all'])
  await held.open()
  t.equal(driven.downstream.status, 403)
  t.equal(driven.downstream.body, 'no')
})

t.test('a second response cannot be begun over the first', async (t) => {
  const late: Filter = { onResponseHeaders: (stream) => void stream.respond(200, new Headers()) }
  const driven = drive({ filters: [late] })
  driven.upstream.respond(204)
  t.equal(driven.downstream.status, 500)
  t.match(driven.errors, ['f0: respond() is too late: a response has begun'])
})

t.test('an informational hook that answers stops the informational response', async (t) => {
  const filter: Filter = { onInformational: (stream) => void stream.reply({ status: 503, details: 'x' }) }
  const driven = drive({ filters: [filter] })
  driven.exchange.upstreamInformational(103, new Headers())
  t.same(driven.downstream.informational, [])
  t.equal(driven.downstream.status, 503)
})

t.test('a request hook that fails after the answer is on its way does not spoil it', async (t) => {
  const held = gate()
  const failing: Filter = { onRequestData: () => held.promise }
  const driven = drive({ filters: [failing], names: ['late'], end: false })
  driven.send('x')
  driven.exchange.reply({ status: 408, body: 'slow', details: 'request_overall_timeout' })
  await held.fail(new Error('too late'))
  t.equal(driven.downstream.status, 408)
  t.equal(driven.downstream.resetWith, undefined)
  t.same(driven.errors, ['late: too late'])
  t.equal(driven.ends(), 1)

  const waiting = gate()
  const slowAnswer: Filter = { onRequestHeaders: () => held.promise, onResponseHeaders: () => waiting.promise }
  const paused = drive({ filters: [slowAnswer] })
  paused.exchange.reply({ status: 408, body: 'slow', details: 'request_overall_timeout' })
  await settle(1)
  t.same(paused.errors, ['f0: too late'])
  await waiting.open()
  t.equal(paused.downstream.status, 408)
})

t.test('giving up because the signal aborted is no error', async (t) => {
  const filter: Filter = {
    onRequestHeaders: (stream) =>
      new Promise((_, reject) => stream.signal.addEventListener('abort', () => reject(stream.signal.reason))),
  }
  const driven = drive({ filters: [filter] })
  driven.clientGone()
  await settle(1)
  t.same(driven.errors, [])
  t.equal(driven.ends(), 1)
})

t.test('response headers that are not there yet cannot be written to', async (t) => {
  const driven = drive({ filters: [{ onRequestHeaders: (stream) => stream.response.set('x', '1') } as Filter] })
  t.equal(driven.downstream.status, 500)
  t.equal(driven.errors.length, 1)
  const next = drive({ filters: [{ onRequestHeaders: (stream) => void t.equal(stream.response.size, 0) } as Filter] })
  t.same(next.errors, [])
})

t.test('state is made once for each exchange and handed to every hook', async (t) => {
  const states: unknown[] = []
  const filter: HttpFilter<{ n: number }> = {
    createState: () => ({ n: 0 }),
    onRequestHeaders: (_s, _e, state) => void states.push(++state.n),
    onResponseHeaders: (_s, _e, state) => void states.push(++state.n),
    onEnd: (_s, state) => void states.push(++state.n),
  }
  drive({ filters: [undefined, filter as unknown as Filter] }).upstream.respond(200)
  drive({ filters: [filter as unknown as Filter] }).clientGone()
  t.same(states, [1, 2, 3, 1, 2])
})

t.test('a filter whose state cannot be made takes no part, and neither do those behind it', async (t) => {
  const trace: string[] = []
  const failing: Filter = {
    ...tracing('bad', trace),
    createState() {
      throw new Error('no state')
    },
  }
  const driven = drive({ filters: [tracing('a', trace), failing, tracing('c', trace)], names: ['a', 'bad', 'c'] })
  t.equal(driven.downstream.status, 500)
  t.same(driven.errors, ['bad: no state'])
  t.same(trace, ['a.responseHeaders false', 'a.responseData Internal Server Error true', 'a.end'])
})

t.test('refreshRoute changes the filters that are still to come, and no others', async (t) => {
  const trace: string[] = []
  const upstream = new FakeUpstream()
  const other = new FakeUpstream()
  const renewing: Filter = { ...tracing('first', trace), onRequestHeaders: (stream) => stream.refreshRoute() }
  const plan = compileChain(
    [tracing('first2', trace), tracing('middle2', trace), tracing('on2', trace), undefined],
    ['f', 'm', 'o', 'l'],
    other,
  )
  const route = { ...ROUTE, name: 'second' }
  const driven = drive({
    filters: [renewing, tracing('middle', trace), undefined, tracing('last', trace)],
    upstream,
    reroute: () => ({ route, plan }),
    end: false,
  })
  driven.send('x', true)
  t.equal(upstream.begun, 0)
  t.equal(other.begun, 1)
  t.equal(driven.exchange.route?.name, 'second')
  driven.exchange.upstreamHeaders(200, new Headers(), true)
  t.same(trace, [
    'middle2.requestHeaders false',
    'last.requestHeaders false',
    'first.requestData x true',
    'middle2.requestData x true',
    'last.requestData x true',
    'last.responseHeaders true',
    'middle2.responseHeaders true',
    'first.responseHeaders true',
    'first.end',
    'middle2.end',
    'last.end',
  ])
  t.same(driven.errors, [])
})

t.test('refreshRoute after a pause keeps data that waits in order, and does nothing once forwarded', async (t) => {
  const held = gate()
  const trace: string[] = []
  let routed = 0
  const renewing: Filter = {
    onRequestHeaders: (stream) => held.promise.then(() => stream.refreshRoute()),
    onResponseHeaders: (stream) => stream.refreshRoute(),
  }
  const upstream = new FakeUpstream()
  const plan = compileChain([renewing, tracing('new', trace)], ['a', 'b'], upstream)
  const driven = drive({
    filters: [renewing, tracing('old', trace)],
    upstream,
    end: false,
    reroute: () => {
      routed++
      return { route: ROUTE, plan }
    },
  })
  driven.send('1')
  driven.send('2', true)
  await held.open()
  t.equal(upstream.body, '12')
  upstream.respond(200)
  t.equal(routed, 1)
  t.same(trace.slice(0, 3), ['new.requestHeaders false', 'new.requestData 1 false', 'new.requestData 2 true'])
})

t.test('an upstream that fails is a local reply before headers and a broken-off response after them', async (t) => {
  const before = drive({ filters: [] })
  before.exchange.upstreamFailed(FAILURES.connectFailed, 'ECONNREFUSED')
  t.equal(before.downstream.status, 503)
  t.match(before.downstream.body, /reset reason: remote connection failure$/)
  t.equal(
    before.exchange.info.details,
    'upstream_reset_before_response_started{remote_connection_failure|ECONNREFUSED}',
  )
  t.equal(before.ends(), 1)
  const after = drive({ filters: [] })
  after.exchange.upstreamHeaders(200, new Headers(), false)
  after.exchange.upstreamFailed(FAILURES.upstreamClosed)
  t.equal(after.downstream.resetWith, FAILURES.upstreamClosed)
  t.notOk(after.downstream.ended)
  t.equal(after.exchange.info.details, 'upstream_reset_after_response_started{connection_termination}')
  t.equal(after.ends(), 1)
  after.exchange.upstreamFailed(FAILURES.upstreamClosed)
  after.clientGone()
  t.equal(after.ends(), 1)
})

t.test('a terminal that throws is answered with 500; one that ends while it begins is cancelled', async (t) => {
  const throwing = new FakeUpstream()
  throwing.onBegin = () => {
    throw new Error('no way out')
  }
  const thrown = drive({ filters: [], upstream: throwing })
  t.equal(thrown.downstream.status, 500)
  t.same(thrown.errors, ['terminal: no way out'])

  const failing: Filter = {
    onResponseHeaders() {
      throw new Error('hook')
    },
  }
  const hasty = new FakeUpstream()
  hasty.onBegin = () => hasty.exchange?.upstreamHeaders(200, new Headers(), false)
  const driven = drive({ filters: [failing], upstream: hasty, end: false })
  t.equal(driven.downstream.status, 500)
  t.equal(hasty.cancelled, 1)
  driven.send('x', true)
  t.equal(hasty.body, '', 'nothing more is sent to it')
})

t.test('an early answer of the upstream ends the exchange and cancels what is left of the request', async (t) => {
  const driven = drive({ filters: [], end: false })
  driven.send('part')
  driven.upstream.respond(200, [], 'early')
  t.ok(driven.downstream.ended)
  t.equal(driven.ends(), 1)
  driven.send('rest', true)
  t.equal(driven.upstream.body, 'part')
})

t.test('what an onEnd hook throws is logged and keeps no other from ending', async (t) => {
  const trace: string[] = []
  const failing: Filter = {
    onEnd() {
      throw new Error('in the end')
    },
  }
  const driven = drive({ filters: [failing, tracing('b', trace)] })
  driven.upstream.respond(200)
  t.same(driven.errors, ['f0: in the end'])
  t.ok(trace.includes('b.end'))
  t.equal(driven.ends(), 1)
})

t.test('metadata merges by key, filter state keeps objects, and chance is drawn once', async (t) => {
  const driven = drive({ filters: [], random: 0.25 })
  const { metadata, filterState } = driven.exchange
  metadata.merge('n', { a: 1, b: 1 })
  metadata.merge('n', { b: 2 })
  t.same(metadata.get('n'), { a: 1, b: 2 })
  metadata.merge('n', [1])
  t.same(metadata.get('n'), [1])
  const object = {}
  filterState.set('k', object)
  t.equal(driven.exchange.filterState.get('k'), object)
  t.same([driven.exchange.random, driven.exchange.random], [0.25, 0.25])
})

t.test(
  'below the metadata and state of an exchange lie those of its connection, which it does not change',
  async (t) => {
    const { exchange } = drive({ filters: [] })
    const { state } = exchange.connection
    state.mergeMetadata('n', { a: 1, b: 1 })
    state.setObject('k', 'connection')
    t.same(exchange.metadata.get('n'), { a: 1, b: 1 })
    t.equal(exchange.filterState.get('k'), 'connection')
    state.mergeMetadata('gone', 1)
    exchange.metadata.merge('gone', null)
    t.equal(exchange.metadata.get('gone'), null, 'null is a value')
    exchange.metadata.merge('n', { b: 2 })
    exchange.filterState.set('k', 'stream')
    t.same(exchange.metadata.get('n'), { a: 1, b: 2 })
    t.equal(exchange.filterState.get('k'), 'stream')
    exchange.filterState.set('k', undefined)
    t.equal(exchange.filterState.get('k'), undefined)
    t.same([state.metadata('n'), state.object('k')], [{ a: 1, b: 1 }, 'connection'])
  },
)
