import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import type { RunOptions } from '../lib/cli/run.ts'
import { runCommand } from '../lib/cli/run-command.ts'
import { EXAMPLES } from './support/examples.ts'

/** What the manifests and the Containerfile of `examples/kubernetes` say, as far as the gateway has a part in it. */
export interface KubernetesExample {
  /** The bootstrap of the ConfigMap. */
  readonly config: string
  /** Of the container, as the command line understands them. */
  readonly options: RunOptions
  readonly pod: PodSpec
  readonly container: Container
  /** Words of the image's ENTRYPOINT. */
  readonly entrypoint: readonly string[]
  /** Where the link on the path leads, within the package. */
  readonly program: string
  readonly user: string
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
}

interface Container {
  readonly args: readonly string[]
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly startupProbe: Probe
  readonly readinessProbe: Probe
  readonly livenessProbe: Probe
  readonly lifecycle: { readonly preStop: { readonly sleep: { readonly seconds: number } } }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly subPath?: string }[]
}

interface PodSpec {
  readonly terminationGracePeriodSeconds: number
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly containers: readonly Container[]
}

interface Manifest {
  readonly kind: string
  readonly data: Readonly<Record<string, string>>
  readonly spec: { readonly template: { readonly spec: PodSpec } }
}

/** Reads it all; fails where something is not of the expected form. */
export async function readKubernetesExample(t: Test): Promise<KubernetesExample> {
  const folder = join(EXAMPLES, 'kubernetes')
  const documents = parseAllDocuments(readFileSync(join(folder, 'headgate.yaml'), 'utf8'))
  for (const document of documents) t.same(document.errors, [])
  const manifests = documents.map((document) => document.toJS() as Manifest)
  t.same(
    manifests.map(({ kind }) => kind),
    ['ConfigMap', 'Deployment', 'Service'],
  )
  const pod = manifests[1].spec.template.spec
  const [container] = pod.containers
  const file = readFileSync(join(folder, 'Containerfile'), 'utf8')
  const found = (pattern: RegExp): string => pattern.exec(file)?.[1] ?? ''
  return {
    config: manifests[0].data['config.yaml'],
    options: await optionsOf(container.args),
    pod,
    container,
    entrypoint: JSON.parse(found(/^ENTRYPOINT (.*)$/m)) as string[],
    program: found(/node_modules\/headgate\/(\S+) \/usr\/local\/bin\/headgate$/m),
    user: found(/^USER (.*)$/m),
  }
}

/** Throws where the command line does not know a flag. */
async function optionsOf(args: readonly string[]): Promise<RunOptions> {
  const wishes: RunOptions[] = []
  const command = runCommand(false, async (wish) => {
    if (wish.kind === 'run') wishes.push(wish.options)
  })
  await command.exitOverride().parseAsync(args, { from: 'user' })
  return wishes[0]
}
