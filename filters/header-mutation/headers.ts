import type { HttpStream } from '../../lib/chain/filter.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { compileString } from '../../lib/match/string.ts'
import { compileFormat } from '../../lib/telemetry/format.ts'
import { compileHeaderEdits } from '../../lib/telemetry/header-edits.ts'
import type { HeaderStep } from './config.ts'

/** One step on headers or trailers; values are evaluated over the exchange as it stands. */
export type HeaderEdit = (headers: Headers, stream: HttpStream) => void

/** Compiles one step. @throws Error for a pattern or a format that is not valid; parsing finds both before. */
export function compileHeaderStep(step: HeaderStep): HeaderEdit {
  switch (step.kind) {
    case 'remove': {
      const { name } = step
      return (headers) => headers.delete(name)
    }
    case 'remove-on-match': {
      const matches = compileString(step.name)
      return (headers) => headers.deleteWhere((name) => matches(name))
    }
    case 'append':
      return compileHeaderEdits([{ remove: [], add: [step.header] }], compileValue) ?? nothing
  }
}

/** Header values: what an operator finds nothing for is the empty string. */
function compileValue(text: string, missing: string): (stream: HttpStream) => string {
  return compileFormat(text, { missing })
}

function nothing(): void {}
