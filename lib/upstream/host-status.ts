import type { HostRates, HostStatus } from '../core/status.ts'
import type { Host } from './host.ts'

/** What `/clusters` shows of a host. */
export function hostStatus(host: Host, rates: HostRates | undefined): HostStatus {
  return {
    address: host.addressText,
    hostname: host.hostname,
    weight: host.weight,
    priority: host.priority,
    region: host.locality?.region ?? '',
    zone: host.locality?.zone ?? '',
    subZone: host.locality?.subZone ?? '',
    health: host.healthFlags(),
    ...(rates && { rates }),
    stats: {
      cx_active: host.cxActive,
      cx_connect_fail: host.cxConnectFail,
      cx_total: host.cxTotal,
      rq_active: host.rqActive,
      rq_error: host.rqError,
      rq_success: host.rqSuccess,
      rq_timeout: host.rqTimeout,
      rq_total: host.rqTotal,
    },
  }
}
