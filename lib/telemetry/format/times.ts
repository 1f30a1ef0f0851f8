import type { StreamInfo } from '../../core/stream-info.ts'
import { type Command, type CommandContext, type LogStream, plainCommand, type Read } from './operator.ts'
import { compileTime } from './time.ts'

const DEFAULT_TIME = '%Y-%m-%dT%H:%M:%E3SZ'
const DEFAULT_LOCAL_TIME = '%Y-%m-%dT%H:%M:%E3S%Ez'

/** Moments of an exchange by Envoy's names; 0 where it has not happened. */
const TIME_POINTS: Readonly<Record<string, (info: StreamInfo) => number>> = Object.freeze({
  DS_RX_BEG: (info: StreamInfo) => info.startMs,
  DS_RX_END: (info: StreamInfo) => info.requestEndMs,
  US_TX_BEG: (info: StreamInfo) => info.upstreamFirstSentMs,
  US_TX_END: (info: StreamInfo) => info.upstreamLastSentMs,
  US_RX_BEG: (info: StreamInfo) => info.upstreamFirstReceivedMs,
  US_RX_END: (info: StreamInfo) => info.upstreamLastReceivedMs,
  DS_TX_BEG: (info: StreamInfo) => info.downstreamFirstSentMs,
  DS_TX_END: (info: StreamInfo) => info.downstreamLastSentMs,
})

/** Envoy's moments that this proxy does not record. */
const UNRECORDED: readonly string[] = Object.freeze([
  'US_CX_BEG',
  'US_CX_END',
  'US_HS_END',
  'US_RX_BODY_BEG',
  'DS_CX_BEG',
  'DS_CX_END',
])

const PRECISIONS: Readonly<Record<string, number>> = Object.freeze({ ms: 1, us: 1e3, ns: 1e6 })

/** Dates and durations. */
export const TIME_COMMANDS: readonly Command[] = Object.freeze([
  dateCommand('START_TIME', 'when the request began, UTC', 'utc', startOf),
  dateCommand('START_TIME_LOCAL', 'when the request began, in local time', 'local', startOf),
  dateCommand('EMIT_TIME', 'when the line is written, UTC', 'utc', nowOf),
  dateCommand('EMIT_TIME_LOCAL', 'when the line is written, in local time', 'local', nowOf),
  {
    name: 'DURATION',
    argument: '',
    needs: 'nothing',
    length: 'refused',
    origin: 'plain',
    meaning: 'ms from the start of the request to the last byte sent; until then, to now',
    compile: (_, { environment }: CommandContext) => {
      const { clock } = environment
      return ({ info }: LogStream) => Math.floor((info.endMs === 0 ? clock.now() : info.endMs) - info.startMs)
    },
  } satisfies Command,
  plainCommand('REQUEST_DURATION', 'ms from the start to the last byte of the request received', ({ info }) =>
    between(info.startMs, info.requestEndMs),
  ),
  plainCommand('REQUEST_TX_DURATION', 'ms from the start to the last byte of the request sent upstream', ({ info }) =>
    between(info.startMs, info.upstreamLastSentMs),
  ),
  plainCommand('RESPONSE_DURATION', 'ms from the start to the first byte received from upstream', ({ info }) =>
    between(info.startMs, info.upstreamFirstReceivedMs),
  ),
  plainCommand('RESPONSE_TX_DURATION', 'ms from the first byte of upstream to the last byte sent', ({ info }) =>
    between(info.upstreamFirstReceivedMs, info.downstreamLastSentMs),
  ),
  {
    name: 'COMMON_DURATION',
    argument: '(START:END:PRECISION)',
    needs: 'argument',
    length: 'refused',
    origin: 'plain',
    meaning:
      'time between two of DS_RX_BEG, DS_RX_END, US_TX_BEG, US_TX_END, US_RX_BEG, US_RX_END, DS_TX_BEG, DS_TX_END, ' +
      'in ms (default), us or ns; other points have no value',
    compile: commonDuration,
  },
] satisfies Command[])

function dateCommand(
  name: string,
  meaning: string,
  zone: 'utc' | 'local',
  wallOf: (context: CommandContext) => (stream: LogStream) => number,
): Command {
  return {
    name,
    argument: '(FORMAT)',
    needs: 'optional',
    length: 'refused',
    origin: 'text',
    meaning: `${meaning}; strftime format with %s, %f and %1f to %9f`,
    compile: (argument, context) => {
      const format = argument || (zone === 'utc' ? DEFAULT_TIME : DEFAULT_LOCAL_TIME)
      const render = compileTime(format, zone, (message) => context.fail(message))
      const wall = wallOf(context)
      return (stream) => render(wall(stream))
    },
  }
}

function startOf(): (stream: LogStream) => number {
  return (stream) => stream.info.startWallMs
}

function nowOf({ environment }: CommandContext): (stream: LogStream) => number {
  return () => environment.clock.wall()
}

function between(startMs: number, endMs: number): number | undefined {
  return startMs === 0 || endMs === 0 ? undefined : Math.floor(endMs - startMs)
}

function commonDuration(argument: string | undefined, context: CommandContext): Read {
  const parts = (argument ?? '').split(':')
  if (parts.length < 2 || parts.length > 3) context.fail('expects START:END or START:END:PRECISION')
  const [start, end, precision = 'ms'] = parts
  if (!Object.hasOwn(PRECISIONS, precision)) context.fail(`unknown precision "${precision}": ms, us or ns`)
  for (const point of [start, end]) {
    if (point === '') context.fail('expects START:END or START:END:PRECISION')
    if (Object.hasOwn(TIME_POINTS, point)) continue
    // Other names are moments that extensions may set in Envoy: valid, and never set here.
    if (UNRECORDED.includes(point) || /^\w+$/.test(point)) context.absent()
    else context.fail(`unknown time point "${point}"`)
  }
  if (!Object.hasOwn(TIME_POINTS, start) || !Object.hasOwn(TIME_POINTS, end)) return () => undefined
  const from = TIME_POINTS[start]
  const to = TIME_POINTS[end]
  const perMs = PRECISIONS[precision]
  return ({ info }) => {
    const startMs = from(info)
    const endMs = to(info)
    return startMs === 0 || endMs === 0 ? undefined : Math.floor((endMs - startMs) * perMs)
  }
}
