import { isPending, checkTls as problemsOf } from '../../tls/check.ts'
import type { DownstreamTlsConfig, UpstreamTlsConfig } from '../../tls/config.ts'
import { stepsOf } from '../place.ts'
import type { Spot } from './spot.ts'

/** TLS on either side: certificates, keys, authorities, and names of ciphers and groups. */
export function checkTls(tls: DownstreamTlsConfig | UpstreamTlsConfig, spot: Spot): void {
  for (const { path, message } of problemsOf(tls)) below(spot, tls, path).error(message)
  if (!('sni' in tls) || !tls.autoSanValidation || isPending(tls)) return
  const { validation, sni, autoSni } = tls
  if (sni === '' && autoSni === 'none') spot.field('autoSanValidation').error('needs sni or autoSni')
  if (validation?.trustedCa !== undefined || validation?.systemRoots === true) return
  spot.field('autoSanValidation').error('needs a validation with authorities')
}

/** The spot of a part by its path from a whole. */
function below(spot: Spot, whole: object, path: string): Spot {
  let value: unknown = whole
  let at = spot
  for (const step of stepsOf(path)) {
    value = (value as { [step: string | number]: unknown } | undefined)?.[step]
    const part = typeof value === 'object' && value !== null ? value : undefined
    at = typeof step === 'number' ? at.item(step, part) : at.field(step, part)
  }
  return at
}
