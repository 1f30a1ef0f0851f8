import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * A path for a Unix socket that is short enough whatever folder the checkout lies in: the kernel takes 107 bytes.
 * Its folder goes when the test ends.
 */
export function socketPath(t: { teardown(run: () => void): void }, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'hg-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, name)
}
