import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { FractionConfig } from '../../lib/match/config.ts'

const DENOMINATORS: Readonly<Record<string, FractionConfig['denominator']>> = {
  HUNDRED: 100,
  TEN_THOUSAND: 10_000,
  MILLION: 1_000_000,
}

/** `type.v3.FractionalPercent`; unset is 0 of 100. */
export function translateFraction(reader: FieldReader | undefined, runtimeKey = ''): FractionConfig {
  const numerator = reader?.number('numerator') ?? 0
  const denominator = DENOMINATORS[reader?.enumName('denominator') ?? 'HUNDRED'] ?? 100
  return runtimeKey === '' ? { numerator, denominator } : { numerator, denominator, runtimeKey }
}

/** `config.core.v3.RuntimeFractionalPercent` */
export function translateRuntimeFraction(reader: FieldReader): FractionConfig {
  return translateFraction(reader.message('default_value'), reader.string('runtime_key'))
}
