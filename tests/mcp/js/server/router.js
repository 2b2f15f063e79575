// One endpoint for both eras.

import { isLegacyRequest } from '@modelcontextprotocol/server';

export function createRouter(modern, sessions) {
  return async request => ((await isLegacyRequest(request)) ? sessions.handle(request) : modern.fetch(request));
}
