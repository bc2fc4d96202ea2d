// A real OpenID Connect provider on this machine: node provider.mjs LIBRARY PORT CALLBACK
// Who signs in there is whoever the form says; what each is told to be stands below.
import { generateKeyPairSync } from 'node:crypto';

const [library, port, callback] = process.argv.slice(2);
const { default: Provider } = await import(library);

const groups = { anna: ['staff', 'dr-admins'], bert: ['dr-viewers'], carla: ['staff'] };
const key = (kid, alg, kind, options) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig',
});
const algorithms = ['RS256', 'ES256', 'EdDSA'];

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: algorithms.map((alg) => ({
    client_id: `strongroom ${alg}`,
    client_secret: 'planted: secret of the client & more',
    redirect_uris: [callback],
    response_types: ['code'],
    grant_types: ['authorization_code'],
    id_token_signed_response_alg: alg,
  })),
  jwks: {
    keys: [
      key('r', 'RS256', 'rsa', { modulusLength: 2048 }),
      key('p', 'ES256', 'ec', { namedCurve: 'P-256' }),
      key('e', 'EdDSA', 'ed25519', {}),
    ],
  },
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['a test'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: async () => ({ sub: `account of ${id}`.replaceAll(' ', '-'), preferred_username: id, groups: groups[id] }),
  }),
  features: { devInteractions: { enabled: true } },
});
provider.listen(Number(port), '127.0.0.1');
