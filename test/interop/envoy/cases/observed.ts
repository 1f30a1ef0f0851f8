import { type Group, get, post, to } from '../group.ts'

/** Traffic whose statistics and admin answers are compared afterwards. */
export const observed: readonly Group[] = [
  {
    name: 'ingress',
    hcm: { use_remote_address: true },
    routes: [
      { match: { prefix: '/direct' }, direct_response: { status: 200 } },
      { match: { prefix: '/redirect' }, redirect: { path_redirect: '/x' } },
      to({ prefix: '/closed' }, { cluster: 'closed' }),
      to({ prefix: '/empty' }, { cluster: 'empty' }),
      to({ prefix: '/nobody' }, { cluster: 'nobody' }),
      to({ prefix: '/timeout' }, { timeout: '0.1s' }),
      to({ prefix: '/found' }),
    ],
    probes: [
      get('/found'),
      get('/found/again'),
      post('/found', 'body'),
      get('/found', 'x-script: status=404'),
      get('/found', 'x-script: status=503'),
      get('/found', 'x-script: status=302'),
      get('/direct'),
      get('/redirect'),
      get('/closed'),
      get('/empty'),
      get('/nobody'),
      get('/none'),
      get('/timeout', 'x-script: stall'),
    ],
  },
]
