import type { RequestCase } from './case.ts'
import { requestConnectionCases } from './request-connection.ts'
import { requestFieldCases } from './request-fields.ts'
import { requestFramingCases } from './request-framing.ts'
import { requestLineCases } from './request-line.ts'

/** Every request row of edge-safety §3.3. */
export const requestCases: readonly RequestCase[] = [
  ...requestLineCases,
  ...requestFieldCases,
  ...requestFramingCases,
  ...requestConnectionCases,
]
