import type { Leases } from '../../lib/core/lease.ts'
import { LeaseLedger } from '../../lib/runtime/lease-ledger.ts'
import { WorkerLeases } from '../../lib/runtime/worker-leases.ts'
import { settle, type TestClock } from '../support/clock.ts'

/** The leases of so many workers and the control process between them; messages take a turn of the loop. */
export async function workerLeases(seats: number, clock: TestClock): Promise<Leases[]> {
  const workers: WorkerLeases[] = []
  const ledger = new LeaseLedger({
    clock,
    seats,
    restarted: false,
    send: (worker, grants) => void setImmediate(() => workers[worker].receive(structuredClone(grants))),
  })
  for (let worker = 0; worker < seats; worker++) {
    const leases = new WorkerLeases({
      clock,
      seats,
      send: (notes) => void setImmediate(() => ledger.receive(worker, structuredClone(notes))),
    })
    workers.push(leases)
    ledger.up(worker)
    leases.greeted()
  }
  await settle(5)
  return workers
}
