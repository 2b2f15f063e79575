// Which hosts and origins are served: a page elsewhere must not reach a server on loopback by a name of its own.

import { hostHeaderValidation, originValidation } from '@modelcontextprotocol/node';

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

export function guard(names) {
  const hosts = hostHeaderValidation([...LOOPBACK, ...names]);
  const origins = originValidation([...LOOPBACK, ...names]);
  return (request, response) => hosts(request, response) && origins(request, response);
}
