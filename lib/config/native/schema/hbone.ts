import { z } from 'zod'
import type { NativeAddress } from '../clusters.ts'
import type {
  NativeHbone,
  NativeHboneGateway,
  NativeHboneServer,
  NativeHboneTarget,
  NativeMeshIdentity,
} from '../hbone.ts'
import { cidr } from './matches.ts'
import { choose, dictionary, name, object, oneOf, port, text } from './pieces.ts'
import { certificate, pem } from './tls.ts'

function identity(): z.ZodType<NativeMeshIdentity> {
  const own = object<Exclude<NativeMeshIdentity, string>>({ certificate: certificate(), trustedCa: pem() })
  const workload = z.literal('workload')
  return choose('"workload", or an object with certificate and trustedCa', (value) =>
    typeof value === 'string' ? workload : value === undefined ? undefined : own,
  )
}

function target(): z.ZodType<NativeHboneTarget> {
  return oneOf(
    object<NativeHboneTarget>({
      hosts: z.array(name()).optional(),
      ranges: z.array(cidr()).optional(),
      ports: z.array(port()).optional(),
      listener: name().optional(),
      cluster: name().optional(),
      forbidden: z.literal(true).optional(),
    }),
    ['listener', 'cluster', 'forbidden'],
  )
}

export function hboneServer(address: z.ZodType<NativeAddress>): z.ZodType<NativeHboneServer> {
  return object<NativeHboneServer>({
    name: name().optional(),
    address,
    identity: identity(),
    trustDomains: z.array(name()).min(1),
    targets: z.array(target()).min(1),
  })
}

export function hbone(address: z.ZodType<NativeAddress>): z.ZodType<NativeHbone> {
  const identities = z.array(name()).min(1)
  return object<NativeHbone>({
    identity: identity(),
    identities,
    port: port().optional(),
    proxy: address.optional(),
    authority: z.enum(['address', 'hostname']).optional(),
    headers: dictionary(text()).optional(),
    gateway: object<NativeHboneGateway>({ address, identities }).optional(),
  })
}
