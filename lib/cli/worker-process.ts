import { createFilterRegistry } from '../chain/registry.ts'
import { systemClock } from '../core/clock.ts'
import { BufferGarbage, type Collect } from '../runtime/buffer-garbage.ts'
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import { runWorker } from '../runtime/worker.ts'
import { createLog } from '../telemetry/log.ts'
import { createEngine } from './engine.ts'
import { fromSettings } from './settings.ts'
import { lowerFilters, standardFilters } from './standard-filters.ts'

/** V8's, under `--expose-gc`. */
declare const gc: Collect | undefined

// The entry module of a worker process: forked by the supervisor, never imported.

ignoreBrokenPipes(process)
runWorker({
  process,
  clock: systemClock,
  create({ binder, serving, worker, demand, ticketSecret, settings }) {
    // Lives as long as the process.
    new BufferGarbage(typeof gc === 'function' ? gc : undefined)
    process.title = `headgate: worker ${worker}`
    const log = createLog({ level: fromSettings(settings).logLevel })
    process.on('exit', () => log.flush())
    const registry = createFilterRegistry(standardFilters())
    const parts = { registry, filters: lowerFilters(), binder, serving, demand, ticketSecret, log }
    return { engine: createEngine({ ...parts, clock: systemClock, random: Math.random }), log }
  },
})
