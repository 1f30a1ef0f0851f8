import { flagBit, RESPONSE_FLAGS, type ResponseFlag } from '../../core/failure.ts'
import { didYouMean } from '../../proto/suggest.ts'
import type { AccessLogConfig, AccessLogFilterConfig } from '../../telemetry/config.ts'
import { checkFraction, checkHeaderMatch, checkMetadataMatch } from './matchers.ts'
import type { Spot } from './spot.ts'
import { checkFormatConfig } from './texts.ts'

const MAX_GRPC_STATUS = 16

export function checkAccessLog(log: AccessLogConfig, spot: Spot): void {
  if (log.sink.kind === 'file' && log.sink.path === '') spot.field('sink').error('the path of the file is empty')
  checkFormatConfig(log.format, spot.field('format', log.format))
  if (log.filter !== undefined) checkLogFilter(log.filter, spot.field('filter', log.filter))
}

export function checkLogFilter(filter: AccessLogFilterConfig, spot: Spot): void {
  switch (filter.kind) {
    case 'and':
    case 'or':
      spot.each('filters', filter.filters, checkLogFilter)
      break
    case 'header':
      checkHeaderMatch(filter.header, spot.field('header', filter.header))
      break
    case 'metadata':
      checkMetadataMatch(filter.matcher, spot.field('matcher', filter.matcher))
      break
    case 'runtime':
      checkFraction(filter.fraction, spot.field('fraction', filter.fraction))
      break
    case 'response-flag':
      spot.each('flags', filter.flags, (flag, at) => {
        if (!isFlag(flag)) at.error(`unknown response flag "${flag}"${didYouMean(flag, Object.keys(RESPONSE_FLAGS))}`)
      })
      break
    case 'grpc-status':
      spot.each('statuses', filter.statuses, (status, at) => {
        if (status > MAX_GRPC_STATUS) at.error(`${status} is not a gRPC status`)
      })
      break
  }
}

function isFlag(flag: string): flag is ResponseFlag {
  return Object.hasOwn(RESPONSE_FLAGS, flag) && flagBit(flag as ResponseFlag) > 0
}
