import type { HttpStream } from '../../lib/chain/filter.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { compileString } from '../../lib/match/string.ts'
import type { HeaderValueConfig } from '../../lib/router/config.ts'
import { compileFormat } from '../../lib/telemetry/format.ts'
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
      return compileAppend(step.header)
  }
}

function compileAppend(config: HeaderValueConfig): HeaderEdit {
  const { name, action, keepEmpty } = config
  const format = compileFormat(config.value, { missing: '' })
  return (headers, stream) => {
    const value = format(stream)
    if (value === '' && keepEmpty !== true) return
    switch (action) {
      case 'append':
        headers.append(name, value)
        return
      case 'add-if-absent':
        if (!headers.has(name)) headers.append(name, value)
        return
      case 'overwrite-or-add':
        headers.set(name, value)
        return
      case 'overwrite-if-exists':
        if (headers.has(name)) headers.set(name, value)
    }
  }
}
