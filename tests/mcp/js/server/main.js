// An MCP server of every protocol era, for tests: /mcp speaks streamable HTTP (2025-03-26 to 2026-07-28), /sse and
// /messages the transport of 2024-11-05. Bundled into one file, it needs nothing but node.

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createBus } from './bus.js';
import { guard } from './guard.js';
import { createModernHandler } from './modern.js';
import { createServerFactory } from './features.js';
import { createEventStreams } from './event_streams.js';
import { createSessions } from './sessions.js';
import { createRouter } from './router.js';

const HELP = `Usage: node server [options]      (each option can be given as an environment variable)
  --listen ADDRESS:PORT   MCP_LISTEN       where to serve, default 127.0.0.1:3000
  --name NAME             MCP_NAME         what the tools of this server call it, default its address
  --redis URL             MCP_REDIS        shares change events of 2026-07-28 between servers
  --state-key TEXT        MCP_STATE_KEY    signs requestState, 32 bytes or more, the same for all servers
  --allow-host NAME,…     MCP_ALLOW_HOST   host names to answer to, beside those of loopback
`;

const OPTIONS = {
  listen: { type: 'string', default: process.env.MCP_LISTEN ?? '127.0.0.1:3000' },
  name: { type: 'string', default: process.env.MCP_NAME },
  redis: { type: 'string', default: process.env.MCP_REDIS },
  'state-key': { type: 'string', default: process.env.MCP_STATE_KEY },
  'allow-host': { type: 'string', default: process.env.MCP_ALLOW_HOST ?? '' },
  help: { type: 'boolean', default: false },
};

async function main() {
  const { values: options } = parseArgs({ options: OPTIONS });
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  const [, host, port] = /^(.+):(\d+)$/.exec(options.listen) ?? fail(`--listen ${options.listen}: write ADDRESS:PORT`);

  const bus = await createBus(options.redis);
  const newServer = createServerFactory({ name: options.name ?? options.listen, stateKey: options['state-key'], bus });
  const sessions = createSessions(newServer);
  const eventStreams = createEventStreams(newServer);
  const modern = createModernHandler(newServer, bus);
  const mcp = toNodeHandler({ fetch: createRouter(modern, sessions) }, { onerror: report });
  const allowed = guard(options['allow-host'].split(',').filter(Boolean));

  const http = createServer((request, response) => {
    if (!allowed(request, response)) return;
    flushHeads(response);
    const { pathname } = new URL(request.url, 'http://any');
    const handle = { '/mcp': mcp, '/sse': eventStreams.open, '/messages': eventStreams.post }[pathname] ?? notFound;
    Promise.resolve(handle(request, response)).catch(report);
  });
  http.listen(Number(port), host.replace(/^\[(.*)\]$/, '$1'), () => console.log(`listening on ${options.listen}`));

  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => process.exit(0));
  }
}

// A stream is open when its head has come; node would keep that back until the first event.
function flushHeads(response) {
  const writeHead = response.writeHead.bind(response);
  response.writeHead = (...head) => {
    writeHead(...head);
    response.flushHeaders();
    return response;
  };
}

function notFound(_request, response) {
  response.writeHead(404).end();
}

function report(error) {
  console.error(error);
}

function fail(message) {
  console.error(message);
  process.exit(2);
}

main().catch(error => fail(error.stack));
