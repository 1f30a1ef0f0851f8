import type { SlotLease, SlotObserver } from '../../lib/core/lease.ts'

/** A lease as another one: tests change what differs. */
export class RelayedLease implements SlotLease {
  protected readonly lease: SlotLease

  constructor(lease: SlotLease) {
    this.lease = lease
  }

  acquire(): boolean | Promise<boolean> {
    return this.lease.acquire()
  }

  tryAcquire(): boolean {
    return this.lease.tryAcquire()
  }

  ask(): Promise<void> | undefined {
    return this.lease.ask()
  }

  get ready(): boolean {
    return this.lease.ready
  }

  want(): void {
    this.lease.want()
  }

  force(): void {
    this.lease.force()
  }

  release(): void {
    this.lease.release()
  }

  get active(): number {
    return this.lease.active
  }

  get remaining(): number {
    return this.lease.remaining
  }

  get share(): number {
    return this.lease.share
  }

  get limit(): number {
    return this.lease.limit
  }

  get used(): number {
    return this.lease.used
  }

  get observer(): SlotObserver | undefined {
    return this.lease.observer
  }

  set observer(observer: SlotObserver | undefined) {
    this.lease.observer = observer
  }

  [Symbol.dispose](): void {
    this.lease[Symbol.dispose]()
  }
}
